"""GPTQ: never behind rounding to nearest, equal to it without correlations, exact in its codes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.errors import PassError
from edgec.passes.numerics.affine import Codes, quantize
from edgec.passes.numerics.descent import cycle, descend, loss, refit
from edgec.passes.numerics.gptq import Hessian, gptq, inverse_factor
from edgec.passes.numerics.grid import Grid, decoded

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def layer(seed: int, rows: int, length: int, samples: int):
    """w f32[N, K] and the Hessian of inputs that are correlated and of different power."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(rows, length, generator=generator)
    mix = torch.randn(length, length, generator=generator) / length**0.5 + 0.5
    power = 10 ** torch.randn(length, generator=generator).clamp(-1, 1)
    x = torch.randn(samples, length, generator=generator) @ mix * power
    hessian = Hessian(length)
    hessian.add(x)
    return w, x, hessian.matrix


@st.composite
def problems(draw):
    group = draw(st.sampled_from([0, 4, 16, 48]))
    length = draw(st.integers(1, 4)) * (group or 13)
    sizes = draw(st.integers(1, 9)), length, draw(st.integers(1, 60))
    w, _, hessian = layer(draw(st.integers(0, 2**31)), *sizes)
    return w, hessian, group


@st.composite
def grids(draw, group):
    codes = Codes.of(draw(st.integers(2, 8)), draw(st.booleans()))
    scales = draw(st.sampled_from(["mse", "absmax"]))
    return Grid(codes, group, draw(st.sampled_from(DTYPES)), draw(st.booleans()), scales)


@settings(max_examples=60)
@given(st.data(), problems(), st.sampled_from(["activation", "natural"]))
def test_no_row_loses_more_than_by_rounding_to_nearest(data, problem, order):
    w, hessian, group = problem
    grid = data.draw(grids(group))
    found, nearest = gptq(w, hessian, grid, order=order), grid.nearest(w)
    got, bound = (loss(w, decoded(r), hessian) for r in (found, nearest))
    assert bool((got <= bound).all())
    codes, scale, zero = found
    assert codes.shape == w.shape and scale.shape == nearest[1].shape
    assert scale.dtype == grid.dtype and (zero is None) is grid.symmetric
    assert grid.codes.low <= int(codes.min()) and int(codes.max()) <= grid.codes.high


@settings(max_examples=30)
@given(st.data(), problems(), st.sampled_from(["activation", "natural"]))
def test_without_correlations_it_is_rounding_to_nearest(data, problem, order):
    w, _, group = problem
    grid = data.draw(grids(group))
    made = gptq(w, torch.eye(w.shape[1]).double() * 3, grid, order=order)
    want = grid.nearest(w)
    assert torch.equal(made[0], want[0]) and torch.equal(made[1], want[1])
    assert made[2] is None or torch.equal(made[2], want[2])


@pytest.mark.parametrize("order", ["activation", "natural"])
@pytest.mark.parametrize("group", [0, 32, 192])
def test_much_is_gained_on_correlated_inputs(order, group):
    """Over blocks of lazy updates, groups within a block and groups greater than one."""
    w, x, hessian = layer(0, 24, 384, 2000)
    grid = Grid(Codes.of(4), group, torch.bfloat16)
    got, want = decoded(gptq(w, hessian, grid, order=order)), decoded(grid.nearest(w))
    lost, nearest = ((x @ (w - m).T).square().sum() for m in (got, want))
    assert lost < 0.6 * nearest


def test_lazy_updates_in_blocks_are_the_plain_algorithm():
    """Against one column after the other, each followed by the update of all columns behind it."""
    w, _, hessian = layer(1, 7, 300, 600)
    grid = Grid(Codes.of(4, narrow=True), 0, torch.float32)
    scale, _ = grid.fit(w)
    _, factor = inverse_factor(hessian, 0.01)
    left, codes = w.clone(), torch.empty_like(w)
    for j in range(w.shape[1]):
        code = quantize(left[:, j : j + 1], scale[:, 0], None, grid.codes).float()
        codes[:, j] = code[:, 0]
        error = (left[:, j] - scale[:, 0] * code[:, 0]) / factor[j, j]
        left[:, j + 1 :] -= error[:, None] * factor[j, j + 1 :]
    found = gptq(w, hessian, grid, order="natural")[0]
    better = loss(w, scale * codes, hessian) < loss(w, decoded(grid.nearest(w)), hessian)
    assert int(better.sum()) >= 6
    assert float((found == codes)[better].float().mean()) > 0.99


def test_inputs_that_are_always_zero_keep_their_weights():
    w, x, _ = layer(2, 8, 64, 300)
    dead = torch.arange(64) % 5 == 0
    x[:, dead] = 0
    hessian = Hessian(64)
    hessian.add(x)
    grid = Grid(Codes.of(4), 16, torch.bfloat16)
    codes = gptq(w, hessian.matrix, grid)[0]
    assert torch.equal(codes[:, dead], grid.nearest(w)[0][:, dead])


def test_inputs_that_are_all_zero_or_too_few_are_no_problem():
    grid = Grid(Codes.of(3), 0, torch.bfloat16, symmetric=False)
    w, _, one = layer(3, 5, 40, 1)
    assert torch.equal(gptq(w, torch.zeros(40, 40).double(), grid)[0], grid.nearest(w)[0])
    assert bool(gptq(w, one, grid)[1].isfinite().all())
    assert bool(gptq(w, one, grid, damping=1e-300)[1].isfinite().all())


