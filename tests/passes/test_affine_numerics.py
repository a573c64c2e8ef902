"""Scales and rounding: bounds, exact zeros, storage dtypes, and searches that never lose."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.passes.numerics.affine import (
    Codes,
    absmax_scale,
    choose_scales,
    dequantize,
    minmax_scale,
    mse_scale,
    quantize,
    round_scale,
)

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
half = settings(max_examples=50)


@st.composite
def blocks(draw):
    """w f32[N, R, G] of very different magnitudes, some of it zero or of one sign."""
    shape = tuple(draw(st.integers(1, 6)) for _ in range(3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    w = torch.randn(shape, generator=generator)
    w = w * 10.0 ** torch.randint(-3, 3, (*shape[:2], 1), generator=generator)
    kind = draw(st.sampled_from(["plain", "positive", "negative", "zeros", "sparse"]))
    if kind == "zeros":
        w = w * 0
    if kind == "sparse":
        w = w * (torch.rand(shape, generator=generator) < 0.3)
    return {"positive": w.abs(), "negative": -w.abs()}.get(kind, w)


@st.composite
def settings_of_codes(draw):
    codes = Codes.of(draw(st.integers(2, 8)), draw(st.booleans()))
    return codes, draw(st.sampled_from(DTYPES))


def squared_error(w, scale_and_zero, codes):
    scale, zero = scale_and_zero
    return (dequantize(quantize(w, scale, zero, codes), scale, zero) - w).square().sum(-1)


@pytest.mark.parametrize(
    ("bits", "narrow", "interval"),
    [(8, True, (-127, 127)), (8, False, (-128, 127)), (4, True, (-7, 7)), (2, False, (-2, 1))],
)
def test_intervals_of_codes(bits, narrow, interval):
    codes = Codes.of(bits, narrow)
    assert (codes.low, codes.high) == interval


@half
@given(blocks(), settings_of_codes())
def test_absmax_is_off_by_half_a_step_at_most(w, setting):
    """|w - w'| <= scale / 2 for every weight, up to the rounding of w / scale (of 127 steps)."""
    codes, dtype = setting
    scale = absmax_scale(w, codes, dtype)
    error = (dequantize(quantize(w, scale, None, codes), scale, None) - w).abs()
    assert bool((error <= scale.float().unsqueeze(-1) * (0.5 + 127 * 2**-23)).all())


@half
@given(blocks(), settings_of_codes())
def test_minmax_is_off_by_half_a_step_at_most(w, setting):
    """The same with zero points: its rounding moves the range by half a step at most."""
    codes, dtype = setting
    scale, zero = minmax_scale(w, codes, dtype)
    error = (dequantize(quantize(w, scale, zero, codes), scale, zero) - w).abs()
    assert bool((error <= scale.float().unsqueeze(-1) * (0.5 + 255 * 2**-23)).all())


@half
@given(blocks(), settings_of_codes(), st.booleans(), st.sampled_from(["absmax", "mse"]))
def test_scales_are_positive_in_their_dtype_and_zero_is_exact(w, setting, symmetric, method):
    codes, dtype = setting
    scale, zero = choose_scales(w, codes, dtype, symmetric, method)
    assert scale.dtype == dtype
    assert scale.shape == w.shape[:2]
    assert bool((scale > 0).all())
    assert (zero is None) is symmetric
    if zero is not None:
        assert codes.low <= int(zero.min()) and int(zero.max()) <= codes.high
    nothing = torch.zeros_like(w)
    code = quantize(nothing, scale, zero, codes)
    assert not dequantize(code, scale, zero).any()


@half
@given(blocks(), settings_of_codes(), st.booleans())
def test_mse_is_never_worse_than_the_whole_range(w, setting, symmetric):
    codes, dtype = setting
    whole = (absmax_scale(w, codes, dtype), None) if symmetric else minmax_scale(w, codes, dtype)
    best = mse_scale(w, codes, dtype, symmetric)
    assert bool((squared_error(w, best, codes) <= squared_error(w, whole, codes)).all())


@half
@given(blocks(), settings_of_codes(), st.booleans(), st.sampled_from(["absmax", "mse"]))
def test_requantizing_gives_the_same_codes(w, setting, symmetric, method):
    codes, dtype = setting
    scale, zero = choose_scales(w, codes, dtype, symmetric, method)
    code = quantize(w, scale, zero, codes)
    again = quantize(dequantize(code, scale, zero), scale, zero, codes)
    assert torch.equal(code, again)


@pytest.mark.parametrize(("bits", "group"), [(2, 64), (3, 64), (4, 32), (4, 128), (8, 512)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_mse_comes_near_an_exhaustive_search(bits, group, symmetric):
    """Against 300 shrink factors per block: at most 1 % more squared error, on heavy tails."""
    torch.manual_seed(0)
    w = torch.distributions.StudentT(4.0).sample((64, 512)).view(-1, 1, group)
    codes = Codes.of(bits)
    best = torch.full(w.shape[:2], math.inf)
    for factor in torch.linspace(0.05, 1.0, 300):
        scaled = w * factor  # the range of shrunk weights is the shrunk range
        whole = absmax_scale(scaled, codes, torch.float32)
        candidate = (whole, None) if symmetric else minmax_scale(scaled, codes, torch.float32)
        best = torch.minimum(best, squared_error(w, candidate, codes))
    found = squared_error(w, mse_scale(w, codes, torch.float32, symmetric), codes)
    assert float(found.sum()) <= 1.01 * float(best.sum())


def test_mse_clips_a_lone_outlier():
    w = torch.randn(1, 1, 512, generator=torch.Generator().manual_seed(0))
    w[0, 0, 7] = 12.0
    codes = Codes.of(3)
    clipped = squared_error(w, mse_scale(w, codes, torch.bfloat16, True), codes)
    whole = squared_error(w, (absmax_scale(w, codes, torch.bfloat16), None), codes)
    assert float(clipped) < 0.5 * float(whole)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_up_is_the_least_that_is_not_smaller(dtype):
    wide = torch.rand(1000, generator=torch.Generator().manual_seed(0)) + 0.01
    up = round_scale(wide, dtype, up=True)
    assert bool((up.float() >= wide).all())
    assert bool((up.float() - wide <= wide * torch.finfo(dtype).eps).all())
    nearest = round_scale(wide, dtype)
    assert torch.equal(nearest, wide.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_vanishing_scales_become_the_least_normal_number(dtype):
    tiny = torch.finfo(dtype).tiny
    assert round_scale(torch.tensor([0.0, 1e-44]), dtype).tolist() == [tiny, tiny]


def test_chunks_do_not_change_the_result(monkeypatch):
    w = torch.randn(40, 2, 16, generator=torch.Generator().manual_seed(0))
    codes = Codes.of(4)
    whole = choose_scales(w, codes, torch.bfloat16, False, "mse")
    monkeypatch.setattr("edgec.passes.numerics.affine.CHUNK", 64)
    parts = choose_scales(w, codes, torch.bfloat16, False, "mse")
    for one, other in zip(whole, parts, strict=True):
        assert one is not None and other is not None
        assert torch.equal(one, other)
