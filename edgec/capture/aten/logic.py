"""Comparison, logic on bools, bits of integers, selection by a mask."""

from __future__ import annotations

import math

import torch

from edgec.capture.call import Call, Scalar
from edgec.capture.registry import aten
from edgec.ir.graph import Value
from edgec.ir.types import DType

MAX_BITS = 16  # of a constant mask; each costs five nodes


# ------------------------------------------------------------------ comparison
def _register_comparison(op: str, *names: str) -> None:
    @aten(*(f"{n}.{kind}" for n in names for kind in ("Tensor", "Scalar")))
    def convert(c: Call, a: Value, b: Scalar) -> Value:
        dtype = c.common(a, b)
        if dtype is DType.BOOL and op not in ("eq", "ne"):
            dtype = DType.I32
        return c.value(getattr(c.b, op)(*c.promoted(a, b, dtype=dtype)))


_register_comparison("eq", "eq")
_register_comparison("ne", "ne", "not_equal")
_register_comparison("lt", "lt", "less")
_register_comparison("le", "le", "less_equal")
_register_comparison("gt", "gt", "greater")
_register_comparison("ge", "ge", "greater_equal")


@aten("isnan")
def isnan(c: Call, x: Value) -> Value:
    if not x.type.dtype.is_float:
        return c.full(False, DType.BOOL, x.type.shape)
    return c.value(c.b.ne(x, x))


@aten("isinf")
def isinf(c: Call, x: Value) -> Value:
    if not x.type.dtype.is_float:
        return c.full(False, DType.BOOL, x.type.shape)
    return c.value(c.b.eq(c.b.abs(x), c.number(math.inf, x.type.dtype)))


@aten("isfinite")
def isfinite(c: Call, x: Value) -> Value:
    if not x.type.dtype.is_float:
        return c.full(True, DType.BOOL, x.type.shape)
    return c.value(c.b.lt(c.b.abs(x), c.number(math.inf, x.type.dtype)))


@aten("isposinf")
def isposinf(c: Call, x: Value) -> Value:
    return c.value(c.b.eq(x, c.number(math.inf, x.type.dtype)))


@aten("isneginf")
def isneginf(c: Call, x: Value) -> Value:
    return c.value(c.b.eq(x, c.number(-math.inf, x.type.dtype)))


@aten("isclose")
def isclose(c: Call, a: Value, b: Value, rtol: float, atol: float, equal_nan: bool) -> Value:
    """|a - b| <= atol + rtol |b|, or equal (infinities); NaN equals NaN where asked."""
    dtype = c.common(a, b, 1.0)
    x, y = c.promoted(a, b, dtype=dtype)
    bound = c.b.add(c.number(atol, dtype), c.b.mul(c.number(rtol, dtype), c.b.abs(y)))
    distance = c.b.abs(c.b.sub(x, y))
    finite = c.b.lt(distance, c.number(math.inf, dtype))
    near = c.b.logical_and(finite, c.b.le(distance, bound))
    near = c.b.logical_or(near, c.b.eq(x, y))
    if equal_nan:
        near = c.b.logical_or(near, c.b.logical_and(c.b.ne(x, x), c.b.ne(y, y)))
    return c.value(near)


# ------------------------------------------------------------------ logic
@aten("logical_not")
def logical_not(c: Call, x: Value) -> Value:
    return c.value(c.b.logical_not(c.cast(x, DType.BOOL)))


def _register_logic(name: str) -> None:
    @aten(name)
    def convert(c: Call, a: Value, b: Value) -> Value:
        return c.value(getattr(c.b, name)(*c.promoted(a, b, dtype=DType.BOOL)))


for _name in ("logical_and", "logical_or", "logical_xor"):
    _register_logic(_name)


@aten("bitwise_not")
def bitwise_not(c: Call, x: Value) -> Value:
    if x.type.dtype is DType.BOOL:
        return c.value(c.b.logical_not(x))
    return c.value(c.b.sub(c.number(-1, x.type.dtype), x))


def _forms(name: str, dunder: str) -> tuple[str, ...]:
    own = (f"bitwise_{name}.{kind}" for kind in ("Tensor", "Scalar", "Scalar_Tensor"))
    return (*own, f"{dunder}.Tensor", f"{dunder}.Scalar")


@aten(*_forms("and", "__and__"))
def bitwise_and(c: Call, a: Scalar, b: Scalar) -> Value:
    if c.dtype is DType.BOOL:
        return c.value(c.b.logical_and(*c.promoted(a, b, dtype=DType.BOOL)))
    return _common_bits(c, *c.promoted(a, b, dtype=c.dtype))


