"""Affine quantization of weights: code ranges, scales and zero points, rounding.

Everywhere w ~ scale * (code - zero), for blocks of G weights that share one scale: w f32[*S, G],
scale T[*S], zero f32[*S] or None (0 everywhere). Scales are rounded to the dtype that they are
stored in before codes are computed, so that the codes are the best ones for what a target reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 2**18  # weights that a search works on at once: its temporaries stay in the cache
COARSE, FINE = 0.1, 0.02  # steps of the shrink factor
LEAST_FACTOR = 0.2


@dataclass(frozen=True)
class Codes:
    """Interval of the codes, [low, high]; `narrow` ones are symmetric around zero.

    [-127, 127] instead of [-128, 127]: some integer kernels take no code -2^(bits-1).
    """

    low: int
    high: int

    @staticmethod
    def of(bits: int, narrow: bool = False) -> Codes:
        """Signed codes of `bits` bits."""
        half = 1 << (bits - 1)
        return Codes(1 - half if narrow else -half, half - 1)

    @property
    def steps(self) -> int:
        """Number of scales between the least and the greatest code."""
        return self.high - self.low


def quantize(w: Tensor, scale: Tensor, zero: Tensor | None, codes: Codes) -> Tensor:
    """i8[*S, G] = clip(round_half_even(w / scale) + zero, low, high)."""
    return _levels(w, scale.float(), zero, codes).to(torch.int8)


def dequantize(code: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """f32[*S, G] = scale * (code - zero); exact for 16-bit scales."""
    shifted = code.float() if zero is None else code.float() - zero.unsqueeze(-1)
    return scale.float().unsqueeze(-1) * shifted


def _levels(w: Tensor, scale: Tensor, zero: Tensor | None, codes: Codes) -> Tensor:
    q = torch.round(w / scale.unsqueeze(-1))
    if zero is not None:
        q += zero.unsqueeze(-1)
    return q.clamp_(codes.low, codes.high)


# ------------------------------------------------------------------ scales
def round_scale(scale: Tensor, dtype: torch.dtype, up: bool = False) -> Tensor:
    """Scales in their storage dtype, > 0: nearest, or with `up` the least that is not smaller.

    Scales below the dtype's normal range (of blocks of zeros, say) become its least normal number,
    at which all their weights have code 0. A scale beyond its range is inf.
    """
    wide = scale.float().clamp_min(torch.finfo(dtype).tiny)
    stored = wide.to(dtype)
    if up and dtype != torch.float32:
        following = (stored.view(torch.int16) + 1).view(dtype)
        stored = torch.where(stored.float() < wide, following, stored)
    return stored


def absmax_scale(w: Tensor, codes: Codes, dtype: torch.dtype) -> Tensor:
    """Symmetric scale T[*S] = max|w| / (steps / 2): no weight is off by more than half a step.

    For [-8, 7] that is max|w| / 7.5: the greatest weight, at +-7.5 steps, is off by just half of
    one, and all others profit from the smaller step.
    """
    return round_scale(w.abs().amax(-1) * 2 / codes.steps, dtype, up=True)


def minmax_scale(w: Tensor, codes: Codes, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Scale T[*S] and zero point f32[*S] that span [min(w, 0), max(w, 0)]; 0 is always exact."""
    return span(w.amin(-1).clamp_max(0), w.amax(-1).clamp_min(0), codes, dtype, up=True)


def percentile_scale(
    w: Tensor, codes: Codes, dtype: torch.dtype, symmetric: bool, percentile: float
) -> tuple[Tensor, Tensor | None]:
    """Scale (and zero point) that span `percentile` % of the block; what is beyond is clipped.

    Symmetric codes span that percentile of |w|, interpolated; others leave out the same part of w
    at either end. 100 is the whole range.
    """
    part = percentile / 100
    if symmetric:
        whole = w.abs().quantile(part, dim=-1)
        return round_scale(whole * 2 / codes.steps, dtype, up=True), None
    outside = (1 - part) / 2
    least, greatest = w.quantile(torch.tensor([outside, 1 - outside]), dim=-1)
    return span(least.clamp_max(0), greatest.clamp_min(0), codes, dtype, up=True)


def span(
    least: Tensor, greatest: Tensor, codes: Codes, dtype: torch.dtype, up: bool
) -> tuple[Tensor, Tensor]:
    """Scale and zero point that map [least, greatest], which contains 0, to all of the codes."""
    scale = round_scale((greatest - least) / codes.steps, dtype, up)
    zero = torch.round(codes.low - least / scale.float())
    return scale, zero.clamp_(codes.low, codes.high)


