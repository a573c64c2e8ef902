"""Activation functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.ir.op import Exactness, Op, broadcast, op, require
from edgec.ir.types import DType, TensorType
from edgec.ops.elementwise import APPROXIMATED, FloatUnary, Unary

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


@op("relu")
@dataclass(frozen=True)
class Relu(Unary):
    """y = max(x, 0).   Inputs, outputs, constraints as `Unary`.   Exactness EXACT."""

    exactness: ClassVar[Exactness] = Exactness.EXACT

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.relu(x)

    def decompose(self, b: Builder, x: Value) -> Value:
        result: Value = b.maximum(x, b.scalar(0, x.type.dtype))
        return result


@op("sigmoid")
@dataclass(frozen=True)
class Sigmoid(FloatUnary):
    """y = 1 / (1 + e^-x).

    Inputs, outputs, constraints as `FloatUnary`.   Exactness ROUNDING, factor 4.
    """

    factor: ClassVar[float] = APPROXIMATED

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def decompose(self, b: Builder, x: Value) -> Value:
        one = b.scalar(1, x.type.dtype)
        result: Value = b.div(one, b.add(one, b.exp(b.neg(x))))
        return result


@op("silu")
@dataclass(frozen=True)
class Silu(FloatUnary):
    """y = x sigmoid(x).

    Inputs, outputs, constraints as `FloatUnary`.   Exactness ROUNDING, factor 4.
    """

    factor: ClassVar[float] = APPROXIMATED

    def evaluate(self, x: Tensor) -> Tensor:
        return F.silu(x)

    def decompose(self, b: Builder, x: Value) -> Value:
        result: Value = b.mul(x, b.sigmoid(x))
        return result


@op("hardsigmoid")
@dataclass(frozen=True)
class Hardsigmoid(FloatUnary):
    """y = min(max(x + 3, 0), 6) / 6.

    Inputs, outputs, constraints as `FloatUnary`.   Exactness ROUNDING.
    """

    def evaluate(self, x: Tensor) -> Tensor:
        return F.hardsigmoid(x)

    def decompose(self, b: Builder, x: Value) -> Value:
        shifted = b.add(x, b.scalar(3, x.type.dtype))
        result: Value = b.div(b.clamp(shifted, min=0.0, max=6.0), b.scalar(6, x.type.dtype))
        return result


@op("hardswish")
@dataclass(frozen=True)
class Hardswish(FloatUnary):
    """y = x hardsigmoid(x).

    Inputs, outputs, constraints as `FloatUnary`.   Exactness ROUNDING.
    """

    def evaluate(self, x: Tensor) -> Tensor:
        return F.hardswish(x)

    def decompose(self, b: Builder, x: Value) -> Value:
        result: Value = b.mul(x, b.hardsigmoid(x))
        return result


@op("softplus")
@dataclass(frozen=True)
class Softplus(FloatUnary):
    """y = ln(1 + e^(beta x)) / beta, and x where beta x > threshold.

    Inputs, outputs, constraints as `FloatUnary`.
    Attributes   beta, threshold : float
    Constraints  (C2) beta > 0
    Exactness    ROUNDING, factor 4
    """

    beta: float = 1.0
    threshold: float = 20.0
    factor: ClassVar[float] = APPROXIMATED

    def infer(self, x: TensorType) -> TensorType:
        require(self, self.beta > 0, "C2", f"beta={self.beta}", "beta > 0")
        return FloatUnary.infer(self, x)

    def evaluate(self, x: Tensor) -> Tensor:
        return F.softplus(x, self.beta, self.threshold)

    def decompose(self, b: Builder, x: Value) -> Value:
        # max(t, 0) + ln(1 + e^-|t|): no overflow on either side
        dtype = x.type.dtype
        t = b.mul(x, b.scalar(self.beta, dtype))
        tail = b.log(b.add(b.scalar(1, dtype), b.exp(b.neg(b.abs(t)))))
        soft = b.div(b.add(b.relu(t), tail), b.scalar(self.beta, dtype))
        result: Value = b.where(b.gt(t, b.scalar(self.threshold, dtype)), x, soft)
        return result


@op("gelu")
@dataclass(frozen=True)
class Gelu(FloatUnary):
    """y = x Phi(x), Phi the normal distribution function.

    Hendrycks, Gimpel 2016, arXiv:1606.08415.

    none     x (1 + erf(x / sqrt 2)) / 2
    tanh     x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
    sigmoid  x sigmoid(1.702 x)

    Inputs, outputs, constraints as `FloatUnary`.
    Attributes   approximate : which of the three
    Exactness    ROUNDING, factor 4
    """

    approximate: Literal["none", "tanh", "sigmoid"] = "none"
    factor: ClassVar[float] = APPROXIMATED

    def evaluate(self, x: Tensor) -> Tensor:
        if self.approximate == "sigmoid":
            return x * torch.sigmoid(1.702 * x)
        return F.gelu(x, approximate=self.approximate)

    def decompose(self, b: Builder, x: Value) -> Value:
        dtype = x.type.dtype
        result: Value
        if self.approximate == "sigmoid":
            result = b.mul(x, b.sigmoid(b.mul(x, b.scalar(1.702, dtype))))
            return result
        if self.approximate == "tanh":
            cubic = b.mul(b.mul(b.mul(x, x), x), b.scalar(0.044715, dtype))
            inner = b.tanh(b.mul(b.add(x, cubic), b.scalar(math.sqrt(2 / math.pi), dtype)))
        else:
            inner = b.erf(b.mul(x, b.scalar(math.sqrt(0.5), dtype)))
        half = b.mul(x, b.scalar(0.5, dtype))
        result = b.mul(half, b.add(inner, b.scalar(1, dtype)))
        return result


@op("elu")
@dataclass(frozen=True)
class Elu(FloatUnary):
    """y = x where x > 0, else alpha (e^x - 1).

    Inputs, outputs, constraints as `FloatUnary`.
    Attributes   alpha : float
    Exactness    ROUNDING, factor 4
    """

    alpha: float = 1.0
    factor: ClassVar[float] = APPROXIMATED

    def evaluate(self, x: Tensor) -> Tensor:
        return F.elu(x, self.alpha)

    def decompose(self, b: Builder, x: Value) -> Value:
        dtype = x.type.dtype
        zero, one = b.scalar(0, dtype), b.scalar(1, dtype)
        below = b.mul(b.sub(b.exp(b.minimum(x, zero)), one), b.scalar(self.alpha, dtype))
        result: Value = b.where(b.gt(x, zero), x, below)
        return result


@op("leaky_relu")
@dataclass(frozen=True)
class LeakyRelu(FloatUnary):
    """y = x where x > 0, else slope x.

    Inputs, outputs, constraints as `FloatUnary`.
    Attributes   slope : float
    Exactness    ROUNDING
    """

    slope: float = 0.01

    def evaluate(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.slope)

    def decompose(self, b: Builder, x: Value) -> Value:
        dtype = x.type.dtype
        below = b.mul(x, b.scalar(self.slope, dtype))
        result: Value = b.where(b.gt(x, b.scalar(0, dtype)), x, below)
        return result


@op("prelu")
@dataclass(frozen=True)
class Prelu(Op):
    """y = x where x > 0, else weight x; the weight is broadcast by numpy's rules.

    Inputs       x : T[*S], weight : T[*W]      T a float; W = [C, 1, 1] for images [B, C, H, W]
    Outputs      y : T[*S]
    Constraints  (C1) T is a float, the same of both    (C2) W broadcasts to S
    Exactness    ROUNDING
    """

    def infer(self, x: TensorType, weight: TensorType) -> TensorType:
        got = f"{x.dtype.value} and {weight.dtype.value}"
        require(self, x.dtype.is_float and x.dtype is weight.dtype, "C1", got, "one float dtype")
        shape = broadcast(self, x.shape, weight.shape)
        require(self, x.same(x.with_shape(*shape)), "C2", f"weight: {weight}", f"to fit x: {x}")
        return x

    def evaluate(self, x: Tensor, weight: Tensor) -> Tensor:
        return torch.where(x > 0, x, weight * x)

    def decompose(self, b: Builder, x: Value, weight: Value) -> Value:
        result: Value = b.where(b.gt(x, b.scalar(0, x.type.dtype)), x, b.mul(weight, x))
        return result


@op("clamp")
@dataclass(frozen=True)
class Clamp(Unary):
    """y = min(max(x, min), max); NaN stays NaN.

    Inputs, outputs, constraints as `Unary`.
    Attributes   min, max : float or None (no bound)
    Constraints  (C2) bounds of an integer x are whole numbers
    Exactness    EXACT
    """

    min: float | None = None
    max: float | None = None
    exactness: ClassVar[Exactness] = Exactness.EXACT

    def infer(self, x: TensorType) -> TensorType:
        whole = all(v is None or float(v).is_integer() for v in (self.min, self.max))
        got = f"min={self.min}, max={self.max}"
        require(self, x.dtype.is_float or whole, "C2", got, "whole numbers for integers")
        return Unary.infer(self, x)

    def evaluate(self, x: Tensor) -> Tensor:
        low, high = self._bounds(DType.of(x.dtype))
        return x if low is None and high is None else torch.clamp(x, low, high)

    def decompose(self, b: Builder, x: Value) -> Value:
        low, high = self._bounds(x.type.dtype)
        if low is not None:
            x = b.maximum(x, b.scalar(low, x.type.dtype))
        if high is not None:
            x = b.minimum(x, b.scalar(high, x.type.dtype))
        return x

    def _bounds(self, dtype: DType) -> tuple[float | None, float | None]:
        """The bounds as numbers of the kind of `dtype`, so that integers stay integers."""
        kind = float if dtype.is_float else int
        low, high = (None if v is None else kind(v) for v in (self.min, self.max))
        return low, high