@aten(*_forms("or", "__or__"))
def bitwise_or(c: Call, a: Scalar, b: Scalar) -> Value:
    """a | b = a + b - (a & b) on integers."""
    if c.dtype is DType.BOOL:
        return c.value(c.b.logical_or(*c.promoted(a, b, dtype=DType.BOOL)))
    x, y = c.promoted(a, b, dtype=c.dtype)
    return c.value(c.b.sub(c.b.add(x, y), _common_bits(c, x, y)))


@aten(*_forms("xor", "__xor__"))
def bitwise_xor(c: Call, a: Scalar, b: Scalar) -> Value:
    """a ^ b = a + b - 2 (a & b) on integers."""
    if c.dtype is DType.BOOL:
        return c.value(c.b.logical_xor(*c.promoted(a, b, dtype=DType.BOOL)))
    x, y = c.promoted(a, b, dtype=c.dtype)
    common = c.b.mul(_common_bits(c, x, y), c.number(2, c.dtype))
    return c.value(c.b.sub(c.b.add(x, y), common))


def _common_bits(c: Call, x: Value, y: Value) -> Value:
    """x & y where one is a constant, by arithmetic on the bits that it has."""
    mask = c.tensor(y)
    if mask is None:
        x, y, mask = y, x, c.tensor(x)
    if mask is None or bool((mask < 0).any()):
        c.fail("bits of two computed integers; need a constant mask that is not negative")
    used = [bit for bit in range(63) if bool(((mask >> bit) & 1).any())]
    if len(used) > MAX_BITS:
        c.fail(f"a mask of {len(used)} bits; need at most {MAX_BITS}")
    if used == list(range(len(used))) and bool((mask == mask.max()).all()):
        return c.value(c.b.mod(x, c.number(2 ** len(used), c.dtype)))
    total = c.expand(c.number(0, c.dtype), c.shape) if not used else None
    for bit in used:
        power = c.number(2**bit, c.dtype)
        own = c.b.mod(c.b.floor_div(x, power), c.number(2, c.dtype))
        part = c.b.mul(own, c.const(mask & 2**bit, "bits"))
        total = part if total is None else c.b.add(total, part)
    return c.value(total)


@aten("bitwise_left_shift.Tensor", "bitwise_left_shift.Tensor_Scalar", "__lshift__.Scalar")
@aten("__lshift__.Tensor")
def left_shift(c: Call, a: Value, b: Scalar) -> Value:
    return c.value(c.b.mul(c.operand(a, c.dtype), _power_of_two(c, b)))


@aten("bitwise_right_shift.Tensor", "bitwise_right_shift.Tensor_Scalar", "__rshift__.Scalar")
@aten("__rshift__.Tensor")
def right_shift(c: Call, a: Value, b: Scalar) -> Value:
    return c.value(c.b.floor_div(c.operand(a, c.dtype), _power_of_two(c, b)))


def _power_of_two(c: Call, exponent: Scalar) -> Value:
    if isinstance(exponent, int):
        return c.number(2**exponent, c.dtype)
    return c.value(c.b.pow(c.number(2, c.dtype), c.operand(exponent, c.dtype)))


# ------------------------------------------------------------------ selection
@aten("where.self")
def where(c: Call, condition: Value, a: Value, b: Value) -> Value:
    x, y = c.promoted(a, b, dtype=c.dtype)
    return c.value(c.b.where(c.cast(condition, DType.BOOL), x, y))


@aten("where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where_scalar(c: Call, condition: Value, a: Scalar, b: Scalar) -> Value:
    x, y = c.promoted(a, b, dtype=c.dtype)
    return c.value(c.b.where(c.cast(condition, DType.BOOL), x, y))


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(c: Call, x: Value, mask: Value, value: Scalar) -> Value:
    filled = c.operand(value, c.dtype)
    return c.value(c.b.where(mask, filled, c.expand(x, c.shape)))


@aten("nan_to_num")
def nan_to_num(
    c: Call, x: Value, nan: float | None, posinf: float | None, neginf: float | None
) -> Value:
    if not x.type.dtype.is_float:
        return x
    limits = torch.finfo(x.type.dtype.torch_dtype)
    high = limits.max if posinf is None else posinf
    low = limits.min if neginf is None else neginf
    infinite = c.number(math.inf, x.type.dtype)
    y = c.b.where(c.b.ne(x, x), c.number(nan or 0.0, x.type.dtype), x)
    y = c.b.where(c.b.eq(x, infinite), c.number(high, x.type.dtype), y)
    return c.value(c.b.where(c.b.eq(x, c.b.neg(infinite)), c.number(low, x.type.dtype), y))
