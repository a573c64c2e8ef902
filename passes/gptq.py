"""gptq: weights as integer codes, rounded so that their products with real inputs change least."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.ir import Exactness, Program
from edgec.passes.affine_weights import AffineWeights
from edgec.passes.hessians import Target, hessians
from edgec.passes.numerics.gptq import Hessian, Order, gptq
from edgec.passes.numerics.grid import Grid, Rounded
from edgec.passes.weight_pass import Account
from edgec.transform import PassResult


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

    bits, group, misfits, symmetric, scales, scale_dtype, embeddings, embedding_group, include,
    skip, min_numel   as in `quantize-weights`
    damping, order, sweeps
              see `edgec.passes.numerics.gptq.gptq`
    target    what a layer is to give with the inputs that it gets: "current" outputs, those of its
              weights before; "original" outputs, those of the program before the pass, which makes
              up for the layers before it and needs more data

    Keeps    every node, type and name; zero exactly. Left and reported as by `quantize-weights`.
    Effect   LOSSY: no row of a weight loses more on the calibration data than by rounding the
             target's weights to nearest
    Source   Frantar et al. 2022, arXiv:2210.17323; "original": Li et al. 2025, arXiv:2504.02692.
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
        for name, hessian in hessians(account, context, self.target):
            self._round(account, name, hessian)
        account.close("quantized")
        return PassResult(after, bool(account.errors), tuple(account.notes), account.errors)

    def _round(self, account: Account, name: str, hessian: Hessian | None) -> None:
        if hessian is None:
            if account.weights[name].ops != {"gather"}:
                account.notes.append(
                    f"@{name}: no product with calibration data; rounded to nearest"
                )
            self.round(account, name)
        elif not hessian.is_finite:
            account.notes.append(f"@{name}: inputs with infinite squares; rounded to nearest")
            self.round(account, name)
        else:
            self.round(account, name, partial(self._rounding, hessian))

    def _rounding(self, hessian: Hessian, w: Tensor, grid: Grid, kept: Tensor | None) -> Rounded:
        w = hessian.corrected(w)
        return gptq(w, hessian.matrix, grid, self.damping, self.order, self.sweeps, kept)
