"""Masks and what is kept under them: counts, order, losses against independent formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.errors import PassError
from edgec.passes.numerics.affine import Codes
from edgec.passes.numerics.descent import loss
from edgec.passes.numerics.gptq import Hessian, gptq
from edgec.passes.numerics.grid import Grid, decoded
from edgec.passes.numerics.least_squares import fitted
from edgec.passes.numerics.sparsegpt import sparsegpt, sparsegpt_rounded
from edgec.passes.numerics.sparsity import (
    Rule,
    greatest,
    magnitude,
    removed,
    two_of_four,
    wanda,
)

PATTERNS = ("unstructured", "two_four")


def layer(seed: int, rows: int, length: int, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """w f32[N, K] and the Hessian of inputs that are correlated and of different power."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(rows, length, generator=generator)
    mix = torch.randn(length, length, generator=generator) / length**0.5 + 0.3
    power = 10 ** (torch.randn(length, generator=generator) / 2).clamp(-1, 1)
    hessian = Hessian(length)
    hessian.add(torch.randn(samples, length, generator=generator) @ mix * power)
    return w, hessian.matrix


@st.composite
def problems(draw):
    fours, rows = draw(st.integers(1, 40)), draw(st.integers(1, 9))
    samples = draw(st.sampled_from([5, 200]))
    w, hessian = layer(draw(st.integers(0, 2**31)), rows, 4 * fours, samples)
    pattern = draw(st.sampled_from(PATTERNS))
    ratio = 0.5 if pattern == "two_four" else draw(st.sampled_from([0.1, 0.5, 0.9]))
    return w, hessian, Rule(pattern, ratio, draw(st.sampled_from(["row", "tensor"])))


# ------------------------------------------------------------------ masks
@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 30), st.floats(0.01, 0.99))
def test_just_so_many_of_the_least_go(seed, rows, length, ratio):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 5, (rows, length), generator=generator).float()  # many are equal
    for among in ("row", "tensor"):
        kept = Rule("unstructured", ratio, among).kept(scores)
        for s, k in zip(scores, kept, strict=True) if among == "row" else [(scores, kept)]:
            count = removed(ratio, s.numel())
            assert int((~k).sum()) == count == int(ratio * s.numel() + 1e-9) < s.numel()
            assert count == 0 or float(s[~k].max()) <= float(s[k].min())


def test_counts_are_those_of_decimal_ratios():
    assert [removed(r, n) for r, n in [(0.29, 100), (0.7, 10), (0.1, 3), (0.999, 10)]] == [
        *(29, 7, 0, 9)
    ]
    assert bool(greatest(torch.zeros(2, 3), 0).all())


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 9))
def test_two_of_four_are_the_two_greatest(seed, rows, fours):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 3, (rows, 4 * fours), generator=generator).float()
    kept = two_of_four(scores)
    pairs = zip(scores.view(-1, 4), kept.view(-1, 4), strict=True)
    assert all(int(k.sum()) == 2 and s[k].min() >= s[~k].max() for s, k in pairs)


def test_wanda_is_the_weight_times_the_norm_of_its_input():
    generator = torch.Generator().manual_seed(0)
    w, x = torch.randn(5, 8, generator=generator), torch.randn(30, 8, generator=generator)
    hessian = Hessian(8)
    hessian.add(x)
    scores, want = wanda(w, hessian.matrix), w.abs() * x.norm(dim=0)
    torch.testing.assert_close(scores / scores.max(), want / want.max())
    kept = torch.rand(5, 8, generator=generator) < 0.5
    for found in (wanda(w, hessian.matrix, kept), magnitude(w, kept)):
        assert float(found[~kept].max()) < float(found[kept].min())


# ------------------------------------------------------------------ SparseGPT
@settings(max_examples=25)
@given(problems())
def test_no_row_loses_more_than_under_the_mask_alone(problem):
    w, hessian, rule = problem
    for refit in (0, 5):
        mask, values = sparsegpt(w, hessian, rule, 0.01, refit)
        assert not values[~mask].any()
        slack = 1e-9 * float((w.double() @ hessian * w).sum())
        assert bool((loss(w, values, hessian) <= loss(w, w * mask, hessian) + slack).all())
        count = int((~mask).sum())
        if rule.pattern == "two_four":
            assert bool((mask.view(-1, 4).sum(1) == 2).all())
        elif rule.among == "row":
            assert bool(((~mask).sum(1) == removed(rule.ratio, w.shape[1])).all())
        else:
            assert count == removed(rule.ratio, w.numel())


@settings(max_examples=15)
@given(problems(), st.sampled_from([2, 4]), st.sampled_from([0, 4]), st.booleans())
def test_no_row_loses_more_than_rounded_to_nearest_under_the_mask(problem, bits, group, symmetric):
    w, hessian, rule = problem
    grid = Grid(Codes.of(bits), group, torch.bfloat16, symmetric)
    for refit in (0, 5):
        mask, rounded = sparsegpt_rounded(w, hessian, rule, grid, 0.01, refit)
        nearest = decoded(grid.nearest(w * mask)) * mask
        slack = 1e-9 * float((w.double() @ hessian * w).sum())
        lost = loss(w, decoded(rounded) * mask, hessian)
        assert bool((lost <= loss(w, nearest, hessian) + slack).all())


