"""Binary arithmetic, with torch's promotion of dtypes."""

from __future__ import annotations

from collections.abc import Callable

from edgec.capture.aten.elementwise import trunc
from edgec.capture.call import Call, Scalar
from edgec.capture.registry import aten
from edgec.ir.graph import Value
from edgec.ir.types import DType


def product(c: Call, a: Scalar, b: Scalar, dtype: DType) -> Value:
    """a * b in `dtype`; a factor of 1 costs nothing, and bool multiplies as `and`."""
    if not isinstance(b, Value) and b == 1:
        return c.operand(a, dtype)
    x, y = c.promoted(a, b, dtype=dtype)
    return c.value(c.b.logical_and(x, y) if dtype is DType.BOOL else c.b.mul(x, y))


@aten("add.Tensor", "add.Scalar")
def add(c: Call, a: Scalar, b: Scalar, alpha: Scalar = 1) -> Value:
    x, y = c.operand(a, c.dtype), product(c, b, alpha, c.dtype)
    return c.value(c.b.logical_or(x, y) if c.dtype is DType.BOOL else c.b.add(x, y))


@aten("sub.Tensor", "sub.Scalar", "subtract.Tensor", "subtract.Scalar")
def sub(c: Call, a: Scalar, b: Scalar, alpha: Scalar = 1) -> Value:
    return c.value(c.b.sub(c.operand(a, c.dtype), product(c, b, alpha, c.dtype)))


@aten("rsub.Tensor", "rsub.Scalar")
def rsub(c: Call, a: Scalar, b: Scalar, alpha: Scalar = 1) -> Value:
    return sub(c, b, a, alpha)


@aten("mul.Tensor", "mul.Scalar", "multiply.Tensor", "multiply.Scalar")
def mul(c: Call, a: Scalar, b: Scalar) -> Value:
    x, y = c.promoted(a, b, dtype=c.dtype)
    return c.value(c.b.logical_and(x, y) if c.dtype is DType.BOOL else c.b.mul(x, y))


# ------------------------------------------------------------------ division
@aten("div.Tensor", "div.Scalar", "true_divide.Tensor", "true_divide.Scalar")
@aten("divide.Tensor", "divide.Scalar")
def div(c: Call, a: Scalar, b: Scalar) -> Value:
    x, y = c.promoted(a, b, dtype=c.dtype)
    return c.value(c.b.div(x, y))


@aten("div.Tensor_mode", "div.Scalar_mode", "divide.Tensor_mode", "divide.Scalar_mode")
def div_mode(c: Call, a: Scalar, b: Scalar, rounding_mode: str | None) -> Value:
    x, y = c.promoted(a, b, dtype=c.dtype)
    if rounding_mode is None:
        return c.value(c.b.div(x, y))
    return _floor(c, x, y) if rounding_mode == "floor" else _truncated(c, x, y)


@aten("floor_divide", "floor_divide.Scalar")
def floor_divide(c: Call, a: Scalar, b: Scalar) -> Value:
    x, y = c.promoted(a, b, dtype=c.dtype)
    return _floor(c, x, y)


def _floor(c: Call, x: Value, y: Value) -> Value:
    return c.value(c.b.floor_div(x, y))


def _truncated(c: Call, x: Value, y: Value) -> Value:
    """The quotient rounded towards 0."""
    if x.type.dtype.is_float:
        return trunc(c, c.value(c.b.div(x, y)))
    size = c.b.floor_div(c.b.abs(x), c.b.abs(y))
    return c.value(c.b.mul(c.b.mul(c.b.sign(x), c.b.sign(y)), size))


@aten("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor")
def remainder(c: Call, a: Scalar, b: Scalar) -> Value:
    x, y = c.promoted(a, b, dtype=c.dtype)
    return c.value(c.b.mod(x, y))


@aten("fmod.Tensor", "fmod.Scalar")
def fmod(c: Call, a: Scalar, b: Scalar) -> Value:
    """The remainder with the sign of the dividend."""
    x, y = c.promoted(a, b, dtype=c.dtype)
    size = c.b.abs(y)
    rest = c.b.mod(c.b.abs(x), size)
    return c.value(c.b.mul(c.b.sign(x), rest))


# ------------------------------------------------------------------ powers, extremes
@aten("pow.Tensor_Tensor", "pow.Tensor_Scalar", "pow.Scalar")
@aten("float_power.Tensor_Tensor", "float_power.Tensor_Scalar", "float_power.Scalar")
def power(c: Call, a: Scalar, b: Scalar) -> Value:
    x, y = c.promoted(a, b, dtype=c.dtype)
    return c.value(c.b.pow(x, y))


@aten("maximum", "max.other")
def maximum(c: Call, a: Value, b: Value) -> Value:
    x, y = c.promoted(a, b, dtype=c.dtype)
    return c.value(c.b.logical_or(x, y) if c.dtype is DType.BOOL else c.b.maximum(x, y))


@aten("minimum", "min.other")
def minimum(c: Call, a: Value, b: Value) -> Value:
    x, y = c.promoted(a, b, dtype=c.dtype)
    return c.value(c.b.logical_and(x, y) if c.dtype is DType.BOOL else c.b.minimum(x, y))


