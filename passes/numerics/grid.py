"""Grids of affine codes: which codes, groups, scales and zero points a weight is rounded to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgec.passes.numerics.affine import CHUNK, Codes, choose_scales, dequantize, quantize

Rounded = tuple[Tensor, Tensor, Tensor | None]
"""Codes i8[N, K], scales T[N, K/G], zero points i8[N, K/G] or None."""


@dataclass(frozen=True)
class Spared:
    """Rounded weights without a few that are kept as values.

    aside    bool[N, K], where those are; what the codes say there does not matter
    values   f32[N, K] of them; what it says elsewhere does not matter
    """

    rounded: Rounded
    aside: Tensor
    values: Tensor


@dataclass(frozen=True)
class Grid:
    """What weights are rounded to.

    codes       interval of the codes
    group       G: weights of a row that share a scale; 0: the whole row
    dtype       that scales are stored in
    symmetric   no zero points
    scales      "mse", "absmax" or "percentile", see `affine.choose_scales`
    percentile  of the magnitudes of a block that the codes span
    """

    codes: Codes
    group: int
    dtype: torch.dtype
    symmetric: bool = True
    scales: str = "mse"
    percentile: float = 99.9

    def fit(self, w: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scale T[N, K/G] and zero points of f32[N, K]."""
        blocks = w.unflatten(1, (-1, self.group or w.shape[1]))
        return choose_scales(
            blocks, self.codes, self.dtype, self.symmetric, self.scales, self.percentile
        )

    def nearest(self, w: Tensor) -> Rounded:
        """f32[N, K] rounded to nearest, some rows at a time."""
        scale, zero = self.fit(w)
        codes = torch.empty(w.shape, dtype=torch.int8)
        step = max(1, CHUNK // max(1, w.shape[1]))
        for at in range(0, len(w), step):
            rows = slice(at, at + step)
            blocks = w[rows].unflatten(1, (scale.shape[1], -1))
            zeros = None if zero is None else zero[rows]
            codes[rows] = quantize(blocks, scale[rows], zeros, self.codes).flatten(1)
        return codes, scale, zero


def decoded(rounded: Rounded) -> Tensor:
    """f32[N, K]."""
    codes, scale, zero = rounded
    zeros = None if zero is None else zero.float()
    return dequantize(codes.unflatten(1, (scale.shape[1], -1)), scale, zeros).flatten(1)
