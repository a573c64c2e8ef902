"""factorize-weights: a weight as the product of two of lower rank, for the inputs that it gets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.ir import Dense, Encoding, Exactness, Program
from edgec.ir.encodings.rows import from_rows, to_rows
from edgec.passes.factored_products import split_products, unfit
from edgec.passes.hessians import hessians
from edgec.passes.low_rank_weights import LowRankWeights, Spectrum
from edgec.passes.numerics.gptq import Hessian
from edgec.passes.numerics.low_rank import Decomposition, decompose, factors
from edgec.passes.weight_pass import Account
from edgec.passes.weights import Weight, find_weights
from edgec.transform import PassResult

Factors = tuple[Tensor, Tensor]
"""up f32[N, r] and down f32[r, K]."""


@dataclass(frozen=True)
class FactorizeWeights(LowRankWeights):
    """Replace a weight of N rows by N x R and R x K, where that has fewer bytes.

    Given    %y = linear(%x, @w, @b)                   @w = f32[N, K]
    Result   %w_down = linear(%x, @w.down)             @w.down = f32[R, K], @w.up = f32[N, R]
             %y = linear(%w_down, @w.up, @b)

    A convolution becomes one of R channels with the same windows, and one of 1 x 1. Matrices of a
    matmul are treated as those of linear. A weight that every reader multiplies is treated once,
    for all of them.

    rank, error, ratio   one of them: R; the greatest relative error of the weights, or with
                         score=activation of their outputs; bytes of the weights after /
                         before, which is 0.75 without any of the three
    spread    what `ratio` is of: "all" weights together, whose ranks then make the sum of their
              squared relative errors least (some may stay whole); "each" by itself
    score     "plain": what is lost of the weights counts; "activation": of their products with
              calibration data, each with the inputs that it gets from the layers before it
    damping   added to the squares of the inputs, as a part of their mean
    multiple  of which R is, but where `rank` gives it
    misfits   a weight for which the rank saves no bytes: "leave" it as it is, or "fail"
    include, skip, min_numel   as in `quantize-weights`

    Keeps    every other node, and the names of results. Left and reported: weights that something
             else reads, tables that are gathered from, convolutions in groups, recurrent layers,
             compressed weights.
    Effect   LOSSY: no other weight of that rank has a smaller error on the data
    Source   Eckart and Young 1936; `edgec.passes.numerics.low_rank.decompose`.
    Differs  Ranks are chosen over all layers, by what a byte saves.
    """

    name: ClassVar[str] = "factorize-weights"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    score: Literal["plain", "activation"] = "plain"
    damping: float = 0.01

    @property
    def needs_calibration(self) -> bool:  # type: ignore[override]
        return self.score == "activation"

    def wrong_options(self) -> list[str]:
        wrong = super().wrong_options()
        if not 0 <= self.damping < 100:
            wrong.append(f"damping={self.damping}, need 0 <= damping < 100")
        return wrong

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        after = program.copy()
        ranks = self._ranks(program, context) if self.part and self.spread == "all" else None
        account = Account(self, after)
        found: dict[str, Factors] = {}
        for name, hessian in self._each(account, context):
            made = self._factorize(account, name, hessian, ranks)
            found.update({} if made is None else {name: made})
        weights = find_weights(program)
        for name, (up, down) in found.items():
            split_products(after, weights[name], program.constants[name].encoding, up, down)
        account.close("factorized")
        return PassResult(after, bool(found), tuple(account.notes), account.errors)

    # -------------------------------------------------------------- one weight
    def _each(
        self, account: Account, context: Context, note: bool = True
    ) -> Iterator[tuple[str, Hessian | None]]:
        """The weights that can be treated, in the order of execution where data are asked for."""
        for name, weight in list(account.weights.items()):
            if reason := unfit(account.program, weight):
                del account.weights[name]
                small = self.too_small(account.program.constants[name].encoding.numel)
                account.notes += [] if small else [f"@{name}: {reason}; left as it is"]
        if self.score == "plain":
            yield from ((name, None) for name in list(account.weights))
            return
        for name, hessian in hessians(account, context):
            usable = hessian is not None and hessian.is_finite
            if not usable and note:
                why = "inputs with infinite squares" if hessian else "no calibration data meet it"
                account.notes.append(f"@{name}: {why}; plain score")
            yield name, hessian if usable else None

    def _decompose(self, w: Tensor, hessian: Hessian | None) -> Decomposition:
        return decompose(w, None if hessian is None else hessian.matrix, self.damping)

    def _factorize(
        self,
        account: Account,
        name: str,
        hessian: Hessian | None,
        ranks: dict[str, int] | None,
    ) -> Factors | None:
        """Store the product of a weight's factors for what follows; None where it has none."""
        made: Factors | None = None

        def encode(stored: Encoding, weight: Weight) -> Encoding | str:
            nonlocal made
            w = to_rows(stored.decode().float(), weight.axis)
            found = self._decompose(w, hessian)
            if ranks is None:
                rank = self.rank_of(Spectrum.of(name, stored, w, found.values))
            else:
                rank = ranks.get(name, "whole is the best use of its bytes")
            if isinstance(rank, str):
                return rank
            made = factors(w, found, rank)
            up, down = (stored.encode(f).decode().float() for f in made)
            dense = stored.decode()
            return Dense(from_rows(up @ down, tuple(dense.shape), weight.axis).to(dense.dtype))

        account.store(name, encode)
        return made

    def _ranks(self, program: Program, context: Context) -> dict[str, int]:
        """Of all weights, by their singular values with the inputs as they are."""
        account = Account(self, program.copy())
        found: list[Spectrum] = []
        for name, hessian in self._each(account, context, note=False):
            weight = account.weights.pop(name)
            stored = program.constants[name].encoding
            w = to_rows(stored.decode().float(), weight.axis)
            if not self.too_small(stored.numel) and bool(w.isfinite().all()):
                found.append(Spectrum.of(name, stored, w, self._decompose(w, hessian).values))
        return self.allocated(found)