@aten("fmax")
def fmax(c: Call, a: Value, b: Value) -> Value:
    """The larger one; a number wins over NaN."""
    return _of_numbers(c, a, b, maximum)


@aten("fmin")
def fmin(c: Call, a: Value, b: Value) -> Value:
    """The smaller one; a number wins over NaN."""
    return _of_numbers(c, a, b, minimum)


def _of_numbers(c: Call, a: Value, b: Value, extreme: Callable[..., Value]) -> Value:
    x, y = c.promoted(a, b, dtype=c.dtype)
    x, y = c.b.where(c.b.ne(x, x), y, x), c.b.where(c.b.ne(y, y), x, y)
    return extreme(c, x, y)


@aten("clamp", "clip")
def clamp(c: Call, x: Value, low: Scalar | None, high: Scalar | None) -> Value:
    if not (_plain(low) and _plain(high)):
        return clamp_tensor(c, x, low, high)
    bounds = [float(v) if isinstance(v, int | float) else None for v in (low, high)]
    return c.value(c.b.clamp(c.cast(x, c.dtype), min=bounds[0], max=bounds[1]))


def _plain(bound: Scalar | None) -> bool:
    """Whether the op's attribute, a float, is exactly this bound."""
    if isinstance(bound, int):
        return abs(bound) <= 2**53
    return bound is None or isinstance(bound, float)


@aten("clamp.Tensor", "clip.Tensor")
def clamp_tensor(c: Call, x: Value, low: Scalar | None, high: Scalar | None) -> Value:
    x = c.cast(x, c.dtype)
    if low is not None:
        x = c.b.maximum(x, c.operand(low, c.dtype))
    if high is not None:
        x = c.b.minimum(x, c.operand(high, c.dtype))
    return x


@aten("clamp_min", "clamp_min.Tensor")
def clamp_min(c: Call, x: Value, low: Scalar) -> Value:
    return clamp(c, x, low, None)


@aten("clamp_max", "clamp_max.Tensor")
def clamp_max(c: Call, x: Value, high: Scalar) -> Value:
    return clamp(c, x, None, high)


# ------------------------------------------------------------------ combinations
@aten("addcmul")
def addcmul(c: Call, x: Value, a: Value, b: Value, value: Scalar) -> Value:
    scaled = product(c, c.b.mul(*c.promoted(a, b, dtype=c.dtype)), value, c.dtype)
    return c.value(c.b.add(c.cast(x, c.dtype), scaled))


@aten("addcdiv")
def addcdiv(c: Call, x: Value, a: Value, b: Value, value: Scalar) -> Value:
    scaled = product(c, c.b.div(*c.promoted(a, b, dtype=c.dtype)), value, c.dtype)
    return c.value(c.b.add(c.cast(x, c.dtype), scaled))


@aten("lerp.Scalar", "lerp.Tensor")
def lerp(c: Call, start: Value, end: Value, weight: Scalar) -> Value:
    difference = c.b.sub(end, start)
    return c.value(c.b.add(start, c.b.mul(c.operand(weight, c.dtype), difference)))


@aten("logaddexp")
def logaddexp(c: Call, a: Value, b: Value) -> Value:
    """max + log1p(exp(-|a - b|)), as softplus of minus the distance; equal infinities stay."""
    x, y = c.promoted(a, b, dtype=c.dtype)
    largest = c.b.maximum(x, y)
    distance = c.b.where(c.b.eq(x, y), c.number(0.0, c.dtype), c.b.abs(c.b.sub(x, y)))
    return c.value(c.b.add(largest, c.b.softplus(c.b.neg(distance))))


@aten("hypot")
def hypot(c: Call, a: Value, b: Value) -> Value:
    x, y = c.promoted(a, b, dtype=c.dtype)
    return c.value(c.b.sqrt(c.b.add(c.b.mul(x, x), c.b.mul(y, y))))


@aten("xlogy.Tensor", "xlogy.Scalar_Self", "xlogy.Scalar_Other", "special_xlogy")
def xlogy(c: Call, a: Scalar, b: Scalar) -> Value:
    """x log y; 0 where x = 0, whatever y is, unless that is NaN."""
    x, y = c.promoted(a, b, dtype=c.dtype)
    nothing = c.b.logical_and(c.b.eq(x, c.number(0.0, c.dtype)), c.b.eq(y, y))
    logarithm = c.b.log(c.b.where(nothing, c.number(1.0, c.dtype), y))
    return c.value(c.b.mul(x, logarithm))


@aten("copysign.Tensor", "copysign.Scalar")
def copysign(c: Call, a: Value, b: Scalar) -> Value:
    """|a| with the sign of b; NaN counts as positive."""
    x, y = c.promoted(a, b, dtype=c.dtype)
    size = c.b.abs(x)
    return c.value(c.b.where(_negative(c, y), c.b.neg(size), size))


@aten("signbit")
def signbit(c: Call, x: Value) -> Value:
    return _negative(c, x)


def _negative(c: Call, x: Value) -> Value:
    """Whether the sign of x is a minus: x < 0, or x = -0.0, whose reciprocal is -inf."""
    zero = c.operand(0, x.type.dtype)
    below = c.b.lt(x, zero)
    if not x.type.dtype.is_float:
        return c.value(below)
    return c.value(c.b.logical_or(below, c.b.lt(c.b.reciprocal(x), zero)))
