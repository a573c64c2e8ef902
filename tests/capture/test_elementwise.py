"""Elementwise overloads against eager: functions, arithmetic, promotion, logic, activations."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.export import Dim

from tests.capture.harness import check_family

ROWS = Dim("rows", min=1, max=64)


def numbers(**extra: torch.Tensor) -> dict[str, torch.Tensor]:
    """Floats of both signs, positive ones, ones in (-1, 1), integers, bools: all [rows, 6]."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(4, 6, generator=generator)
    return {
        "x": x,
        "y": torch.randn(4, 6, generator=generator),
        "positive": torch.rand(4, 6, generator=generator) + 0.5,
        "unit": torch.rand(4, 6, generator=generator) * 1.8 - 0.9,
        "i": torch.randint(-9, 10, (4, 6), generator=generator),
        "j": torch.randint(1, 7, (4, 6), generator=generator),
        "small": torch.randint(-9, 10, (4, 6), generator=generator).to(torch.int32),
        "flag": x > 0,
        "other": x < 0.5,
        **extra,
    }


SHAPES = {name: {0: ROWS} for name in numbers()}

FUNCTIONS = (
    "abs neg sign floor ceil round trunc frac exp expm1 exp2 sin cos tan sinh cosh tanh asinh atan "
    "sigmoid erf erfc square relu sgn deg2rad rad2deg sinc positive"
).split()
OF_POSITIVE = "log log2 log10 log1p sqrt rsqrt reciprocal".split()
OF_UNIT = "asin acos atanh".split()


def test_functions_of_one_tensor() -> None:
    cases = {n: lambda t, n=n: getattr(torch, n)(t.x) for n in FUNCTIONS}
    cases |= {n: lambda t, n=n: getattr(torch, n)(t.positive) for n in OF_POSITIVE}
    cases |= {n: lambda t, n=n: getattr(torch, n)(t.unit) for n in OF_UNIT}
    cases["acosh"] = lambda t: torch.acosh(t.positive + 1)
    cases["logit"] = lambda t: torch.logit(t.positive / 2, eps=1e-3)
    cases["round_decimals"] = lambda t: torch.round(t.x, decimals=2)
    check_family(cases, numbers(), SHAPES)


def test_functions_of_integers_are_computed_in_float() -> None:
    names = "sin exp sigmoid tanh sqrt rsqrt erf log1p atan".split()
    cases = {n: lambda t, n=n: getattr(torch, n)(t.j) for n in names}
    cases |= {n: lambda t, n=n: getattr(torch, n)(t.i) for n in "abs neg sign floor".split()}
    check_family(cases, numbers(), SHAPES)


def test_functions_keep_their_digits_near_zero_and_at_the_ends() -> None:
    edges = torch.tensor([0.0, 1e-7, -1e-7, 1e-4, -1e-3, 0.3, -0.5, math.inf])
    ends = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0, 1e-6, -1e-6, 0.999])
    wide = torch.tensor([-math.inf, -50.0, -1.0, -1e-6, 0.0, 2.0, 60.0, math.inf])
    cases = {
        "log1p": lambda t: torch.log1p(t.edges) / torch.where(t.edges == 0, 1.0, t.edges).abs(),
        "expm1": lambda t: (
            torch.expm1(t.edges[:7]) / torch.where(t.edges[:7] == 0, 1.0, t.edges[:7])
        ),
        "asin": lambda t: torch.asin(t.ends),
        "acos": lambda t: torch.acos(t.ends),
        "atan": lambda t: torch.atan(t.wide),
        "logsigmoid": lambda t: F.logsigmoid(t.wide),
        "tanh": lambda t: torch.tanh(t.wide),
        "isnan": lambda t: torch.isnan(t.wide - t.wide),
        "isinf": lambda t: torch.isinf(t.wide),
        "isfinite": lambda t: torch.isfinite(t.wide),
        "isposinf": lambda t: torch.isposinf(t.wide),
        "isneginf": lambda t: torch.isneginf(t.wide),
        "nan_to_num": lambda t: torch.nan_to_num(t.wide - t.wide, nan=2.0),
        "nan_to_num_ends": lambda t: torch.nan_to_num(t.wide, posinf=7.0, neginf=-7.0),
        "fmax": lambda t: torch.fmax(t.wide - t.wide, t.ends),
        "fmin": lambda t: torch.fmin(t.ends, t.wide - t.wide),
    }
    check_family(cases, {"edges": edges, "ends": ends, "wide": wide}, tolerance=2e-6)


