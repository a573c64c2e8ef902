"""Unary functions."""

from __future__ import annotations

import math
from typing import Any

from edgec.capture.call import Call
from edgec.capture.registry import aten
from edgec.ir.graph import Value
from edgec.ir.types import DType


def floats(c: Call, x: Value) -> Value:
    """`x` in the result's float dtype: torch computes these functions of integers in float."""
    return c.cast(x, c.dtype)


# ------------------------------------------------------------------ functions that are ops
_SAME = {
    "exp": "exp",
    "log": "log",
    "sqrt": "sqrt",
    "rsqrt": "rsqrt",
    "reciprocal": "reciprocal",
    "sin": "sin",
    "cos": "cos",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "special_expit": "sigmoid",
    "erf": "erf",
    "special_erf": "erf",
}


def _register_floats(overload: str, op: str) -> None:
    @aten(overload)
    def convert(c: Call, x: Value) -> Value:
        return c.value(getattr(c.b, op)(floats(c, x)))


for _overload, _op in _SAME.items():
    _register_floats(_overload, _op)


@aten("abs", "absolute")
def absolute(c: Call, x: Value) -> Value:
    return c.value(c.b.abs(x))


@aten("neg", "negative")
def neg(c: Call, x: Value) -> Value:
    return c.value(c.b.neg(x))


@aten("sign", "sgn")
def sign(c: Call, x: Value) -> Value:
    return x if x.type.dtype is DType.BOOL else c.value(c.b.sign(x))


@aten("floor")
def floor(c: Call, x: Value) -> Value:
    return c.value(c.b.floor(x)) if x.type.dtype.is_float else x


@aten("ceil")
def ceil(c: Call, x: Value) -> Value:
    return c.value(c.b.ceil(x)) if x.type.dtype.is_float else x


@aten("round")
def round_(c: Call, x: Value) -> Value:
    return c.value(c.b.round(x)) if x.type.dtype.is_float else x


@aten("round.decimals")
def round_decimals(c: Call, x: Value, decimals: int) -> Value:
    power = c.number(10.0 ** abs(decimals), c.dtype)
    there, back = (c.b.mul, c.b.div) if decimals >= 0 else (c.b.div, c.b.mul)
    return c.value(back(c.b.round(there(x, power)), power))


@aten("trunc", "fix")
def trunc(c: Call, x: Value) -> Value:
    if not x.type.dtype.is_float:
        return x
    return c.value(c.b.mul(c.b.sign(x), c.b.floor(c.b.abs(x))))


@aten("frac")
def frac(c: Call, x: Value) -> Value:
    return c.value(c.b.sub(x, trunc(c, x)))


# ------------------------------------------------------------------ functions made of others
def scaled(c: Call, x: Value, factor: float) -> Value:
    return c.value(c.b.mul(x, c.number(factor, x.type.dtype)))


@aten("log2")
def log2(c: Call, x: Value) -> Value:
    return scaled(c, c.b.log(floats(c, x)), 1 / math.log(2))


@aten("log10")
def log10(c: Call, x: Value) -> Value:
    return scaled(c, c.b.log(floats(c, x)), 1 / math.log(10))


@aten("exp2", "special_exp2")
def exp2(c: Call, x: Value) -> Value:
    return c.value(c.b.pow(c.number(2.0, c.dtype), floats(c, x)))


@aten("log1p", "special_log1p")
def log1p(c: Call, x: Value) -> Value:
    """log(1 + x), exact near 0: the rounding of u = 1 + x is divided out.

    Source: Kahan, as in Goldberg 1991, "What every computer scientist should know ...", theorem 4.
    """
    x = floats(c, x)
    one = c.number(1.0, c.dtype)
    u = c.b.add(one, x)
    lost = c.b.sub(u, one)
    # u = 1 gives x itself; infinity must not become inf / inf
    plain = c.b.logical_or(c.b.eq(lost, c.number(0.0, c.dtype)), c.b.eq(u, x))
    divisor = c.b.where(plain, one, lost)
    accurate = c.b.mul(c.b.log(u), c.b.div(x, divisor))
    limit = c.b.where(c.b.eq(u, x), c.b.log(u), x)
    return c.value(c.b.where(plain, limit, accurate))


@aten("expm1", "special_expm1")
def expm1(c: Call, x: Value) -> Value:
    """exp(x) - 1, exact near 0: tanh(x/2) (exp(x) + 1) where |x| < 1."""
    x = floats(c, x)
    one = c.number(1.0, c.dtype)
    grown = c.b.exp(x)
    near = c.b.lt(c.b.abs(x), one)
    inner = c.b.where(near, x, c.number(0.0, c.dtype))
    small = c.b.mul(c.b.tanh(scaled(c, inner, 0.5)), c.b.add(c.b.exp(inner), one))
    return c.value(c.b.where(near, small, c.b.sub(grown, one)))


@aten("erfc", "special_erfc")
def erfc(c: Call, x: Value) -> Value:
    return c.value(c.b.sub(c.number(1.0, c.dtype), c.b.erf(floats(c, x))))


@aten("tan")
def tan(c: Call, x: Value) -> Value:
    x = floats(c, x)
    return c.value(c.b.div(c.b.sin(x), c.b.cos(x)))


@aten("sinh")
def sinh(c: Call, x: Value) -> Value:
    x = floats(c, x)
    grown = expm1(c, x)
    # (e^x - 1 + (e^x - 1) / e^x) / 2 keeps its digits near 0
    return scaled(c, c.b.add(grown, c.b.div(grown, c.b.exp(x))), 0.5)