def test_what_a_mask_leaves_out_is_made_up_for():
    w, _, hessian = layer(4, 16, 64, 500)
    kept = torch.rand(16, 64, generator=torch.Generator().manual_seed(0)) < 0.7
    grid = Grid(Codes.of(4), 16, torch.bfloat16)
    aware = decoded(gptq(w, hessian, grid, kept=kept)) * kept
    unaware = decoded(gptq(w * kept, hessian, grid)) * kept
    assert float(loss(w, aware, hessian).sum()) < 0.8 * float(loss(w, unaware, hessian).sum())


def test_results_are_the_same_every_time():
    w, _, hessian = layer(5, 16, 256, 300)
    grid = Grid(Codes.of(4), 32, torch.bfloat16, symmetric=False)
    first, second = (gptq(w.clone(), hessian.clone(), grid) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))  # type: ignore[arg-type]


def test_the_arguments_are_left_alone():
    w, _, hessian = layer(6, 8, 64, 100)
    before = w.clone(), hessian.clone()
    gptq(w, hessian, Grid(Codes.of(4), 16, torch.bfloat16), order="natural")
    assert torch.equal(w, before[0]) and torch.equal(hessian, before[1])


def test_scales_beyond_their_dtype_are_handed_back():
    w, _, hessian = layer(7, 8, 64, 100)
    assert bool(gptq(w * 1e9, hessian, Grid(Codes.of(2), 0, torch.float16))[1].isinf().any())


def test_hessians_that_do_not_fit_are_refused():
    w, grid = torch.ones(4, 8), Grid(Codes.of(4), 0, torch.bfloat16)
    with pytest.raises(PassError, match=r"Hessian \[7, 7\]; need \[8, 8\]"):
        gptq(w, torch.eye(7).double(), grid)
    with pytest.raises(PassError, match="NaN or infinite"):
        gptq(w, torch.full((8, 8), torch.inf).double(), grid)


# ------------------------------------------------------------------ codes and scales in turns
@settings(max_examples=40)
@given(st.data(), problems())
def test_no_turn_loses_more(data, problem):
    w, hessian, group = problem
    grid = data.draw(grids(group))
    start = grid.nearest(w)
    for step in (refit(w, start, hessian), cycle(w, start, hessian, grid)):
        assert bool((loss(w, decoded(step), hessian) <= loss(w, decoded(start), hessian)).all())
        assert step[1].dtype == grid.dtype and bool((step[1] > 0).all())
        assert grid.codes.low <= int(step[0].min()) and int(step[0].max()) <= grid.codes.high


@pytest.mark.parametrize("symmetric", [True, False])
def test_fitted_scales_are_those_of_least_squares(symmetric):
    """Against torch's solver on the products with the inputs themselves."""
    w, x, hessian = layer(8, 5, 48, 200)
    grid = Grid(Codes.of(3), 16, torch.float32, symmetric, "absmax")
    codes, _, zero = start = grid.nearest(w)
    fitted = refit(w, start, hessian)[1]
    q = codes.float() if zero is None else codes - zero.repeat_interleave(16, 1).float()
    for row in range(5):
        columns = (x * q[row]).unflatten(1, (3, 16)).sum(-1)
        want = torch.linalg.lstsq(columns.double(), (x @ w[row]).double().unsqueeze(1)).solution
        torch.testing.assert_close(fitted[row].double(), want.squeeze(1), rtol=1e-3, atol=0)


def test_one_cycle_is_one_best_code_after_the_other():
    """Against all codes tried for each weight in turn, over blocks of lazy gradients."""
    w, _, hessian = layer(9, 3, 150, 400)
    grid = Grid(Codes.of(2), 0, torch.float32)
    codes, scale, _ = start = grid.nearest(w)
    found, tried = cycle(w, start, hessian, grid)[0], codes.clone()
    for j in range(150):
        losses = []
        for code in range(-2, 2):
            tried[:, j] = code
            losses.append(loss(w, scale * tried, hessian))
        tried[:, j] = torch.stack(losses).argmin(0).to(torch.int8) - 2
    assert float((found == tried).float().mean()) > 0.99


@pytest.mark.parametrize("masked", [False, True])
def test_turns_gain_on_what_gptq_found(masked):
    w, _, hessian = layer(10, 24, 192, 2000)
    kept = torch.rand(24, 192, generator=torch.Generator().manual_seed(0)) < 0.7
    given_mask = kept if masked else None
    grid = Grid(Codes.of(3), 32, torch.bfloat16)
    plain = gptq(w, hessian, grid, kept=given_mask)
    turned = descend(w, plain, hessian, grid, 2, given_mask)
    made, before = (decoded(r) * (kept if masked else 1) for r in (turned, plain))
    assert float(loss(w, made, hessian).sum()) < 0.95 * float(loss(w, before, hessian).sum())


# ------------------------------------------------------------------ inputs that have changed
def test_corrected_weights_are_those_of_least_squares():
    generator = torch.Generator().manual_seed(0)
    w, x, change = (torch.randn(n, 40, generator=generator) for n in (6, 400, 400))
    original = x + 0.1 * change
    hessian = Hessian(40)
    hessian.add(x[:100], original[:100])
    hessian.add(x[100:], original[100:])
    want = torch.linalg.lstsq(x.double(), (original @ w.T).double()).solution.T
    torch.testing.assert_close(hessian.corrected(w, 1e-12).double(), want, rtol=1e-3, atol=1e-3)
    same = Hessian(40)
    same.add(x, x)
    torch.testing.assert_close(same.corrected(w, 0.01), w)