def test_atan2_in_every_quadrant_and_on_the_axes() -> None:
    grid = torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0])
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    check_family({"atan2": lambda t: torch.atan2(t.y, t.x)}, {"x": x, "y": y}, tolerance=1e-6)


# ------------------------------------------------------------------ arithmetic
def test_arithmetic() -> None:
    cases = {
        "add": lambda t: t.x + t.y,
        "add_alpha": lambda t: torch.add(t.x, t.y, alpha=2),
        "add_int_alpha": lambda t: torch.add(t.i, t.j, alpha=3),
        "sub": lambda t: t.x - t.y,
        "sub_alpha": lambda t: torch.sub(t.x, t.y, alpha=0.5),
        "rsub": lambda t: 2.5 - t.x,
        "rsub_int": lambda t: 3 - t.i,
        "mul": lambda t: t.x * t.y,
        "multiply": lambda t: torch.multiply(t.x, t.y),
        "div": lambda t: t.x / t.positive,
        "true_divide": lambda t: torch.true_divide(t.i, t.j),
        "div_int": lambda t: t.i / 2,
        "pow": lambda t: t.positive**t.y,
        "pow_2": lambda t: t.x**2,
        "pow_half": lambda t: t.positive**0.5,
        "pow_minus": lambda t: t.positive**-1.5,
        "pow_scalar_base": lambda t: 2**t.x,
        "pow_int": lambda t: t.i**3,
        "float_power": lambda t: torch.float_power(t.positive, 2).float(),
        "maximum": lambda t: torch.maximum(t.x, t.y),
        "minimum": lambda t: torch.minimum(t.i, t.j),
        "max_other": lambda t: torch.max(t.x, t.y),
        "addcmul": lambda t: torch.addcmul(t.x, t.y, t.positive, value=0.5),
        "addcdiv": lambda t: torch.addcdiv(t.x, t.y, t.positive, value=2.0),
        "lerp": lambda t: torch.lerp(t.x, t.y, 0.3),
        "lerp_tensor": lambda t: torch.lerp(t.x, t.y, t.positive),
        "hypot": lambda t: torch.hypot(t.x, t.y),
        "logaddexp": lambda t: torch.logaddexp(t.x, t.y),
        "xlogy": lambda t: torch.xlogy(torch.relu(t.x), t.positive),
        "copysign": lambda t: torch.copysign(t.x, t.y),
        "in_place": lambda t: t.x.clone().add_(1).mul_(t.y).clamp_(-1, 1),
        "broadcast": lambda t: t.x + t.y[:, :1] * t.x[0],
        "logaddexp_like": lambda t: torch.log(torch.exp(t.x) + 1),
    }
    check_family(cases, numbers(), SHAPES)


def test_division_modes_and_remainders_follow_torch_for_every_sign() -> None:
    a = torch.tensor([7, -7, 7, -7, 0, 6, -6])
    b = torch.tensor([2, 2, -2, -2, 3, 3, 3])
    tensors = {"a": a, "b": b, "x": a.float() + 0.5, "y": b.float()}
    cases = {}
    for mode in ("floor", "trunc", None):
        cases[f"int_{mode}"] = lambda t, m=mode: torch.div(t.a, t.b, rounding_mode=m)
        cases[f"float_{mode}"] = lambda t, m=mode: torch.div(t.x, t.y, rounding_mode=m)
        cases[f"scalar_{mode}"] = lambda t, m=mode: torch.div(t.x, 2, rounding_mode=m)
    cases |= {
        "floor_divide": lambda t: t.a // t.b,
        "floor_divide_scalar": lambda t: t.x // 2,
        "remainder": lambda t: t.a % t.b,
        "remainder_float": lambda t: t.x % t.y,
        "remainder_scalar": lambda t: t.x % 2,
        "fmod": lambda t: torch.fmod(t.a, t.b),
        "fmod_float": lambda t: torch.fmod(t.x, t.y),
        "fmod_scalar": lambda t: torch.fmod(t.x, -2),
    }
    check_family(cases, tensors)


