"""Ranges of activations, from what a layer read on calibration data, and their codes.

An observer sees all values x of one operand and gives the range [low, high], low <= 0 <= high, that
is mapped to the codes 0..255; what is beyond is clipped. 0 is always exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

LEVELS = 256
BINS = 4096  # of a histogram: eight per code and sign
STEP = 8  # bins that two clipping ranges differ by
LEAST = float(torch.finfo(torch.float32).tiny)

Observer: TypeAlias = Literal["minmax", "percentile", "entropy", "mse"]
Range: TypeAlias = tuple[float, float]


def observe(xs: Sequence[Tensor], observer: Observer, percent: float) -> Range:
    """The range for finite values f32[*S] of each call, not all of them empty."""
    whole = minmax(xs)
    if observer == "minmax" or whole == (0.0, 0.0):
        return whole
    histogram = Histogram.of(xs, whole)
    if observer == "percentile":
        return percentile(histogram, percent)
    return entropy(histogram) if observer == "entropy" else least_error(histogram)


def scale_and_zero(low: float, high: float) -> tuple[float, int]:
    """x_scale > 0, a number of f32, and x_zero in 0..255, for [low, high] with low <= 0 <= high.

    Source   Jacob et al. 2017, arXiv:1712.05877, eq. 1 and sec. 3.1.
    """
    width = (high - low) / (LEVELS - 1)
    scale = float(torch.tensor(max(width, LEAST) if width else 1.0, dtype=torch.float32))
    return scale, min(max(round(-low / scale), 0), LEVELS - 1)


# ------------------------------------------------------------------ what was seen
def minmax(xs: Sequence[Tensor]) -> Range:
    """The whole range."""
    seen = [x for x in xs if x.numel()]
    low, high = min(float(x.min()) for x in seen), max(float(x.max()) for x in seen)
    return min(low, 0.0), max(high, 0.0)


@dataclass(frozen=True)
class Histogram:
    """Values counted in BINS bins of equal width on [-T, T], T = max |x|.

    counts   f64[BINS]
    means    f64[BINS], of the values in a bin: many activations are exactly 0
    zeros    how many are
    whole    (min x, max x), with 0
    """

    counts: Tensor
    means: Tensor
    zeros: int
    whole: Range

    @property
    def top(self) -> float:
        return max(-self.whole[0], self.whole[1])

    @staticmethod
    def of(xs: Sequence[Tensor], whole: Range) -> Histogram:
        top = max(-whole[0], whole[1])
        counts, sums = (torch.zeros(BINS, dtype=torch.float64) for _ in range(2))
        for x in xs:
            for part in x.detach().reshape(-1).split(2**20):
                values = part.double()
                places = ((values / top + 1) * (BINS / 2)).long().clamp_(0, BINS - 1)
                counts += torch.bincount(places, minlength=BINS)
                sums += torch.bincount(places, weights=values, minlength=BINS)
        zeros = sum(x.numel() - int(x.count_nonzero()) for x in xs)
        return Histogram(counts, sums / counts.clamp_min(1), zeros, whole)

    def edge(self, place: float) -> float:
        """The value at the lower edge of a bin."""
        return (place / (BINS / 2) - 1) * self.top

    def clipped(self, threshold: float) -> Range:
        return max(self.whole[0], -threshold), min(self.whole[1], threshold)


# ------------------------------------------------------------------ observers
def percentile(histogram: Histogram, percent: float) -> Range:
    """The range without the (100 - percent) % of values that are the furthest out, both ends alike.

    Source   Wu et al. 2020, arXiv:2004.09602, sec. 4 (on |x|; here for each end by itself).
    """
    total = histogram.counts.cumsum(0) / histogram.counts.sum()
    out = (1 - percent / 100) / 2
    low = int((total <= out).sum())
    high = int((total < 1 - out).sum()) + 1
    least, greatest = histogram.whole
    return (
        min(max(histogram.edge(low), least), 0.0),
        max(min(histogram.edge(high), greatest), 0.0),
    )


def entropy(histogram: Histogram) -> Range:
    """Clipped at the |x| where the codes' distribution tells least from the values' own (KL).

    Source   Migacz 2017, 8-bit inference with TensorRT (GTC 2017), slides 38 to 41.
    Differs  All 256 codes of both signs instead of 128 of |x|; every eighth threshold; clipped
             values count for the outermost bins that have values of their own. The least threshold
             has 256 bins with values below it, not 128 bins: a few values that come up again and
             again (pixels) would have no entropy to lose. 0 is exact in every range and does not
             count; behind a relu it would be half of all.
    """
    best, least = histogram.top, float("inf")
    counts = histogram.counts.clone()
    counts[BINS // 2] -= histogram.zeros
    for threshold, low, high in _windows():
        lost = _divergence(counts, low, high)
        if lost < least:
            best, least = threshold * histogram.top, lost
    return histogram.clipped(best)


def _windows() -> Iterator[tuple[float, int, int]]:
    """(part of T, first bin, bin behind the last) of each threshold, the greatest first."""
    half = BINS // 2
    for reach in range(half, LEVELS // 2 - 1, -STEP):
        yield reach / half, half - reach, half + reach


def _divergence(counts: Tensor, low: int, high: int) -> float:
    """KL(P || Q), P the bins [low, high) with all others added at the ends, Q their codes."""
    inside = counts[low:high]
    used = inside.nonzero().flatten()
    if len(used) < LEVELS:
        return float("inf")
    first, last = int(used[0]), int(used[-1]) + 1
    p = inside[first:last].clone()
    own = p.clone()
    p[0] += counts[: low + first].sum()
    p[-1] += counts[low + last :].sum()
    cells = torch.arange(len(own)) * LEVELS // max(LEVELS, len(own))
    held = torch.zeros(LEVELS, dtype=torch.float64).index_add_(0, cells, own)
    filled = torch.zeros(LEVELS, dtype=torch.float64).index_add_(0, cells, (own > 0).double())
    q = torch.where(own > 0, held[cells] / filled[cells].clamp_min(1), 0)
    p, q = p[own > 0] / p.sum(), q[own > 0] / q.sum()
    return float((p * (p / q).log()).sum())


def least_error(histogram: Histogram) -> Range:
    """The range of the least squared error of clipping and rounding; each end by itself, in turns.

    Source   Choukroun et al. 2019, arXiv:1902.06822, sec. 4 (eq. 5), there for one threshold.
    """
    low, high = histogram.whole

    def ending(factor: float) -> Range:
        return low, high * factor

    def starting(factor: float) -> Range:
        return low * factor, high

    for _ in range(2):
        low, high = _best(histogram, ending)
        low, high = _best(histogram, starting)
    return low, high


def _best(histogram: Histogram, candidate: Callable[[float], Range]) -> Range:
    """Of the least error: of every 20th of a whole, then of every 100th around."""

    def lost(factor: float) -> float:
        return error(histogram, *candidate(factor))

    coarse = min((i / 20 for i in range(20, 0, -1)), key=lost)
    near = (coarse + i / 100 for i in sorted(range(-4, 5), key=abs))
    return candidate(min((f for f in near if 0 < f <= 1), key=lost))


def error(histogram: Histogram, low: float, high: float) -> float:
    """Sum of (x - q(x))^2 over the values of a histogram, each taken at its bin's mean."""
    scale, zero = scale_and_zero(low, high)
    x = histogram.means
    codes = ((x / scale).round() + zero).clamp(0, LEVELS - 1)
    return float((histogram.counts * (x - (codes - zero) * scale).square()).sum())
