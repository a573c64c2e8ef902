"""sparsegpt: weights left out and rounded together, for the products with real inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.ir import Affine, DType, Encoding, Exactness, Program, Sparse
from edgec.ir.encodings.rows import from_rows, to_rows
from edgec.passes.affine_weights import AffineWeights
from edgec.passes.hessians import hessians
from edgec.passes.masks import leave_tables, odd, smaller, unusable, within, wrong_fit, wrong_rule
from edgec.passes.numerics.gptq import Hessian
from edgec.passes.numerics.grid import Grid, Rounded
from edgec.passes.numerics.sparsegpt import sparsegpt_rounded
from edgec.passes.numerics.sparsity import Pattern, Rule, magnitude
from edgec.passes.weight_pass import Account
from edgec.passes.weights import Weight
from edgec.transform import PassResult


@dataclass(frozen=True)
class SparseGpt(AffineWeights):
    """Leave out weights and store the others as affine codes, both for the layer's outputs on data.

    Given    @w = const f32[N, K] dense                             %y = linear(%x, @w)
    Result   @w = const f32[N, K] sparse(two_four, affine(bits=4))  %y = linear(%x, @w)

    Layer by layer as `gptq`. What no product with data reaches is chosen by magnitude, rounded to
    nearest and reported. A weight that is sparse already keeps its zeros.

    bits, group, symmetric, scales, scale_dtype, embeddings, embedding_group, include, skip,
    min_numel   as in `quantize-weights`
    misfits   as there; K that 4 does not divide, for two_four: left or "fail"
    ratio, pattern, tables, damping
              as in `sparsify-weights`
    among     the weights that compete, of a "row" or of a "tensor"
    refit     steps that fit what is kept before it is rounded; 0: one walk leaves out and rounds
    sweeps    over all scales and codes after rounding, with refit

    Keeps    every node, type and name. Left and reported as by both passes.
    Effect   LOSSY: no row of a weight loses more on the calibration data than by rounding to
             nearest under the same mask
    Source   Frantar and Alistarh 2023, arXiv:2301.00774, algorithm 1 and eq. 7.
    Differs  See `edgec.passes.numerics.sparsegpt`.
    """

    name: ClassVar[str] = "sparsegpt"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    needs_calibration: ClassVar[bool] = True
    ratio: float = 0.5
    pattern: Pattern = "unstructured"
    among: Literal["row", "tensor"] = "tensor"
    refit: int = 20
    sweeps: int = 0
    damping: float = 0.1
    tables: Literal["prune", "leave"] = "prune"

    def wrong_options(self) -> list[str]:
        wrong = super().wrong_options() + wrong_rule(self.ratio, self.pattern)
        wrong += wrong_fit(self.refit, self.damping)
        if self.sweeps < 0 or (self.sweeps and not self.refit):
            wrong.append(f"sweeps={self.sweeps}, need 0, or more with refit")
        if self.outliers:
            wrong.append(f"outliers={self.outliers}, need 0 under a mask")
        return wrong

    def misfit(self, stored: Encoding, weight: Weight) -> str:
        if self.tables == "leave" and weight.is_table:
            return ""
        return self._odd(stored, weight) or super().misfit(stored, weight)

    def _odd(self, stored: Encoding, weight: Weight) -> str:
        return "" if self.too_small(stored.numel) else odd(self.pattern, stored, weight)

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        after = program.copy()
        account = Account(self, after)
        if self.tables == "leave":
            leave_tables(account)
        for name, hessian in hessians(account, context):
            why = unusable(hessian)
            self._store(account, name, None if why else hessian)
            if why and name in account.errors:
                account.notes.append(f"@{name}: {why}; by magnitude, rounded to nearest")
        account.close("sparsified")
        return PassResult(after, bool(account.errors), tuple(account.notes), account.errors)

    def _store(self, account: Account, name: str, hessian: Hessian | None) -> None:
        def encode(stored: Encoding, weight: Weight) -> Encoding | str:
            if wrong := self._odd(stored, weight):
                return wrong
            misfit = self.misfit(stored, weight)
            if misfit and self.misfits == "leave":
                return misfit
            made = self._made(stored, weight, bool(misfit), hessian)
            if misfit and not isinstance(made, str):
                account.notes.append(f"@{name}: {misfit}; one scale per row")
            return made

        account.store(name, encode)

    def _made(
        self, stored: Encoding, weight: Weight, rows: bool, hessian: Hessian | None
    ) -> Encoding | str:
        bits, group = self.layout(weight)
        grid, axis, dense = self.grid(bits, 0 if rows else group), weight.axis, stored.decode()
        before = to_rows(stored.mask, axis) if isinstance(stored, Sparse) else None
        mask, rounded = self._chosen(to_rows(dense.float(), axis), before, grid, hessian)
        codes, scale, zero = rounded
        if not bool(scale.isfinite().all()):
            return f"scales beyond the range of {self.scale_dtype}; need bf16 or f32"
        shape = tuple(dense.shape)
        made = Affine(
            *(from_rows(codes, shape, axis), scale, zero, bits, axis),
            *(grid.group, DType.of(dense.dtype)),
        )
        return smaller(self.pattern, from_rows(mask, shape, axis), made, axis, made)

    def _chosen(
        self, w: Tensor, before: Tensor | None, grid: Grid, hessian: Hessian | None
    ) -> tuple[Tensor, Rounded]:
        """The mask bool[N, K], and what is rounded under it."""
        rule = Rule(self.pattern, self.ratio, self.among)
        if hessian is None:
            mask = within(rule, rule.kept(magnitude(w, before)), before)
            return mask, grid.nearest(w * mask)
        return sparsegpt_rounded(
            w, hessian.matrix, rule, grid, self.damping, self.refit, self.sweeps, before
        )
