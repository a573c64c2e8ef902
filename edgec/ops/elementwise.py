"""Elementwise ops: unary functions, casts and arithmetic.

Activation functions are in `edgec.ops.activations`, truth values in `edgec.ops.comparison`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from edgec.ir.op import Exactness, Op, broadcast, op, require
from edgec.ir.types import DType, TensorType

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value

APPROXIMATED = 4.0  # factor of functions that runtimes approximate by polynomials or tables


# ------------------------------------------------------------------ unary
@dataclass(frozen=True)
class Unary(Op):
    """y_i = f(x_i).

    Inputs       x : T[*S]            T any number
    Outputs      y : T[*S]
    Constraints  (C1) T is not bool
    """

    def infer(self, x: TensorType) -> TensorType:
        require(self, x.dtype is not DType.BOOL, "C1", f"x: {x}", "numbers")
        return x


@dataclass(frozen=True)
class FloatUnary(Op):
    """y_i = f(x_i).

    Inputs       x : T[*S]            T a float
    Outputs      y : T[*S]
    Constraints  (C1) T is a float
    """

    def infer(self, x: TensorType) -> TensorType:
        require(self, x.dtype.is_float, "C1", f"x: {x}", "floats")
        return x


@op("neg")
@dataclass(frozen=True)
class Neg(Unary):
    """y = -x.   Inputs, outputs, constraints as `Unary`.   Exactness EXACT."""

    exactness: ClassVar[Exactness] = Exactness.EXACT

    def evaluate(self, x: Tensor) -> Tensor:
        return -x


@op("abs")
@dataclass(frozen=True)
class Abs(Unary):
    """y = |x|.   Inputs, outputs, constraints as `Unary`.   Exactness EXACT."""

    exactness: ClassVar[Exactness] = Exactness.EXACT

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.abs(x)

    def decompose(self, b: Builder, x: Value) -> Value:
        result: Value = b.maximum(x, b.neg(x))
        return result


@op("sign")
@dataclass(frozen=True)
class Sign(Unary):
    """y = -1, 0 or 1 as x < 0, x = 0 or x > 0; 0 for NaN. No useful gradient.

    Inputs, outputs, constraints as `Unary`.   Exactness EXACT.
    """

    exactness: ClassVar[Exactness] = Exactness.EXACT

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.sign(x)

    def decompose(self, b: Builder, x: Value) -> Value:
        zero = b.scalar(0, x.type.dtype)
        above, below = (b.cast(c, dtype=x.type.dtype) for c in (b.gt(x, zero), b.lt(x, zero)))
        result: Value = b.sub(above, below)
        return result


@op("floor")
@dataclass(frozen=True)
class Floor(FloatUnary):
    """y = the largest integer <= x. No useful gradient.

    Inputs, outputs, constraints as `FloatUnary`.   Exactness EXACT.
    """

    exactness: ClassVar[Exactness] = Exactness.EXACT

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.floor(x)


@op("ceil")
@dataclass(frozen=True)
class Ceil(FloatUnary):
    """y = the smallest integer >= x = -floor(-x). No useful gradient.

    Inputs, outputs, constraints as `FloatUnary`.   Exactness EXACT.
    """

    exactness: ClassVar[Exactness] = Exactness.EXACT

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.ceil(x)

    def decompose(self, b: Builder, x: Value) -> Value:
        result: Value = b.neg(b.floor(b.neg(x)))
        return result


@op("round")
@dataclass(frozen=True)
class Round(FloatUnary):
    """y = the nearest integer, halves to the even one. No useful gradient.

    Inputs, outputs, constraints as `FloatUnary`.   Exactness EXACT.
    """

    exactness: ClassVar[Exactness] = Exactness.EXACT

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.round(x)


@op("exp")
@dataclass(frozen=True)
class Exp(FloatUnary):
    """y = e^x.   Inputs, outputs, constraints as `FloatUnary`.   Exactness ROUNDING, factor 4."""

    factor: ClassVar[float] = APPROXIMATED

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.exp(x)


@op("log")
@dataclass(frozen=True)
class Log(FloatUnary):
    """y = ln x.   Inputs, outputs, constraints as `FloatUnary`.   Exactness ROUNDING, factor 4."""

    factor: ClassVar[float] = APPROXIMATED

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.log(x)


@op("sqrt")
@dataclass(frozen=True)
class Sqrt(FloatUnary):
    """y = sqrt(x).   Inputs, outputs, constraints as `FloatUnary`.   Exactness ROUNDING."""

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.sqrt(x)


@op("rsqrt")
@dataclass(frozen=True)
class Rsqrt(FloatUnary):
    """y = 1 / sqrt(x).

    Inputs, outputs, constraints as `FloatUnary`.   Exactness ROUNDING, factor 4.
    """

    factor: ClassVar[float] = APPROXIMATED

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.rsqrt(x)

    def decompose(self, b: Builder, x: Value) -> Value:
        result: Value = b.reciprocal(b.sqrt(x))
        return result


@op("reciprocal")
@dataclass(frozen=True)
class Reciprocal(FloatUnary):
    """y = 1 / x.   Inputs, outputs, constraints as `FloatUnary`.   Exactness ROUNDING."""

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.reciprocal(x)

    def decompose(self, b: Builder, x: Value) -> Value:
        result: Value = b.div(b.scalar(1, x.type.dtype), x)
        return result


@op("sin")
@dataclass(frozen=True)
class Sin(FloatUnary):
    """y = sin x.   Inputs, outputs, constraints as `FloatUnary`.   Exactness ROUNDING, factor 4."""

    factor: ClassVar[float] = APPROXIMATED

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.sin(x)


@op("cos")
@dataclass(frozen=True)
class Cos(FloatUnary):
    """y = cos x.   Inputs, outputs, constraints as `FloatUnary`.   Exactness ROUNDING, factor 4."""

    factor: ClassVar[float] = APPROXIMATED

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.cos(x)


@op("tanh")
@dataclass(frozen=True)
class Tanh(FloatUnary):
    """y = tanh x.

    Inputs, outputs, constraints as `FloatUnary`.   Exactness ROUNDING, factor 4.
    """

    factor: ClassVar[float] = APPROXIMATED

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


@op("erf")
@dataclass(frozen=True)
class Erf(FloatUnary):
    """y = 2 / sqrt(pi) * integral of e^(-t^2) over 0..x.

    Inputs, outputs, constraints as `FloatUnary`.   Exactness ROUNDING, factor 4.
    """

    factor: ClassVar[float] = APPROXIMATED

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.erf(x)


@op("cast")
@dataclass(frozen=True)
class Cast(Op):
    """y = x as `dtype`. Floats become integers by dropping the fraction, numbers bool by x != 0.

    Inputs       x : T[*S]            T any
    Outputs      y : dtype[*S]
    Attributes   dtype : DType
    Exactness    EXACT; out of range is undefined, as are NaN and infinity as integers
    """

    dtype: DType
    exactness: ClassVar[Exactness] = Exactness.EXACT

    def infer(self, x: TensorType) -> TensorType:
        return x.with_dtype(self.dtype)

    def evaluate(self, x: Tensor) -> Tensor:
        return x.to(self.dtype.torch_dtype)


# ------------------------------------------------------------------ arithmetic
def common_type(op: Op, a: TensorType, b: TensorType) -> TensorType:
    """The type of a elementwise b. Raises TypeCheckError (C1) for two dtypes."""
    got = f"{a.dtype.value} and {b.dtype.value}"
    require(op, a.dtype is b.dtype, "C1", got, "operands of one dtype")
    return TensorType(a.dtype, broadcast(op, a.shape, b.shape))


@dataclass(frozen=True)
class Binary(Op):
    """y = f(a, b) with numpy's broadcasting.

    Inputs       a : T[*A], b : T[*B]           T any number
    Outputs      y : T[broadcast(A, B)]
    Constraints  (C1) dtype(a) = dtype(b)    (C2) T is not bool    A and B broadcast
    """

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        result = common_type(self, a, b)
        require(self, a.dtype is not DType.BOOL, "C2", a.dtype.value, "numbers")
        return result


@op("add")
@dataclass(frozen=True)
class Add(Binary):
    """y = a + b.   Inputs, outputs, constraints as `Binary`.   Exactness ROUNDING."""

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


@op("sub")
@dataclass(frozen=True)
class Sub(Binary):
    """y = a - b.   Inputs, outputs, constraints as `Binary`.   Exactness ROUNDING."""

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b


@op("mul")
@dataclass(frozen=True)
class Mul(Binary):
    """y = a * b.   Inputs, outputs, constraints as `Binary`.   Exactness ROUNDING."""

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


@op("div")
@dataclass(frozen=True)
class Div(Binary):
    """y = a / b, floats only.

    Inputs, outputs as `Binary`.
    Constraints  those of `Binary`, (C3) T is a float
    Exactness    ROUNDING
    """

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        result = Binary.infer(self, a, b)
        require(self, a.dtype.is_float, "C3", a.dtype.value, "floats; floor_div divides integers")
        return result

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return a / b


@op("floor_div")
@dataclass(frozen=True)
class FloorDiv(Binary):
    """y = floor(a / b), rounded towards minus infinity.

    For floats as torch: the quotient of the exact division, so 1.0 // 0.1 is 9. No useful gradient.
    Inputs, outputs, constraints as `Binary`.   Exactness ROUNDING.
    """

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.div(a, b, rounding_mode="floor")

    def decompose(self, b: Builder, x: Value, y: Value) -> Value | None:
        if not x.type.dtype.is_float:
            return None
        result: Value = b.floor(b.div(x, y))
        return result


@op("mod")
@dataclass(frozen=True)
class Mod(Binary):
    """y = a - floor(a / b) * b: the remainder with the sign of b, as torch.remainder.

    Inputs, outputs, constraints as `Binary`.   Exactness ROUNDING.
    """

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.remainder(a, b)

    def decompose(self, b: Builder, x: Value, y: Value) -> Value:
        result: Value = b.sub(x, b.mul(b.floor_div(x, y), y))
        return result


@op("pow")
@dataclass(frozen=True)
class Pow(Binary):
    """y = a ^ b; integers have exponents >= 0.

    Inputs, outputs, constraints as `Binary`.   Exactness ROUNDING, factor 4.
    """

    factor: ClassVar[float] = APPROXIMATED

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.pow(a, b)


@op("minimum")
@dataclass(frozen=True)
class Minimum(Binary):
    """y = min(a, b), NaN where one is NaN.

    Inputs, outputs, constraints as `Binary`.   Exactness EXACT.
    """

    exactness: ClassVar[Exactness] = Exactness.EXACT

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.minimum(a, b)


@op("maximum")
@dataclass(frozen=True)
class Maximum(Binary):
    """y = max(a, b), NaN where one is NaN.

    Inputs, outputs, constraints as `Binary`.   Exactness EXACT.
    """

    exactness: ClassVar[Exactness] = Exactness.EXACT

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, b)
