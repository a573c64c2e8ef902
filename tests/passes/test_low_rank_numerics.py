"""Low-rank factors: no other matrix of the rank is nearer, and ranks for bytes are the best."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.passes.numerics.low_rank import (
    Curve,
    allocate,
    decompose,
    decompose_rows,
    factors,
    losses,
    rank_within,
    row_factors,
)

few = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**31)


def tensor(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def lost(w, made, x):
    return float(((w.double() - made.double()) @ x.double()).square().sum())


@few
@given(seeds, st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_factors_are_torchs_truncated_decomposition(seed, rows, length, rank, zero):
    w, rank = tensor(rows, length, seed=seed) * (not zero), min(rank, rows, length)
    up, down = factors(w, decompose(w), rank)
    u, s, v = torch.linalg.svd(w.double(), full_matrices=False)
    want = u[:, :rank] * s[:rank] @ v[:rank]
    assert up.shape == (rows, rank) and down.shape == (rank, length)
    torch.testing.assert_close((up @ down).double(), want, rtol=1e-4, atol=1e-5)
    assert up.norm() == pytest.approx(float(down.norm()), rel=1e-3) or zero


@few
@given(seeds, st.integers(1, 6), st.sampled_from([3, 40]))
def test_with_inputs_the_outputs_lose_least(seed, rank, samples):
    """Against the textbook form with a whitening matrix and its inverse, and against no inputs."""
    w, x = tensor(7, 6, seed=seed), tensor(6, samples, seed=seed + 1) * tensor(6, 1, seed=5).exp()
    up, down = factors(w, decompose(w, (x @ x.T).double()), rank)
    values = torch.linalg.svdvals(w.double() @ x.double())
    least = float(values[rank:].square().sum())
    power = float(values.square().sum())
    assert lost(w, up @ down, x) == pytest.approx(least, rel=1e-4, abs=1e-9 * power)
    plain, flat = factors(w, decompose(w), rank)
    assert lost(w, up @ down, x) <= lost(w, plain @ flat, x) + 1e-9 * power


@few
@given(seeds, st.integers(1, 4))
def test_rows_that_count_more_are_nearer(seed, rank):
    table, counts = tensor(20, 4, seed=seed), tensor(20, seed=seed + 1).exp().double()
    codes, basis = row_factors(table, decompose_rows(table, counts), rank)
    scaled = table.double() * counts.sqrt().unsqueeze(1)
    least = float(torch.linalg.svdvals(scaled)[rank:].square().sum())
    found = float(((table - codes @ basis).double().square().sum(1) * counts).sum())
    assert found == pytest.approx(least, rel=1e-3, abs=1e-8 * float(scaled.square().sum()))


@few
@given(seeds, st.floats(0.01, 0.99))
def test_the_least_rank_within_an_error(seed, error):
    w = tensor(8, 12, seed=seed) * tensor(8, 1, seed=seed + 1).exp()
    found = decompose(w)
    rank = rank_within(found.values, error)

    def relative(r):
        up, down = factors(w, found, r)
        return float((w - up @ down).norm() / w.norm())

    assert relative(rank) <= error + 1e-6
    assert rank == 1 or relative(rank - 1) > error - 1e-6
    assert float(losses(found.values)[rank]) ** 0.5 == pytest.approx(relative(rank), abs=1e-5)


@st.composite
def curves(draw):
    """Three matrices of a few choices each, some of whose losses fall late."""
    made = []
    for _ in range(3):
        steps = draw(st.lists(st.integers(1, 9), min_size=2, max_size=5))
        falls = draw(st.lists(st.floats(0, 5), min_size=len(steps), max_size=len(steps)))
        total = sum(falls)
        losses_ = [total - sum(falls[: i + 1]) for i in range(len(falls))]
        made.append(Curve(tuple(itertools.accumulate(steps)), tuple(losses_)))
    return made


@settings(max_examples=100, deadline=None)
@given(curves(), st.integers(0, 60))
def test_ranks_for_bytes_are_the_best_for_the_bytes_they_use(given_, limit):
    """Against all combinations of choices: no other loses less with as many bytes."""
    picked = allocate(given_, limit)
    used = sum(c.bytes[i] for c, i in zip(given_, picked, strict=True))
    least = sum(c.bytes[0] for c in given_)
    assert used <= max(limit, least)
    found = sum(c.losses[i] for c, i in zip(given_, picked, strict=True))
    every = itertools.product(*(range(len(c.bytes)) for c in given_))
    fitting = [
        sum(c.losses[i] for c, i in zip(given_, choice, strict=True))
        for choice in every
        if sum(c.bytes[i] for c, i in zip(given_, choice, strict=True)) <= max(limit, least)
    ]
    gap = max(
        (c.losses[a] - c.losses[b] for c in given_ for a, b in itertools.pairwise(c.hull())),
        default=0.0,
    )
    assert found <= min(fitting) + gap + 1e-9  # one step that did not fit
    assert (
        found
        <= min(
            sum(c.losses[i] for c, i in zip(given_, choice, strict=True))
            for choice in itertools.product(*(range(len(c.bytes)) for c in given_))
            if sum(c.bytes[i] for c, i in zip(given_, choice, strict=True)) <= prefix(given_, limit)
        )
        + 1e-9
    )


def prefix(given_, limit):
    """Bytes of the steps that were taken before the first that did not fit."""
    steps = sorted(
        (-c.gain(a, b), i, c.bytes[b] - c.bytes[a])
        for i, c in enumerate(given_)
        for a, b in itertools.pairwise(c.hull())
    )
    used = sum(c.bytes[0] for c in given_)
    for _, _, cost in steps:
        if used + cost > limit:
            break
        used += cost
    return used
