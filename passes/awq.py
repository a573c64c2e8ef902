"""awq: inputs of layers scaled so that rounding their weights changes the outputs less."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.ir import Encoding, Exactness, Program
from edgec.passes.affine_weights import AffineWeights
from edgec.passes.input_scaling import Otherwise, Site, scale_sites
from edgec.passes.numerics.awq import search
from edgec.passes.numerics.gptq import Hessian
from edgec.passes.stream import Operands, Visit
from edgec.passes.weights import Weight
from edgec.transform import PassResult


@dataclass(frozen=True)
class Awq(AffineWeights):
    """Scale the inputs of linear layers down and their weights up, per input.

    Given    %x = layer_norm(%h, @g, @b)            %y = linear(%x, @w)
    Result   %x = layer_norm(%h, @g / s, @b / s)    %y = linear(%x, @w s)

    All linear layers that read a value get one s, found for the codes that the same options give in
    `quantize-weights` or `gptq`, one of which is to follow. s goes into the layer_norm, rms_norm or
    linear that makes the value, where nothing else reads it or its weights.

    bits ... min_numel   as in `quantize-weights`, of the pass that follows; outliers do not count
    otherwise            where s has no place to go: "leave" the layers, or "multiply" %x by 1 / s

    Keeps    the function, up to rounding. Reported: layers that are left.
    Effect   ROUNDING
    Source   Lin et al. 2023, arXiv:2306.00978; `edgec.passes.numerics.awq`.
    Differs  s is not folded through attention, from the output projection into v.
    """

    name: ClassVar[str] = "awq"
    effect: ClassVar[Exactness] = Exactness.ROUNDING
    needs_calibration: ClassVar[bool] = True
    otherwise: Otherwise = "leave"

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        return scale_sites(self, self.otherwise, program, context, self._takes, self._scale)

    def _scale(self, site: Site, weights: Sequence[Tensor], visit: Visit) -> Tensor | str:
        """s of one value, or why it has none."""
        grids = [self.grid(*self.layout(w)) for w in site.weights]
        magnitude, hessian = _statistics(visit.operands)
        if not bool(hessian.isfinite().all()):
            return "infinite squares"
        s, left = search([w.float() for w in weights], magnitude, hessian, grids)
        return s if left < 1 else "no scale loses less than none"

    def _takes(self, weight: Weight, stored: Encoding) -> bool:
        """Whether the pass that follows will round the weight."""
        chosen = weight.name in self.selected and not self.misfit(stored, weight)
        return chosen and stored.numel >= self.min_numel


def _statistics(operands: Iterable[Operands]) -> tuple[Tensor, Tensor]:
    """Mean |x| f32[K] and X X^T f64[K, K] of the first operand, one call at a time."""
    hessian, total, count = Hessian(0), torch.zeros(()).double(), 0
    for x in (o[0] for o in operands):
        assert x is not None
        rows = x.reshape(-1, x.shape[-1])
        hessian = hessian if len(hessian.matrix) else Hessian(rows.shape[1])
        hessian.add(rows)
        total, count = total + rows.double().abs().sum(0), count + len(rows)
    return (total / max(1, count)).float(), hessian.matrix