def test_clamping() -> None:
    cases = {
        "both": lambda t: t.x.clamp(-0.5, 0.5),
        "min": lambda t: t.x.clamp(min=0.1),
        "max": lambda t: t.x.clamp(max=0.1),
        "ints": lambda t: t.i.clamp(-2, 3),
        "int_by_float": lambda t: t.i.clamp(-2.5, 3.5),
        "tensors": lambda t: torch.clamp(t.x, t.y, t.y + 1),
        "clamp_min": lambda t: torch.clamp_min(t.x, 0.2),
        "clamp_max": lambda t: torch.clamp_max(t.x, t.y),
        "clip": lambda t: torch.clip(t.x, -1, 1),
        "hardtanh": lambda t: F.hardtanh(t.x, -0.3, 0.4),
    }
    check_family(cases, numbers(), SHAPES)


# ------------------------------------------------------------------ promotion
def test_zeros_keep_their_sign_and_nan_stays() -> None:
    odd = [0.0, -0.0, 1.0, -2.0, math.inf, -math.inf]
    tensors = {"a": torch.tensor(odd), "b": torch.tensor(odd).unsqueeze(1)}
    cases = {
        "copysign": lambda t: 1 / torch.copysign(t.a, t.b),
        "copysign_scalar": lambda t: 1 / torch.copysign(t.a, -0.0),
        "signbit": lambda t: torch.signbit(t.a),
        "xlogy": lambda t: torch.xlogy(t.a, t.b),
        "xlogy_nan": lambda t: torch.xlogy(t.a, math.nan),
    }
    check_family(cases, tensors)


def test_clamping_integers_that_no_float_has() -> None:
    cases = {
        "max": lambda t: t.n.clamp(max=2**53 + 1),
        "min": lambda t: t.n.clamp(min=-(2**62) - 1),
        "both": lambda t: t.n.clamp(-(2**53) - 1, 2**60 + 1),
    }
    n = torch.tensor([2**53 + 5, -(2**63) + 7, 3, 2**62 + 1])
    check_family(cases, {"n": n})


def test_mixed_dtypes_are_promoted_as_torch_does() -> None:
    cases = {
        "int_plus_float": lambda t: t.i + t.x,
        "int_plus_scalar": lambda t: t.i + 1.5,
        "int_times_int": lambda t: t.i * 2,
        "int32_plus_int64": lambda t: t.small + t.i,
        "int32_plus_scalar": lambda t: t.small + 1,
        "bool_plus_int": lambda t: t.flag + t.i,
        "bool_plus_bool": lambda t: t.flag + t.other,
        "bool_times_bool": lambda t: t.flag * t.other,
        "bool_times_float": lambda t: t.flag * t.x,
        "bool_plus_scalar": lambda t: t.flag + 1,
        "one_minus_mask": lambda t: (1.0 - t.flag.float()) * torch.finfo(torch.float32).min,
        "rank_0_does_not_widen": lambda t: t.x.half() + torch.tensor(2.0),
        "half_plus_float": lambda t: t.x.half() + t.y,
        "compare_int_float": lambda t: t.i > t.x,
        "compare_scalar": lambda t: t.i >= 0.5,
        "compare_bools": lambda t: t.flag > t.other,
        "equal_bools": lambda t: t.flag == t.other,
        "where_mixed": lambda t: torch.where(t.flag, t.i, t.x),
        "where_scalar": lambda t: torch.where(t.flag, t.x, 0.0),
        "where_scalars": lambda t: torch.where(t.flag, 1.0, -1.0),
        "double": lambda t: (t.x.double() * 2).float(),
        "to_bool": lambda t: t.i.bool(),
        "to_int": lambda t: (t.x * 3).long(),
        "type_as": lambda t: t.i.type_as(t.x),
        "to_other": lambda t: t.i.to(t.x),
        "max_mixed": lambda t: torch.maximum(t.i, t.x),
    }
    check_family(cases, numbers(), SHAPES, tolerance=1e-3)


