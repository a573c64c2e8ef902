"""What each op computes for one element, and one step of a chain: TIR expressions."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from edgec.ir import Op
from edgec.kernels import scalars
from edgec.kernels.deferred import T, tir
from edgec.kernels.element_types import computed_in, const, dtype_of, rounded
from edgec.kernels.steps import Step
from edgec.ops.activations import Gelu
from edgec.ops.creation import Full

Scalar = Callable[..., Any]  # (op, *operands) -> expression of the operands' dtype


def _like(value: float, x: Any) -> Any:
    return const(value, dtype_of(x))


def _is_float(x: Any) -> bool:
    return dtype_of(x).startswith("float")


def _function(name: str) -> Scalar:
    """f32 by the vectorizable form, f64 by libm."""

    def value(_op: Any, x: Any) -> Any:
        return getattr(scalars if dtype_of(x) == "float32" else T, name)(x)

    return value


def _sigmoid(_op: Any, x: Any) -> Any:
    one = _like(1, x)
    return scalars.sigmoid(x) if dtype_of(x) == "float32" else one / (one + T.exp(-x))


def _exp(x: Any) -> Any:
    return _function("exp")(None, x)


def _minimum(_op: Any, a: Any, b: Any) -> Any:
    small = tir.Select(b < a, b, a)  # NaN in a stays
    return tir.Select(scalars.is_nan(b), b, small) if _is_float(a) else small


def _maximum(_op: Any, a: Any, b: Any) -> Any:
    large = tir.Select(a < b, b, a)
    return tir.Select(scalars.is_nan(b), b, large) if _is_float(a) else large


def _relu(_op: Any, x: Any) -> Any:
    return tir.Select(x < _like(0, x), _like(0, x), x)  # NaN stays


def _clamp(op: Any, x: Any) -> Any:
    if op.min is not None:
        x = tir.Select(x < _like(op.min, x), _like(op.min, x), x)
    if op.max is not None:
        x = tir.Select(x > _like(op.max, x), _like(op.max, x), x)
    return x


def _sign(_op: Any, x: Any) -> Any:
    zero, one = _like(0, x), _like(1, x)
    return tir.Select(x > zero, one, zero) - tir.Select(x < zero, one, zero)


def _floor_div(_op: Any, a: Any, b: Any) -> Any:
    """As torch: floats by the exact remainder, integers without the traps of the machine."""
    if _is_float(a):
        rest = _remainder(a, b)
        zero, one = _like(0, a), _like(1, a)
        quotient = (a - rest) / b
        other = tir.And(tir.NE(rest, zero), _xor(b < zero, rest < zero))
        whole = quotient - tir.Select(other, one, zero)
        floor = T.floor(whole)
        floor = floor + tir.Select(whole - floor > _like(0.5, a), one, zero)
        return tir.Select(tir.EQ(b, zero), a / b, floor)
    return _guarded(a, b, tir.floordiv, -a)


def _xor(a: Any, b: Any) -> Any:
    """Whether two truth values differ, as numbers: LLVM gets a float comparison for bool itself."""
    return tir.NE(T.cast(a, "int32"), T.cast(b, "int32"))


def _unequal(a: Any, b: Any) -> Any:
    """a != b, true where one is NaN: LLVM is given the comparison that is false for NaN."""
    if dtype_of(a) == "bool":
        return _xor(a, b)
    differ = tir.NE(a, b)
    if _is_float(a):
        differ = tir.Or(differ, tir.Or(scalars.is_nan(a), scalars.is_nan(b)))
    return differ


def _remainder(a: Any, b: Any) -> Any:
    """libm's fmod, which LLVM calls for each lane: exact, with the sign of a."""
    return tir.Mod(a, b)


def _mod(_op: Any, a: Any, b: Any) -> Any:
    if _is_float(a):
        rest, zero = _remainder(a, b), _like(0, a)
        other = tir.And(tir.NE(rest, zero), _xor(b < zero, rest < zero))
        return rest + tir.Select(other, b, zero)
    return _guarded(a, b, tir.floormod, _like(0, a))


def _guarded(a: Any, b: Any, divide: Any, by_minus_one: Any) -> Any:
    """Integer division whose divisors 0 (the result is 0) and -1 (which overflows) do not trap."""
    zero, one = _like(0, a), _like(1, a)
    traps = tir.Or(tir.EQ(b, zero), tir.EQ(b, _like(-1, b)))
    made = divide(a, tir.Select(traps, one, b))
    return tir.Select(traps, tir.Select(tir.EQ(b, zero), zero, by_minus_one), made)


#: Up to this exponent a literal power of integers is a product, exact as it wraps.
_SHORT_POWER = 8


def _pow(_op: Any, a: Any, b: Any) -> Any:
    """Powers of integers beyond short literal ones go through f64: exact up to 2^53."""
    if dtype_of(a) == "float32":
        return scalars.power(a, getattr(b, "value", b))  # a constant exponent may be a product
    if _is_float(a):
        return scalars.libm_power(dtype_of(a), a, b)
    if isinstance(b, tir.IntImm) and 0 <= int(b) <= _SHORT_POWER:
        return functools.reduce(operator.mul, [a] * int(b), _like(1, a))
    made = scalars.libm_power("float64", T.cast(a, "float64"), T.cast(b, "float64"))
    return T.cast(made, dtype_of(a))