def mse_scale(
    w: Tensor, codes: Codes, dtype: torch.dtype, symmetric: bool
) -> tuple[Tensor, Tensor | None]:
    """Scale (and zero point) of the least squared error sum_g (w_g - w'_g)^2, block by block.

    The range of `absmax_scale` or `minmax_scale` is shrunk by factors in [0.2, 1], coarse to fine,
    and the best scale gets a least-squares step for its codes, s = <w, q> / <q, q> with q = code -
    zero.
    Never worse than the whole range, which is the first candidate.

    Source   Shrinking the range for the least error: Banner et al. 2018, arXiv:1810.05723; as a
             grid per row of weights: Frantar et al. 2022, arXiv:2210.17323 (its code).
    Differs  Squared error instead of the power 2.4; two grids instead of one of 100 factors; each
             candidate is rounded to its storage dtype first; the least-squares step.
    """
    if symmetric:
        whole = w.abs().amax(-1) * 2 / codes.steps

        def candidate(factor: Tensor) -> tuple[Tensor, Tensor | None]:
            return round_scale(whole * factor, dtype), None

        first: tuple[Tensor, Tensor | None] = absmax_scale(w, codes, dtype), None
    else:
        least, greatest = w.amin(-1).clamp_max(0), w.amax(-1).clamp_min(0)

        def candidate(factor: Tensor) -> tuple[Tensor, Tensor | None]:
            return span(least * factor, greatest * factor, codes, dtype, up=False)

        first = minmax_scale(w, codes, dtype)
    return _search(w, codes, first, candidate)


Candidate = tuple[Tensor, Tensor | None]


class _Best:
    """The best scale so far of each block, the factor that gave it, and its squared error."""

    def __init__(self, w: Tensor, codes: Codes, first: Candidate) -> None:
        self.w, self.codes = w, codes
        self.scale, self.zero = first
        self.factor = torch.ones_like(self.scale, dtype=torch.float32)
        self.error = self._error(self.scale, self.zero)

    def _error(self, scale: Tensor, zero: Tensor | None) -> Tensor:
        q = _levels(self.w, scale.float(), zero, self.codes)
        return (dequantize(q, scale, zero) - self.w).square_().sum(-1)

    def offer(self, candidate: Candidate, factor: Tensor) -> None:
        """Take the candidate in the blocks where its error is less."""
        scale, zero = candidate
        error = self._error(scale, zero)
        better = error < self.error
        self.scale = torch.where(better, scale, self.scale)
        self.factor = torch.where(better, factor, self.factor)
        self.error = torch.where(better, error, self.error)
        if zero is not None and self.zero is not None:
            self.zero = torch.where(better, zero, self.zero)

    def least_squares(self) -> Candidate:
        """The best scale for the codes of the best so far."""
        q = _levels(self.w, self.scale.float(), self.zero, self.codes)
        if self.zero is not None:
            q = q - self.zero.unsqueeze(-1)
        power = q.square().sum(-1)
        fitted = (self.w * q).sum(-1) / power.clamp_min(1)
        usable = (power > 0) & (fitted > 0)
        fitted = torch.where(usable, fitted, self.scale.float())
        return round_scale(fitted, self.scale.dtype), self.zero


def _search(
    w: Tensor, codes: Codes, first: Candidate, candidate: Callable[[Tensor], Candidate]
) -> Candidate:
    best = _Best(w, codes, first)
    one = torch.ones_like(best.factor)
    for i in range(1, round((1 - LEAST_FACTOR) / COARSE) + 1):
        best.offer(candidate(one * (1 - i * COARSE)), one * (1 - i * COARSE))
    center, around = best.factor, round(COARSE / FINE)
    for i in (j for j in range(1 - around, around) if j):
        factor = center + i * FINE
        best.offer(candidate(factor), factor)
    best.offer(best.least_squares(), best.factor)
    return best.scale, best.zero


# ------------------------------------------------------------------ whole tensors
def choose_scales(
    w: Tensor,
    codes: Codes,
    dtype: torch.dtype,
    symmetric: bool,
    method: str,
    percentile: float = 99.9,
) -> tuple[Tensor, Tensor | None]:
    """Scale T[N, R] and zero i8[N, R] or None for w f32[N, R, G], finite.

    method   "absmax" (the whole range), "mse" (the least squared error), or "percentile"
    """
    chosen = []
    for part in w.split(max(1, CHUNK // max(1, w[0].numel()))):
        if method == "mse":
            chosen.append(mse_scale(part, codes, dtype, symmetric))
        elif method == "percentile":
            chosen.append(percentile_scale(part, codes, dtype, symmetric, percentile))
        elif symmetric:
            chosen.append((absmax_scale(part, codes, dtype), None))
        else:
            chosen.append(minmax_scale(part, codes, dtype))
    zeros = [zero for _, zero in chosen if zero is not None]
    return torch.cat([s for s, _ in chosen]), torch.cat(zeros).to(torch.int8) if zeros else None