def reference(w: torch.Tensor, hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """2:4 by the definition: remove, update all that is left by the inverse of what is left of H.

    Each removal solves for the best change of all weights that come later (eq. 3 of the paper).
    """
    h = hessian + damping * hessian.diagonal().mean() * torch.eye(len(hessian))
    fours = h.diagonal().view(-1, 4).sum(1).argsort(descending=True)
    order = torch.arange(len(h)).view(-1, 4)[fours].reshape(-1)
    out = w.double().clone()
    for row in out:
        for at in range(0, len(order), 4):
            left = [torch.linalg.inv(h[order[j:]][:, order[j:]]) for j in range(at, at + 4)]
            spread = torch.stack([inverse[0, 0] for inverse in left])
            gone = (row[order[at : at + 4]].square() / spread).argsort()[:2].tolist()
            for j in sorted(gone):
                value, inverse = row[order[at + j]].clone(), left[j]
                row[order[at + j :]] -= value / inverse[0, 0] * inverse[0]
                row[order[at + j]] = 0
    return out


def test_the_walk_is_that_of_the_definition():
    w, hessian = layer(3, 6, 24, 300)
    _, values = sparsegpt(w, hessian, Rule("two_four"), 0.01)
    want = reference(w, hessian, 0.01)
    assert torch.equal(values == 0, want == 0)
    torch.testing.assert_close(values.double(), want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_scores_in_the_order_of_what_they_know(pattern):
    """On average over layers: magnitude, Wanda, SparseGPT, and that with its values fitted."""
    row = Rule(pattern, 0.5)
    lost = torch.zeros(4, dtype=torch.float64)
    for seed in range(6):
        w, hessian = layer(seed, 32, 192, 1000)
        made = [
            w * row.kept(magnitude(w)),
            w * row.kept(wanda(w, hessian)),
            sparsegpt(w, hessian, row)[1],
            sparsegpt(w, hessian, row, refit=20)[1],
        ]
        lost += torch.stack([loss(w, m, hessian).sum() for m in made]) / len(made)
    assert bool((lost.diff() < 0).all())


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_together_loses_no_more_than_one_after_the_other(pattern, bits):
    """On average over layers, with and without fitted values."""
    grid, rule = Grid(Codes.of(bits), 32, torch.bfloat16), Rule(pattern)
    for refit in (0, 20):
        together = one_by_one = 0.0
        for seed in range(6):
            w, hessian = layer(seed, 48, 192, 1000)
            mask, rounded = sparsegpt_rounded(w, hessian, rule, grid, 0.01, refit)
            together += float(loss(w, decoded(rounded) * mask, hessian).sum())
            mask, values = sparsegpt(w, hessian, rule, 0.01, refit)
            rounded = gptq(values, hessian, grid, 0.01, kept=mask)
            one_by_one += float(loss(w, decoded(rounded) * mask, hessian).sum())
        assert together <= one_by_one * (1 + 1e-6)


def test_what_was_left_out_before_stays_so():
    w, hessian = layer(5, 16, 96, 400)
    before = torch.rand(16, 96, generator=torch.Generator().manual_seed(0)) < 0.6
    for refit in (0, 10):
        mask, values = sparsegpt(
            w * before, hessian, Rule("unstructured", 0.7), 0.01, refit, before
        )
        assert not (mask & ~before).any() and not values[~before].any()
        assert int((~mask).sum()) >= removed(0.7, w.numel())


def test_inputs_without_power_and_one_input():
    w, hessian = layer(6, 8, 32, 100)
    hessian[5], hessian[:, 5] = 0, 0
    mask, values = sparsegpt(w, hessian, Rule("two_four"), 0.01, 5)
    assert bool(values.isfinite().all())
    zeros = sparsegpt(w, torch.zeros_like(hessian), Rule(), 0.01, 5)
    assert torch.equal(zeros[1], w * zeros[0])
    mask, values = sparsegpt(w[:, :1], hessian[:1, :1], Rule())
    assert int(mask.sum()) == 4


def test_hessians_that_do_not_fit_are_refused():
    w, hessian = layer(7, 4, 16, 50)
    with pytest.raises(PassError, match="positive definite"):
        sparsegpt(w, -hessian, Rule())


# ------------------------------------------------------------------ least squares
@settings(max_examples=20)
@given(problems(), st.integers(0, 12))
def test_no_step_loses(problem, steps):
    w, hessian, rule = problem
    h = hessian + torch.eye(len(hessian)) * hessian.diagonal().mean() * 0.01
    mask = rule.kept(magnitude(w))
    made = fitted(w, w * mask, mask, h, steps)
    assert not made[~mask].any()
    slack = 1e-5 * float((w.double() @ h * w).sum())
    assert bool((loss(w, made, h) <= loss(w, w * mask, h) + slack).all())


def test_many_steps_are_the_least_squares():
    """Against torch's solver, row by row."""
    w, hessian = layer(8, 6, 40, 500)
    h = hessian + torch.eye(40) * hessian.diagonal().mean() * 0.1
    mask = torch.rand(6, 40, generator=torch.Generator().manual_seed(0)) < 0.5
    made = fitted(w, w * mask, mask, h, 60)
    for row in range(6):
        kept = mask[row].nonzero().squeeze(1)
        want = torch.linalg.solve(h[kept][:, kept], h[kept] @ w[row].double())
        torch.testing.assert_close(made[row, kept].double(), want, rtol=1e-3, atol=1e-3)
