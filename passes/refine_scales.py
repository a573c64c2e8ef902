"""refine-scales: the scales of affine codes fitted to what the layer gave before compression."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.ir import Affine, Encoding, Exactness, Outliers, Program, Sparse
from edgec.ir.encodings.rows import to_rows
from edgec.passes.hessians import Target, hessians
from edgec.passes.numerics.descent import lost, refit
from edgec.passes.numerics.gptq import Hessian, inverse_factor
from edgec.passes.weight_pass import Account, WeightPass
from edgec.passes.weights import Weight
from edgec.transform import PassResult


@dataclass(frozen=True)
class RefineScales(WeightPass):
    """Replace the scales of affine codes by those of least squared error of the layer's outputs.

    Given    @w = const f32[N, K] affine(bits=4, group=32)       %y = linear(%x, @w)
    Result   @w = const f32[N, K] affine(bits=4, group=32)       %y = linear(%x, @w)

    With the codes and zero points as they are, all scales of a row solve one system of linear
    equations, for the inputs that calibration data give the layer. They are rounded to their dtype,
    and a row keeps those that it has where they are better. `gptq` with sweeps does the same;
    this is for codes of other passes: rounded to nearest, under a mask, beside outliers.

    damping   of X X^T, as a part of the mean of its diagonal
    target    what a layer is to give, see `gptq`: "current" outputs, those of its weights before
              compression with the inputs that it gets; "original" outputs, those before
              compression, whose nodes have to be the same
    include, skip, min_numel   as in `quantize-weights`

    Keeps    every node, type and name, and all codes. Left and reported: weights that no
             calibration data are multiplied with, and such as had another shape.
    Effect   LOSSY: no row loses more on the calibration data, with damped X X^T, than before
    Source   `edgec.passes.numerics.descent.refit`; scales by least squares for given codes: Zhang
             et al. 2018, arXiv:1807.10029 (LQ-Nets), eq. 8.
    Differs  The error is that of the layer's outputs, not of its weights.
    """

    name: ClassVar[str] = "refine-scales"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    needs_calibration: ClassVar[bool] = True
    damping: float = 0.01
    target: Target = "current"

    def wrong_options(self) -> list[str]:
        wrong = super().wrong_options()
        if not 0 < self.damping < 100:
            wrong.append(f"damping={self.damping}, need 0 < damping < 100")
        return wrong

    def takes(self, stored: Encoding) -> bool:
        return _affine(stored) is not None

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        after = program.copy()
        before = context.exact or context.original or program
        account = Account(self, after)
        account.compressed.clear()  # other encodings than affine ones have no scales to refine
        sums = torch.zeros(2, dtype=torch.float64)
        exact = before if self.target == "original" else None
        for name, hessian in hessians(account, context, exact):
            if hessian is None or not hessian.is_finite:
                table = account.weights.pop(name).ops == {"gather"}
                if not table:
                    account.notes.append(f"@{name}: no finite product with calibration data; left")
            else:
                self._refine(account, before, name, hessian, sums)
        account.close("refined")
        if account.errors:
            share = 100 * float(1 - sums[1] / sums[0])
            account.notes.append(f"squared errors of outputs: {share:.1f} % less")
        return PassResult(after, bool(account.errors), tuple(account.notes), account.errors)

    def _refine(
        self, account: Account, before: Program, name: str, hessian: Hessian, sums: Tensor
    ) -> None:
        def encode(stored: Encoding, weight: Weight) -> Encoding | str:
            affine = _affine(stored)
            assert affine is not None
            old = before.constants.get(name)
            if old is None or old.type.shape != stored.type.shape or not weight.axis == affine.axis:
                return "no weights of this shape before compression"
            w = hessian.corrected(to_rows(old.encoding.decode().float(), weight.axis))
            target, free = _left(w, stored, weight.axis)
            group = affine.scale.shape[1]
            rows = to_rows(affine.codes, weight.axis).contiguous(), affine.scale, affine.zero
            damped = inverse_factor(hessian.matrix, self.damping)[0]
            found = refit(target, rows, damped, free)
            if torch.equal(found[1], affine.scale):
                return f"no better scales for its {group} groups"
            for i, made in enumerate((rows, found)):
                sums[i] += lost(target, made, hessian.matrix, free).sum()
            return _with(stored, replace(affine, scale=found[1]))

        account.store(name, encode)


def _affine(stored: Encoding) -> Affine | None:
    """The codes under a mask and around outliers."""
    inner = stored.values if isinstance(stored, Sparse) else stored
    inner = inner.base if isinstance(inner, Outliers) else inner
    return inner if isinstance(inner, Affine) else None


def _with(stored: Encoding, affine: Affine) -> Encoding:
    if isinstance(stored, Sparse):
        return replace(stored, values=_with(stored.values, affine))
    return replace(stored, base=affine) if isinstance(stored, Outliers) else affine


def _left(w: Tensor, stored: Encoding, axis: int) -> tuple[Tensor, Tensor | None]:
    """What the codes are to give of w f32[N, K], and where they count: bool[N, K], None for all."""
    free = to_rows(stored.mask, axis) if isinstance(stored, Sparse) else None
    inner = stored.values if isinstance(stored, Sparse) else stored
    if not isinstance(inner, Outliers):
        return w, free
    aside = torch.zeros(inner.numel, dtype=torch.bool)
    aside[inner.positions] = True
    spared = to_rows(aside.view(inner.type.shape), axis)
    values = to_rows(inner.decode().float(), axis)
    free = ~spared if free is None else free & ~spared
    return torch.where(spared, w - values, w), free
