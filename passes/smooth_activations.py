"""smooth-activations: great inputs of linear layers made smaller, their weights greater."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.ir import Encoding, Exactness, Program
from edgec.passes.input_scaling import Otherwise, Site, scale_sites
from edgec.passes.numerics.smoothing import smoothing
from edgec.passes.stream import Visit
from edgec.passes.weight_pass import WeightPass
from edgec.passes.weights import Weight
from edgec.transform import PassResult


@dataclass(frozen=True)
class SmoothActivations(WeightPass):
    """Divide the inputs of linear layers by a scale each, so that all are of a similar range.

    Given    %x = layer_norm(%h, @g, @b)            %y = linear(%x, @w)
    Result   %x = layer_norm(%h, @g / s, @b / s)    %y = linear(%x, @w s)

    All linear layers that read a value get one s. It goes into the layer_norm, rms_norm or linear
    that makes the value, where nothing else reads it or its weights. What rounds activations is to
    follow: `quantize-weights{bits=8}` and `quantize-activations`, or its `activations=dynamic`.

    alpha       how much of the range of x goes into the weights: 0 none, 1 all. It is to be
                tried out: 0.5 to 0.9, more where few inputs are far greater than the others
    otherwise   where s has no place to go: "leave" the layers, or "multiply" %x by 1 / s
    include, skip, min_numel   as in `quantize-weights`

    Keeps    the function, up to rounding. Reported: layers that are left.
    Effect   ROUNDING
    Source   Xiao et al. 2022, arXiv:2211.10438, eq. 4; `edgec.passes.numerics.smoothing`.
    Differs  No fold through attention; any layer whose input has such a place, not a list of them.
    """

    name: ClassVar[str] = "smooth-activations"
    effect: ClassVar[Exactness] = Exactness.ROUNDING
    needs_calibration: ClassVar[bool] = True
    alpha: float = 0.5
    otherwise: Otherwise = "leave"

    def wrong_options(self) -> list[str]:
        wrong = super().wrong_options()
        if not 0 <= self.alpha <= 1:
            wrong.append(f"alpha={self.alpha}, need 0 <= alpha <= 1")
        return wrong

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        return scale_sites(self, self.otherwise, program, context, self._chosen, self._scale)

    def _chosen(self, weight: Weight, stored: Encoding) -> bool:
        return weight.name in self.selected and not self.too_small(stored.numel)

    def _scale(self, site: Site, weights: Sequence[Tensor], visit: Visit) -> Tensor | str:
        """s of one value, or why it has none."""
        magnitude = _magnitude(visit)
        if magnitude is None or not bool(magnitude.isfinite().all()):
            return "NaN or infinite" if magnitude is not None else "empty in all calls"
        return smoothing(magnitude, weights, self.alpha)


def _magnitude(visit: Visit) -> Tensor | None:
    """max |x| f32[K] of the first operand over all calls, None where all are empty."""
    seen = (o[0] for o in visit.operands)  # one call at a time
    rows = [x.abs().reshape(-1, x.shape[-1]).amax(0) for x in seen if x is not None and x.numel()]
    return torch.stack(rows).amax(0) if rows else None