@aten("cosh")
def cosh(c: Call, x: Value) -> Value:
    x = floats(c, x)
    return scaled(c, c.b.add(c.b.exp(x), c.b.exp(c.b.neg(x))), 0.5)


@aten("asinh", "arcsinh")
def asinh(c: Call, x: Value) -> Value:
    """sign(x) log1p(|x| + x^2 / (1 + sqrt(1 + x^2)))."""
    x = floats(c, x)
    one = c.number(1.0, c.dtype)
    squared = c.b.mul(x, x)
    grown = c.b.div(squared, c.b.add(one, c.b.sqrt(c.b.add(one, squared))))
    return c.value(c.b.mul(c.b.sign(x), log1p(c, c.b.add(c.b.abs(x), grown))))


@aten("acosh", "arccosh")
def acosh(c: Call, x: Value) -> Value:
    x = floats(c, x)
    root = c.b.sqrt(c.b.sub(c.b.mul(x, x), c.number(1.0, c.dtype)))
    return c.value(c.b.log(c.b.add(x, root)))


@aten("atanh", "arctanh")
def atanh(c: Call, x: Value) -> Value:
    """log1p(2x / (1 - x)) / 2."""
    x = floats(c, x)
    ratio = c.b.div(scaled(c, x, 2.0), c.b.sub(c.number(1.0, c.dtype), x))
    return scaled(c, log1p(c, ratio), 0.5)


@aten("square")
def square(c: Call, x: Value) -> Value:
    return c.value(c.b.pow(x, c.number(2, x.type.dtype)))


@aten("deg2rad")
def deg2rad(c: Call, x: Value) -> Value:
    return scaled(c, floats(c, x), math.pi / 180)


@aten("rad2deg")
def rad2deg(c: Call, x: Value) -> Value:
    return scaled(c, floats(c, x), 180 / math.pi)


@aten("logit", "special_logit")
def logit(c: Call, x: Value, eps: float | None) -> Value:
    x = floats(c, x)
    if eps is not None:
        x = c.b.clamp(x, min=eps, max=1 - eps)
    return c.value(c.b.log(c.b.div(x, c.b.sub(c.number(1.0, c.dtype), x))))


@aten("sinc", "special_sinc")
def sinc(c: Call, x: Value) -> Value:
    x = floats(c, x)
    zero, one = c.number(0.0, c.dtype), c.number(1.0, c.dtype)
    at_zero = c.b.eq(x, zero)
    angle = scaled(c, c.b.where(at_zero, one, x), math.pi)
    return c.value(c.b.where(at_zero, one, c.b.div(c.b.sin(angle), angle)))


# ------------------------------------------------------------------ inverse trigonometry
# atan x = x P(x^2) on |x| <= tan(pi/8): Cephes' atanf (S. Moshier 1992), relative error 2e-7.
_ATAN = (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)


@aten("atan", "arctan")
def atan(c: Call, x: Value) -> Value:
    """Range reduction to |x| <= tan(pi/8) by atan x = pi/2 - atan(1/x) = pi/4 +
    atan((x-1)/(x+1))."""
    x = floats(c, x)
    b, one = c.b, c.number(1.0, c.dtype)
    size = b.abs(x)
    large = b.gt(size, c.number(math.tan(3 * math.pi / 8), c.dtype))
    middle = b.gt(size, c.number(math.tan(math.pi / 8), c.dtype))
    inverted = b.neg(b.reciprocal(b.where(large, size, one)))
    shifted = b.div(b.sub(size, one), b.add(size, one))
    reduced = b.where(large, inverted, b.where(middle, shifted, size))
    offsets = [c.number(v, c.dtype) for v in (math.pi / 2, math.pi / 4, 0.0)]
    offset = b.where(large, offsets[0], b.where(middle, offsets[1], offsets[2]))
    z = b.mul(reduced, reduced)
    total: Any = c.number(_ATAN[0], c.dtype)
    for coefficient in _ATAN[1:]:
        total = b.add(b.mul(total, z), c.number(coefficient, c.dtype))
    angle = b.add(b.mul(b.mul(total, z), reduced), reduced)
    return c.value(b.mul(b.sign(x), b.add(offset, angle)))


@aten("asin", "arcsin")
def asin(c: Call, x: Value) -> Value:
    """2 atan(x / (1 + sqrt(1 - x^2))): no division by 0 at x = 1."""
    x = floats(c, x)
    one = c.number(1.0, c.dtype)
    root = c.b.sqrt(c.b.mul(c.b.sub(one, x), c.b.add(one, x)))
    return scaled(c, atan(c, c.b.div(x, c.b.add(one, root))), 2.0)


@aten("acos", "arccos")
def acos(c: Call, x: Value) -> Value:
    return c.value(c.b.sub(c.number(math.pi / 2, c.dtype), asin(c, x)))


@aten("atan2", "arctan2")
def atan2(c: Call, y: Value, x: Value) -> Value:
    """The half of the angle has the tangent y / (r + x): with x < 0 reflected, r + |x| > 0."""
    y, x = c.promoted(y, x, dtype=c.dtype)
    b, zero = c.b, c.number(0.0, c.dtype)
    r = b.sqrt(b.add(b.mul(x, x), b.mul(y, y)))
    total = b.add(r, b.abs(x))
    origin = b.eq(total, zero)
    half = b.div(b.abs(y), b.where(origin, c.number(1.0, c.dtype), total))
    angle = scaled(c, atan(c, half), 2.0)
    behind = b.lt(x, zero)
    angle = b.where(behind, b.sub(c.number(math.pi, c.dtype), angle), angle)
    return c.value(b.where(b.lt(y, zero), b.neg(angle), angle))
