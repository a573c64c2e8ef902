"""gptq: weights as integer codes, rounded so that their products with real inputs change least."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.ir import Exactness, Program
from edgec.passes.affine_weights import AffineWeights
from edgec.passes.hessians import Target, hessians
from edgec.passes.lookups import counts, hessians_of_outputs
from edgec.passes.numerics.gptq import Hessian, Order, gptq, gptq_spared, inverse_factor
from edgec.passes.numerics.grid import Grid, Rounded, Spared
from edgec.passes.numerics.outliers import choose
from edgec.passes.weight_pass import Account
from edgec.transform import PassResult

TABLE_DAMPING = 0.1  # at least: an H of outputs is an estimate


@dataclass(frozen=True)
class Gptq(AffineWeights):
    """Store weights as affine codes that keep the layer's outputs on calibration data.

    Given    @w = const f32[N, K] dense                          %y = linear(%x, @w)
    Result   @w = const f32[N, K] affine(bits=4, group=32)       %y = linear(%x, @w)

    Layer by layer in the order of execution, each with the inputs that it gets from the layers that
    have been rounded before. The operands of linear, conv and matmul are treated so; other weights
    (tables that are only gathered, convolutions in groups, recurrent layers, functions without
    calls) are rounded to nearest, and all but the tables are reported. A weight with several uses
    in its function is rounded once, at the first use, for the inputs of them all as they were
    before the pass.

    bits, group, misfits, symmetric, scales, percentile, scale_dtype, embeddings, embedding_group,
    outliers, include, skip, min_numel   as in `quantize-weights`; outliers are those of the
              greatest (w - w')^2 / [H^-1]_ii, in a table times how often its row is looked up
    damping, order, sweeps
              see `edgec.passes.numerics.gptq.gptq`
    target    what a layer is to give with the inputs that it gets: "current" outputs, those of its
              weights before; "original" outputs, those of the program before the pass, which makes
              up for the layers before it and needs more data
    tables    that are only gathered from: "nearest"; "outputs": for the H of what their rows do to
              the program's outputs, which takes two backward passes of all calibration data

    Keeps    every node, type and name; zero exactly. Left and reported as by `quantize-weights`.
    Effect   LOSSY: no row of a weight loses more on the calibration data than by rounding the
             target's weights to nearest
    Source   Frantar et al. 2022, arXiv:2210.17323; "original": Li et al. 2025, arXiv:2504.02692.
             Outliers: Dettmers et al. 2023, arXiv:2306.03078.
    Differs  "original" rounds the weights of least squares, see `numerics.gptq.Hessian`. What
             several functions use is rounded for the first of them with calls.
    """

    name: ClassVar[str] = "gptq"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    needs_calibration: ClassVar[bool] = True
    damping: float = 0.01
    order: Order = "activation"
    sweeps: int = 0
    target: Target = "current"
    tables: Literal["nearest", "outputs"] = "nearest"

    def wrong_options(self) -> list[str]:
        wrong = super().wrong_options()
        if not 0 < self.damping < 100:
            wrong.append(f"damping={self.damping}, need 0 < damping < 100")
        if self.sweeps < 0:
            wrong.append(f"sweeps={self.sweeps}, need sweeps >= 0")
        return wrong

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        after = program.copy()
        account = Account(self, after)
        tables = _Tables(self, account, context)
        before = program if self.target == "original" else None
        for name, hessian in hessians(account, context, before):
            if name in tables.names:
                tables.round(name)
            else:
                self._round(account, name, hessian)
        account.close("quantized")
        return PassResult(after, bool(account.errors), tuple(account.notes), account.errors)

    def _round(self, account: Account, name: str, hessian: Hessian | None) -> None:
        if hessian is None:
            account.notes.append(f"@{name}: no product with calibration data; rounded to nearest")
            self.round(account, name)
        elif not hessian.is_finite:
            account.notes.append(f"@{name}: inputs with infinite squares; rounded to nearest")
            self.round(account, name)
        else:
            self.round(account, name, partial(self._rounding, hessian))

    def _rounding(
        self,
        hessian: Hessian,
        w: Tensor,
        grid: Grid,
        kept: Tensor | None,
        damping: float | None = None,
        importance: Tensor | float = 1.0,
    ) -> Rounded | Spared:
        w, damping = hessian.corrected(w), damping or self.damping
        if not self.outliers:
            return gptq(w, hessian.matrix, grid, damping, self.order, self.sweeps, kept)
        spread = inverse_factor(hessian.matrix, damping)[1].square().sum(0)  # diag(H^-1)
        aside = choose(w, grid, self.outliers, importance / spread, kept)
        return gptq_spared(w, hessian.matrix, grid, aside, damping, self.order, self.sweeps, kept)


class _Tables:
    """The tables of an account that are only gathered from."""

    def __init__(self, options: Gptq, account: Account, context: Context) -> None:
        self.options, self.account = options, account
        self.names = {n for n, w in account.weights.items() if w.ops == {"gather"}}
        place = account.program, context, options.name, self.names
        self.counts = counts(*place) if options.outliers else {}
        self.hessians = hessians_of_outputs(*place) if options.tables == "outputs" else {}

    def round(self, name: str) -> None:
        """By the data of its lookups, as far as there are some."""
        options = self.options
        hits = self.counts.get(name)
        importance = None if hits is None else (hits + 1).unsqueeze(1)
        hessian = self.hessians.get(name)
        if hessian is None:
            if options.tables == "outputs":
                self.account.notes.append(f"@{name}: moves no output; rounded to nearest")
            rounding = partial(options.nearest, importance=importance)
        else:
            mass = 1.0 if importance is None else importance
            damping = max(options.damping, TABLE_DAMPING)
            rounding = partial(options._rounding, hessian, damping=damping, importance=mass)
        options.round(self.account, name, rounding)
