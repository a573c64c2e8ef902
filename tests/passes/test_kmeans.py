"""k-means: optimal for values, against every division there is; near it for vectors."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.passes.numerics.kmeans import BINS, assign, scalars, vectors


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def lost(values, masses, palette):
    """The weighted squared error with the nearest of the palette's entries."""
    distance = (values.double().unsqueeze(1) - palette.double()).square().amin(1)
    return float((distance * masses.double()).sum())


def best_of_all(values, masses, count):
    """The least loss of all divisions of the sorted values into runs."""
    x, order = values.double().sort()
    m = masses.double()[order]
    least = float("inf")
    for inner in combinations(range(1, len(x)), count - 1):
        edges = [0, *inner, len(x)]
        total = 0.0
        for a, b in pairwise(edges):
            mean = (x[a:b] * m[a:b]).sum() / m[a:b].sum()
            total += float((m[a:b] * (x[a:b] - mean).square()).sum())
        least = min(least, total)
    return least


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(1, 4), st.booleans())
def test_few_values_get_the_best_palette_of_all(seed, n, count, weighted):
    values = gaussian(n, seed=seed)
    masses = gaussian(n, seed=seed + 1).abs() + 0.01 if weighted else torch.ones(n)
    palette = scalars(values, masses if weighted else None, count)
    assert len(palette) == min(n, count) and bool((palette.diff() > 0).all())
    want = best_of_all(values, masses, min(n, count))
    assert lost(values, masses, palette) == pytest.approx(want, rel=1e-4, abs=1e-9)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from([2, 16, 100]), st.floats(0.0, 8.0))
def test_a_palette_is_finite_ascending_and_within_the_values(seed, count, offset):
    values = gaussian(5 * BINS, seed=seed).exp() + 10.0**offset
    palette = scalars(values, None, count)
    assert palette.isfinite().all() and bool((palette.diff() >= 0).all())
    assert values.min() <= palette[0] * 1.001 and palette[-1] <= values.max() * 1.001


def test_many_values_come_near_the_optimum_of_lloyd_and_max():
    """Their quantizers of a normal distribution: Max 1960, table 1."""
    values = gaussian(200_000)
    for count, want in ((2, 0.3634), (4, 0.1175), (16, 0.009497)):
        got = lost(values, torch.ones(len(values)), scalars(values, None, count)) / len(values)
        assert got == pytest.approx(want, rel=0.01)


def test_values_without_mass_do_not_count():
    values = torch.tensor([0.0, 1.0, 5.0, 100.0])
    assert scalars(values, torch.tensor([1.0, 1, 1, 0]), 3).tolist() == [0, 1, 5]
    assert len(scalars(values, torch.zeros(4), 4)) == 4  # all count alike where none has mass


def test_many_equal_values_leave_entries_for_the_few_others():
    values = torch.cat([torch.zeros(100_000), torch.linspace(1, 1.001, 300), torch.tensor([9.0])])
    palette = scalars(values, None, 8)
    assert len(palette) == 8 and abs(float(palette[0])) < 1e-9 and palette[-1] == 9


def test_vectors_are_at_least_as_good_as_pairs_of_values():
    points = gaussian(20_000, 2)
    entries = vectors(points, None, 64, torch.Generator().manual_seed(0))
    alone = scalars(points, None, 8)
    by_values = 2 * lost(points.flatten(), torch.ones(points.numel()), alone) / points.numel()
    assert float(assign(points, entries)[1].mean()) < 0.97 * by_values


def test_vectors_find_clusters_and_their_means():
    centers = torch.tensor([[0.0, 0], [9, 0], [0, 9], [9, 9]])
    points = (centers.repeat(60, 1) + 0.1 * gaussian(240, 2)).contiguous()
    entries = vectors(points, None, 4, torch.Generator().manual_seed(3))
    index, _ = assign(points, entries)
    for i in range(4):
        torch.testing.assert_close(entries[i], points[index == i].mean(0))
    assert float(torch.cdist(centers, entries).amin(1).max()) < 0.1


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 12))
def test_assignments_are_to_the_nearest(seed, width, count):
    points, entries = gaussian(40, width, seed=seed), gaussian(count, width, seed=seed + 1)
    index, squared = assign(points, entries)
    every = torch.cdist(points.double(), entries.double()).square()
    torch.testing.assert_close(squared.double(), every.amin(1), rtol=1e-4, atol=1e-5)
    chosen = every.gather(1, index.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(chosen, every.amin(1), rtol=1e-4, atol=1e-5)


def test_heavy_points_draw_entries_and_few_points_are_their_own():
    points = gaussian(300, 2)
    masses = torch.ones(300)
    masses[:3] = 1e6
    entries = vectors(points, masses, 8, torch.Generator().manual_seed(0))
    assert float(assign(points[:3], entries)[1].max()) < 1e-3
    few = vectors(points[:2].repeat(5, 1), None, 8, torch.Generator().manual_seed(0))
    assert len(few) == 2