# ------------------------------------------------------------------ logic
def test_logic_and_bits() -> None:
    masks = torch.tensor([1, 2, 4, 8, 16, 32])
    cases = {
        "and": lambda t: t.flag & t.other,
        "or": lambda t: t.flag | t.other,
        "xor": lambda t: t.flag ^ t.other,
        "not": lambda t: ~t.flag,
        "logical_and": lambda t: torch.logical_and(t.i, t.flag),
        "logical_or": lambda t: torch.logical_or(t.flag, t.i),
        "logical_xor": lambda t: torch.logical_xor(t.flag, t.other),
        "logical_not": lambda t: torch.logical_not(t.i),
        "not_int": lambda t: ~t.i,
        "and_low_bits": lambda t: t.i & 7,
        "and_mask": lambda t: t.j & 5,
        "or_mask": lambda t: t.j | 9,
        "xor_mask": lambda t: t.i ^ 3,
        "bits_of_codes": lambda t: (t.j.unsqueeze(-1) & masks) != 0,
        "left_shift": lambda t: t.j << 2,
        "right_shift": lambda t: t.i >> 1,
        "shift_tensor": lambda t: t.j << (t.j % 3),
        "masked_fill": lambda t: t.x.masked_fill(t.flag, -1.0),
        "masked_fill_inf": lambda t: t.x.masked_fill(t.flag, float("-inf")),
        "masked_fill_tensor": lambda t: t.x.masked_fill(t.flag, torch.tensor(3.0)),
        "masked_fill_broadcast": lambda t: t.x.masked_fill(t.flag[:, :1], 0.0),
        "ne": lambda t: t.x != 0,
        "isclose": lambda t: torch.isclose(t.x, t.x + 1e-9),
        "less": lambda t: torch.less(t.x, t.y),
    }
    check_family(cases, numbers(), SHAPES)


# ------------------------------------------------------------------ activations
ACTIVATIONS: dict[str, nn.Module] = {
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "elu": nn.ELU(0.7),
    "celu": nn.CELU(1.3),
    "selu": nn.SELU(),
    "leaky": nn.LeakyReLU(0.2),
    "prelu_one": nn.PReLU(),
    "prelu_each": nn.PReLU(6, 0.1),
    "rrelu": nn.RReLU(),
    "softplus": nn.Softplus(2.0, 3.0),
    "softsign": nn.Softsign(),
    "tanhshrink": nn.Tanhshrink(),
    "hardshrink": nn.Hardshrink(),
    "softshrink": nn.Softshrink(0.3),
    "hardtanh": nn.Hardtanh(-0.5, 0.6),
    "hardsigmoid": nn.Hardsigmoid(),
    "hardswish": nn.Hardswish(),
    "logsigmoid": nn.LogSigmoid(),
    "threshold": nn.Threshold(0.1, -5.0),
    "glu": nn.GLU(),
    "softmax": nn.Softmax(-1),
    "softmin": nn.Softmin(1),
    "log_softmax": nn.LogSoftmax(-1),
    "dropout": nn.Dropout(0.5),
    "alpha_dropout": nn.AlphaDropout(0.5),
    "identity": nn.Identity(),
    "cosine": nn.CosineSimilarity(1),
}


def test_activation_modules() -> None:
    cases = {
        n: (lambda t, n=n: getattr(t, n)(t.x, t.y) if n == "cosine" else getattr(t, n)(t.x))
        for n in ACTIVATIONS
    }
    check_family(cases, numbers(), SHAPES, ACTIVATIONS)


def test_softmax_of_integers_and_halves_as_float() -> None:
    cases = {
        "dtype": lambda t: torch.softmax(t.x.half(), -1, dtype=torch.float32),
        "log_dtype": lambda t: F.log_softmax(t.x.half(), -1, dtype=torch.float32),
        "axis_0": lambda t: torch.softmax(t.x, 0),
        "quick_gelu": lambda t: t.x * torch.sigmoid(1.702 * t.x),
        "new_gelu": lambda t: (
            0.5 * t.x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (t.x + 0.044715 * t.x**3)))
        ),
    }
    check_family(cases, numbers(), SHAPES)


@pytest.mark.parametrize("rank", [1, 3, 4])
def test_prelu_reads_one_weight_for_each_channel(rank: int) -> None:
    shape = (2, 5, 3, 4)[:rank] if rank > 1 else (5,)
    module = nn.PReLU(5 if rank > 1 else 1)
    with torch.no_grad():
        module.weight.copy_(torch.linspace(0.1, 0.9, module.weight.numel()))
    check_family({"y": lambda t: t.prelu(t.x)}, {"x": torch.randn(shape)}, None, {"prelu": module})
