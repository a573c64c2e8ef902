"""Ranges of activations: bounds, exactness of 0, and each observer against its definition."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from torch import Tensor

from edgec.ops.activation_quantization import is_f32, quantized
from edgec.ops.linear import Linear
from edgec.passes.numerics.observers import (
    Histogram,
    Observer,
    error,
    minmax,
    observe,
    scale_and_zero,
)

OBSERVERS: tuple[Observer, ...] = ("minmax", "percentile", "entropy", "mse")
numbers = st.floats(-(2.0**99), 2.0**99, width=32)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rounded(x: Tensor, low: float, high: float) -> Tensor:
    return quantized(x, Linear("static", *scale_and_zero(low, high)), (-1,))


def lost(x: Tensor, low: float, high: float) -> float:
    return float((x.double() - rounded(x, low, high).double()).square().sum())


@hypothesis.given(st.lists(numbers, min_size=1, max_size=30), st.sampled_from(OBSERVERS))
def test_every_range_lies_in_the_whole_one_and_has_zero(
    values: list[float], observer: Observer
) -> None:
    x = torch.tensor(values)
    low, high = observe([x], observer, 99.0)
    least, greatest = minmax([x])
    assert least <= low <= 0 <= high <= greatest
    scale, zero = scale_and_zero(low, high)
    assert is_f32(scale) and scale > 0 and 0 <= zero <= 255
    assert float(rounded(torch.zeros(1), low, high)) == 0


@hypothesis.given(st.lists(numbers, min_size=1, max_size=30))
def test_the_whole_range_clips_nothing(values: list[float]) -> None:
    x = torch.tensor(values)
    scale, _ = scale_and_zero(*minmax([x]))
    off = (rounded(x, *minmax([x])).double() - x.double()).abs().max()
    assert float(off) <= scale * (1 + 1e-4)  # half for the value, half for the zero point


@pytest.mark.parametrize("values", [[0.0, 0.0], [3.0, 3.0], [-3.0], [1e-42, 0.0], [3e38, -3e38]])
@pytest.mark.parametrize("observer", OBSERVERS)
def test_ranges_of_one_value_and_extreme_ones(observer: Observer, values: list[float]) -> None:
    x = torch.tensor(values)
    low, high = observe([x], observer, 100.0)
    made = rounded(x, low, high)
    assert bool(made.isfinite().all())
    assert float((made - x).abs().max()) <= float(x.abs().max()) / 200 + 1e-38


def test_a_percentile_is_that_of_all_values() -> None:
    parts = [randn(4000, seed=i) for i in range(3)]
    low, high = observe(parts, "percentile", 99.0)
    exact = torch.quantile(torch.cat(parts), torch.tensor([0.005, 0.995]))
    width = float(torch.cat(parts).abs().max()) / 2048
    assert low == pytest.approx(float(exact[0]), abs=width)
    assert high == pytest.approx(float(exact[1]), abs=width)
    assert observe([parts[0].relu()], "percentile", 99.0)[0] == 0


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_the_least_error_is_near_that_of_a_fine_grid(scale: float) -> None:
    x = randn(200_000) * scale
    x[0] = 8 * scale
    low, high = observe([x], "mse", 100.0)
    grid = [(a, b) for a in range(40, 101, 4) for b in range(40, 101, 4)]
    least, greatest = minmax([x])
    best = min(lost(x, least * a / 100, greatest * b / 100) for a, b in grid)
    assert lost(x, low, high) <= 1.02 * best
    assert lost(x, low, high) < 0.9 * lost(x, least, greatest)


def test_the_error_of_a_histogram_is_that_of_its_values() -> None:
    x = randn(50_000).relu()
    histogram = Histogram.of([x[:100], x[100:]], minmax([x]))
    assert int(histogram.counts.sum()) == len(x)
    for high in (1.0, 2.0, 4.0):
        assert error(histogram, 0.0, high) == pytest.approx(lost(x, 0.0, high), rel=0.03)


def divergence(x: Tensor, top: float, levels: int = 128, bins: int = 2048) -> float:
    """KL of slide 38 for |x|, in its own words, at a threshold of whole bins."""
    counts = torch.histc(x.abs().double(), bins, 0, float(x.abs().max()))
    n = round(top / float(x.abs().max()) * bins)
    own = counts[:n]
    p = own.clone()
    p[int(own.nonzero()[-1])] += counts[n:].sum()
    q = torch.zeros_like(p)
    for group in torch.arange(n).tensor_split(levels):
        used = group[own[group] > 0]
        q[used] = own[group].sum() / max(1, len(used))
    p, q = p[own > 0] / p.sum(), q[own > 0] / q.sum()
    return float((p * (p / q).log()).sum())


def test_entropy_is_near_the_best_threshold_of_the_symmetric_search() -> None:
    x = randn(200_000)
    x[:20] *= 10  # what "minmax" would waste codes on
    low, high = observe([x], "entropy", 100.0)
    whole = float(x.abs().max())
    assert high < 0.5 * whole and low == -high
    tops = [whole * i / 2048 for i in range(128, 2049, 16)]
    best = min(divergence(x, t) for t in tops)
    assert divergence(x, high) <= 2 * best + 1e-3


def test_entropy_keeps_a_uniform_range() -> None:
    x = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    low, high = observe([x], "entropy", 100.0)
    assert low == 0 and high > 0.95


def test_entropy_keeps_the_range_of_a_few_values_that_come_up_again() -> None:
    x = (torch.randint(-8, 9, (50_000,), generator=torch.Generator().manual_seed(0)) / 8).float()
    x[::2] = 0.0
    assert observe([x], "entropy", 100.0) == (-1.0, 1.0)
    spread = torch.cat([x, randn(50_000) / 10])
    low, high = observe([spread], "entropy", 100.0)
    assert low <= -0.1 and high >= 0.1


def test_entropy_does_not_count_the_zeros_behind_a_relu() -> None:
    x = randn(100_000)
    spiked = torch.cat([x.relu(), torch.zeros(300_000)])
    _, high = observe([spiked], "entropy", 100.0)
    _, alone = observe([x[x > 0]], "entropy", 100.0)
    assert high == pytest.approx(alone, rel=0.01)