def _softplus(op: Any, x: Any) -> Any:
    t = x * _like(op.beta, x)
    zero = _like(0, x)
    tail = _function("log")(None, _like(1, x) + _exp(-T.abs(t)))
    soft = (tir.Select(t < zero, zero, t) + tail) / _like(op.beta, x)
    return tir.Select(t > _like(op.threshold, x), x, soft)


def _gelu(op: Any, x: Any) -> Any:
    if op.approximate == "sigmoid":
        return x * _sigmoid(None, x * _like(1.702, x))
    if op.approximate == "tanh":
        cubic = x * x * x * _like(0.044715, x)
        inner = _function("tanh")(None, (x + cubic) * _like(math.sqrt(2 / math.pi), x))
    else:
        inner = _function("erf")(None, x * _like(math.sqrt(0.5), x))
    return x * _like(0.5, x) * (inner + _like(1, x))


def _elu(op: Any, x: Any) -> Any:
    zero = _like(0, x)
    below = _like(op.alpha, x) * (_exp(tir.Select(x < zero, x, zero)) - _like(1, x))
    return tir.Select(x > zero, x, below)


def _hardsigmoid(_op: Any, x: Any) -> Any:
    shifted = x + _like(3, x)
    shifted = tir.Select(shifted < _like(0, x), _like(0, x), shifted)
    return tir.Select(shifted > _like(6, x), _like(6, x), shifted) / _like(6, x)


def _above_zero(x: Any, otherwise: Any) -> Any:
    return tir.Select(x > _like(0, x), x, otherwise)


#: Name of an op -> expression. Comparisons and logic give and take "bool".
SCALARS: dict[str, Scalar] = {
    "neg": lambda op, x: -x,
    "abs": lambda op, x: T.abs(x),
    "sign": _sign,
    "floor": lambda op, x: T.floor(x),
    "ceil": lambda op, x: T.ceil(x),
    "round": lambda op, x: scalars.nearest(x),
    "exp": _function("exp"),
    "log": _function("log"),
    "sqrt": lambda op, x: T.sqrt(x),
    "rsqrt": lambda op, x: _like(1, x) / T.sqrt(x),
    "reciprocal": lambda op, x: _like(1, x) / x,
    "sin": _function("sin"),
    "cos": _function("cos"),
    "tanh": _function("tanh"),
    "erf": _function("erf"),
    "add": lambda op, a, b: a + b,
    "sub": lambda op, a, b: a - b,
    "mul": lambda op, a, b: a * b,
    "div": lambda op, a, b: a / b,
    "floor_div": _floor_div,
    "mod": _mod,
    "pow": _pow,
    "minimum": _minimum,
    "maximum": _maximum,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "silu": lambda op, x: x * _sigmoid(None, x),
    "hardsigmoid": _hardsigmoid,
    "hardswish": lambda op, x: x * _hardsigmoid(None, x),
    "softplus": _softplus,
    "gelu": _gelu,
    "elu": _elu,
    "leaky_relu": lambda op, x: _above_zero(x, x * _like(op.slope, x)),
    "prelu": lambda op, x, w: _above_zero(x, w * x),
    "clamp": _clamp,
    "eq": lambda op, a, b: tir.Not(_xor(a, b)) if dtype_of(a) == "bool" else tir.EQ(a, b),
    "ne": lambda op, a, b: _unequal(a, b),
    "lt": lambda op, a, b: a < b,
    "le": lambda op, a, b: a <= b,
    "gt": lambda op, a, b: a > b,
    "ge": lambda op, a, b: a >= b,
    "logical_not": lambda op, x: tir.Not(x),
    "logical_and": lambda op, a, b: tir.And(a, b),
    "logical_or": lambda op, a, b: tir.Or(a, b),
    "logical_xor": lambda op, a, b: _xor(a, b),
    "where": lambda op, c, a, b: tir.Select(c, a, b),
}


def has_vectors(op: Op, dtype: str) -> bool:
    """Whether other steps may follow this one in a chain. TVM writes a call that it makes no vector
    of for one lane after another, and a name that is bound to it is the first lane's for all."""
    called = op.name == "erf" or (isinstance(op, Gelu) and op.approximate == "none")
    return not (called and dtype == "float64")


def step_value(step: Step, operands: Sequence[Any]) -> Any:
    """The expression of one step, in the dtype that its values are computed in.

    Half precision is computed in f32 and rounded to its own type by each step.
    """
    name = step.op.name
    if isinstance(step.op, Full):
        return _literal(step.op.value, computed_in(step.dtype))
    if name == "cast":
        value = operands[0]
        if step.dtype == "bool":
            return value if dtype_of(value) == "bool" else _unequal(value, _like(0, value))
        value = T.cast(value, computed_in(step.dtype))
    else:
        value = SCALARS[name](step.op, *operands)
    return rounded(value, step.dtype)


def _literal(value: float, dtype: str) -> Any:
    """A constant; a zero by bits, since TVM takes 0 x and 0 / x for 0 and refuses x / 0."""
    if value == 0 and dtype.startswith("float"):
        width = int(dtype.removeprefix("float"))
        negative = T.reinterpret(dtype, const(-1 << (width - 1), f"int{width}"))
        return negative if math.copysign(1, value) < 0 else T.fabs(negative)
    return const(value, dtype)
