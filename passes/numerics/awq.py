"""AWQ: scales of a layer's inputs that make the weights of strong inputs round more finely."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgec.passes.numerics.descent import loss
from edgec.passes.numerics.grid import Grid, decoded

STEPS = 20


def search(
    weights: Sequence[Tensor], magnitude: Tensor, hessian: Tensor, grids: Sequence[Grid]
) -> tuple[Tensor, float]:
    """s f32[K] > 0 with y = (w s) (x / s), and the part of the loss that is left with it, <= 1.

    weights     f32[N, K] of the layers that share the inputs x; `grids` that each is rounded to
    magnitude   f32[K], mean |x| on calibration data
    hessian     X X^T f64[K, K] of that data

    The loss is the sum over the weights of ||(w - Q(w s) / s) X||^2, Q rounding to nearest, and s =
    magnitude^a of the best a in {0, 1/20, ..., 19/20}; a = 0 is s = 1.

    Source   Lin et al. 2023, arXiv:2306.00978, eq. 4 and 5; that s is divided by sqrt(max min) is
             from its code.
    Differs  The loss is exact on the data, by X X^T, where the code runs the layers. Ranges are not
             clipped: scales of the grid "mse" do that.
    """
    best, least = torch.ones_like(magnitude), float("inf")
    first = 0.0
    for step in range(STEPS):
        s = _scale(magnitude, step / STEPS)
        made = [decoded(g.nearest(w * s)) / s for w, g in zip(weights, grids, strict=True)]
        pairs = zip(weights, made, strict=True)
        found = sum(float(loss(w, m, hessian).sum()) for w, m in pairs)
        first = first if step else found
        if found < least:
            best, least = s, found
    return best, least / first if first > 0 else 1.0


def _scale(magnitude: Tensor, exponent: float) -> Tensor:
    """magnitude^exponent, no less than 1e-4 of the greatest, around 1."""
    floor = float(magnitude.max()) * 1e-4 or 1.0
    s = magnitude.clamp_min(floor) ** exponent
    return s / (s.max() * s.min()).sqrt()
