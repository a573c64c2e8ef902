"""sparsify-weights: a mask over weights, and only what it keeps is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.ir import Dense, Encoding, Exactness, Outliers, Program, Sparse
from edgec.ir.encodings.rows import from_rows, to_rows
from edgec.ir.encodings.sparse import elementwise
from edgec.passes.hessians import hessians
from edgec.passes.masks import leave_tables, odd, smaller, unusable, within, wrong_fit, wrong_rule
from edgec.passes.numerics.gptq import Hessian, inverse_factor
from edgec.passes.numerics.least_squares import fitted
from edgec.passes.numerics.sparsegpt import sparsegpt
from edgec.passes.numerics.sparsity import Pattern, Rule, greatest, magnitude, removed, wanda
from edgec.passes.weight_pass import Account, WeightPass, refuse_misfits
from edgec.passes.weights import Weight
from edgec.transform import PassResult


@dataclass(frozen=True)
class SparsifyWeights(WeightPass):
    """Leave out the weights that matter least, and store the others under a mask.

    Given    @w = const f32[N, K] E                      %y = linear(%x, @w)
    Result   @w = const f32[N, K] sparse(two_four, E)    %y = linear(%x, @w)

    E is dense or, with magnitude and wanda, any encoding per element. All weights that
    `quantize-weights` knows; a pass that follows quantizes what is kept, under the mask. With data,
    layer by layer in the order of execution, each with the inputs that it gets from the layers
    before it as they then are. What no product with data reaches (tables that are only gathered,
    convolutions in groups, recurrent layers) goes by magnitude, and is reported.

    score     what matters: "magnitude" |w|; "wanda" |w| ||x||, x the inputs that w is multiplied
              with; "sparsegpt" what leaving w out adds to the loss when all weights that were not
              looked at yet make up for it, which they then do
    ratio     part that is left out, 0 < ratio < 1
    pattern   "unstructured"; "two_four": two of every four neighbours in a row, ratio=0.5
    among     the weights that compete: of a "row", of a "tensor", or of the "program" (magnitude);
              "auto": of a row for wanda, else of a tensor
    refit     steps that fit what is kept of each row to the inputs afterwards; 20 are near the
              least squares. With 0, magnitude and wanda keep each weight bit for bit
    damping   of sparsegpt and refit: added to the diagonal of H, as a part of its mean
    tables    "prune" embeddings too, or "leave" them
    misfits   two_four for a K that 4 does not divide: "leave" the weight as it is, or "fail"
    include, skip     patterns of names of constants
    min_numel         smaller weights stay as they are

    Keeps    every node, type and name. Left and reported: misfits, small weights, ones with NaN or
             inf, and those that would take no less bytes: a bit of mask for each weight has to be
             saved first, which takes ratio > 1 / b for values of b bits.
    Effect   LOSSY
    Source   Magnitude: Han et al. 2015, arXiv:1506.02626. Sun et al. 2023, arXiv:2306.11695, eq. 1.
             Frantar and Alistarh 2023, arXiv:2301.00774, algorithm 1. 2:4: Mishra et al. 2021,
             arXiv:2104.08378.
    Differs  refit, of `edgec.passes.numerics.least_squares`; what `numerics.sparsegpt` says.
    """

    name: ClassVar[str] = "sparsify-weights"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    score: Literal["magnitude", "wanda", "sparsegpt"] = "magnitude"
    ratio: float = 0.5
    pattern: Pattern = "unstructured"
    among: Literal["auto", "row", "tensor", "program"] = "auto"
    refit: int = 0
    damping: float = 0.1
    tables: Literal["prune", "leave"] = "prune"
    misfits: Literal["leave", "fail"] = "leave"

    @property
    def needs_calibration(self) -> bool:  # type: ignore[override]
        return self.score != "magnitude" or self.refit > 0

    def wrong_options(self) -> list[str]:
        wrong = super().wrong_options() + wrong_rule(self.ratio, self.pattern)
        if self.among == "program" and (self.score, self.pattern) != ("magnitude", "unstructured"):
            got = f"score={self.score} and pattern={self.pattern}"
            wrong.append(f"among=program with {got}, need magnitude and unstructured")
        return wrong + wrong_fit(self.refit, self.damping)

    def takes(self, stored: Encoding) -> bool:
        inner = stored.values if isinstance(stored, Sparse) else stored
        if self.score == "sparsegpt" or self.refit:
            return isinstance(inner, Dense)  # values change
        return not isinstance(inner, Outliers) and not elementwise(inner)

    def requires(self, program: Program) -> None:
        if self.misfits == "fail":
            refuse_misfits(self, program, self.misfit, "set misfits, pattern or skip")

    def misfit(self, stored: Encoding, weight: Weight) -> str:
        """How the pattern does not fit a weight that is to be treated; "" where it does."""
        left = self.tables == "leave" and weight.is_table
        return "" if left or self.too_small(stored.numel) else odd(self.pattern, stored, weight)

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        after = program.copy()
        account = Account(self, after)
        if self.tables == "leave":
            leave_tables(account)
        chosen = self._over_all(account) if self.among == "program" else {}
        for name, hessian in self._weights(account, context):
            why = unusable(hessian) if self.needs_calibration else ""
            self._sparsify(account, name, None if why else hessian, chosen.get(name))
            if why and name in account.errors:
                account.notes.append(f"@{name}: {why}; by magnitude")
        account.close("sparsified")
        return PassResult(after, bool(account.errors), tuple(account.notes), account.errors)

    def _weights(self, account: Account, context: Context) -> Iterator[tuple[str, Hessian | None]]:
        if not self.needs_calibration:
            for i, name in enumerate(names := list(account.weights)):
                context.steps(i, len(names))
                yield name, None
            return
        yield from hessians(account, context)

    def _sparsify(
        self, account: Account, name: str, hessian: Hessian | None, chosen: Tensor | None
    ) -> None:
        def encode(stored: Encoding, weight: Weight) -> Encoding | str:
            if misfit := self.misfit(stored, weight):
                return misfit
            shape, axis = tuple(int(d) for d in stored.type.shape), weight.axis
            before = to_rows(stored.mask, axis) if isinstance(stored, Sparse) else None
            w = to_rows(stored.decode().float(), axis)
            mask, values = self._chosen(w, before, hessian, chosen)
            inner = stored.values if isinstance(stored, Sparse) else stored
            if values is not None:
                inner = inner.encode(from_rows(values, shape, axis))
            return smaller(self.pattern, from_rows(mask, shape, axis), inner, axis, stored)

        account.store(name, encode)

    def _chosen(
        self, w: Tensor, before: Tensor | None, hessian: Hessian | None, chosen: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The mask bool[N, K], and values f32[N, K] where they are not those of w."""
        by_row = self.among == "row" or (self.among == "auto" and self.score == "wanda")
        rule = Rule(self.pattern, self.ratio, "row" if by_row else "tensor")
        if self.score == "sparsegpt" and hessian is not None:
            return sparsegpt(w, hessian.matrix, rule, self.damping, self.refit, before)
        if chosen is not None:
            mask = chosen
        elif self.score == "wanda" and hessian is not None:
            mask = within(rule, rule.kept(wanda(w, hessian.matrix, before)), before)
        else:
            mask = within(rule, rule.kept(magnitude(w, before)), before)
        if not self.refit or hessian is None:
            return mask, None
        damped = inverse_factor(hessian.matrix, self.damping)[0]
        return mask, fitted(w, w * mask, mask, damped, self.refit)

    def _over_all(self, account: Account) -> dict[str, Tensor]:
        """The masks bool[N, K] of all weights that can be treated: they compete with each other."""
        scores: dict[str, Tensor] = {}
        for name, weight in account.weights.items():
            stored = account.program.constants[name].encoding
            w = to_rows(stored.decode().float(), weight.axis)
            if not self.too_small(w.numel()) and bool(w.isfinite().all()):
                before = to_rows(stored.mask, weight.axis) if isinstance(stored, Sparse) else None
                scores[name] = magnitude(w, before)
        if not scores:
            return {}
        flat = torch.cat([s.reshape(-1) for s in scores.values()]).unsqueeze(0)
        kept = greatest(flat, removed(self.ratio, flat.numel())) & (flat >= 0)
        parts = kept.squeeze(0).split([s.numel() for s in scores.values()])
        return {n: m.view_as(s) for (n, s), m in zip(scores.items(), parts, strict=True)}
