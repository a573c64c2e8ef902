"""Normalisation: softmax and the layer, root-mean-square, group and batch norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.ir import dims
from edgec.ir.dims import Dim, Shape
from edgec.ir.op import Op, TensorTypeText, axis_of, op, require
from edgec.ir.types import TensorType
from edgec.ops.elementwise import APPROXIMATED
from edgec.ops.movement import same_shapes

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


# ------------------------------------------------------------------ softmax
@dataclass(frozen=True)
class AlongAxis(Op):
    """y = f(x), along one axis.

    Inputs       x : T[*S]            T a float
    Outputs      y : T[*S]
    Attributes   axis : int
    Constraints  (C1) -rank(x) <= axis < rank(x)    (C2) T is a float
    Exactness    ROUNDING, as many terms as the axis has, factor 4
    """

    axis: int = -1
    factor: ClassVar[float] = APPROXIMATED

    def infer(self, x: TensorType) -> TensorType:
        axis_of(self, self.axis, x.rank)
        require(self, x.dtype.is_float, "C2", f"x: {x}", "floats")
        return x

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        (x,) = inputs
        assert x is not None
        return x.shape[self.axis]

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        return dims.normal(5 * outputs[0].numel)


@op("softmax")
@dataclass(frozen=True)
class Softmax(AlongAxis):
    """y_i = exp(x_i - m) / sum_j exp(x_j - m),   m = max_j x_j.   All else as `AlongAxis`."""

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.softmax(x, self.axis)

    def decompose(self, b: Builder, x: Value) -> Value:
        e = b.exp(b.sub(x, b.reduce_max(x, axes=(self.axis,), keep=True)))
        result: Value = b.div(e, b.reduce_sum(e, axes=(self.axis,), keep=True))
        return result


@op("log_softmax")
@dataclass(frozen=True)
class LogSoftmax(AlongAxis):
    """y_i = x_i - m - ln sum_j exp(x_j - m),   m = max_j x_j.   All else as `AlongAxis`."""

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.log_softmax(x, self.axis)

    def decompose(self, b: Builder, x: Value) -> Value:
        shifted = b.sub(x, b.reduce_max(x, axes=(self.axis,), keep=True))
        total = b.reduce_sum(b.exp(shifted), axes=(self.axis,), keep=True)
        result: Value = b.sub(shifted, b.log(total))
        return result


# ------------------------------------------------------------------ norms
def _check_floats(op: Op, x: TensorType, *others: TensorType | None) -> None:
    """C1 of the norms."""
    given = [x, *(t for t in others if t is not None)]
    one = x.dtype.is_float and all(t.dtype is x.dtype for t in given)
    require(op, one, "C1", ", ".join(map(str, given)), "operands of one float dtype")


def _check_shapes(op: Op, label: str, need: Shape, **operands: TensorType | None) -> None:
    """Every given operand has the shape `need`."""
    for name, t in operands.items():
        fits = t is None or same_shapes(t.shape, need)
        require(op, fits, label, f"{name}: {t}", f"shape {TensorTypeText(need)}")


def _standardized(b: Builder, x: Value, axes: tuple[int, ...], eps: float) -> Value:
    """(x - mean) / sqrt(var + eps) along `axes`."""
    centered = b.sub(x, b.reduce_mean(x, axes=axes, keep=True))
    var = b.reduce_mean(b.mul(centered, centered), axes=axes, keep=True)
    result: Value = b.div(centered, b.sqrt(b.add(var, b.scalar(eps, x.type.dtype))))
    return result


def _affine(b: Builder, x: Value, weight: Value | None, bias: Value | None) -> Value:
    """x weight + bias; either may be absent."""
    if weight is not None:
        x = b.mul(x, weight)
    return x if bias is None else b.add(x, bias)


def _per_channel(b: Builder, t: Value | None, rank: int) -> Value | None:
    """[C] -> [C, 1, ..], which broadcasts along axis 1 of a tensor of `rank` axes."""
    if t is None:
        return None
    shaped: Value = b.reshape(t, shape=(t.type.shape[0], *[1] * (rank - 2)))
    return shaped


def _channel_affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """x[:, c] weight[c] + bias[c]; either may be absent."""
    sides = (-1, *[1] * (x.dim() - 2))
    x = x if weight is None else x * weight.reshape(sides)
    return x if bias is None else x + bias.reshape(sides)


@dataclass(frozen=True)
class Norm(Op):
    """Base of the norms: their cost."""

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        return dims.normal(8 * outputs[0].numel)


@op("layer_norm")
@dataclass(frozen=True)
class LayerNorm(Norm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last `axes_count` axes.

    Ba, Kiros, Hinton 2016, arXiv:1607.06450; var is the mean of the squared differences.

    Inputs       x : T[*S, *N], weight? : T[*N], bias? : T[*N]     T a float, N of axes_count axes
    Outputs      y : T[*S, *N]
    Attributes   eps : float > 0, axes_count : int
    Constraints  (C1) one float dtype    (C2) 1 <= axes_count <= rank(x)
                 (C3) weight, bias are [*N]
    Exactness    ROUNDING, as many terms as N has elements
    """

    eps: float = 1e-5
    axes_count: int = 1

    def infer(
        self, x: TensorType, weight: TensorType | None = None, bias: TensorType | None = None
    ) -> TensorType:
        _check_floats(self, x, weight, bias)
        got = f"axes_count={self.axes_count}"
        require(self, 1 <= self.axes_count <= x.rank, "C2", got, f"1 .. {x.rank}")
        _check_shapes(self, "C3", x.shape[-self.axes_count :], weight=weight, bias=bias)
        return x

    def evaluate(
        self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        return F.layer_norm(x, x.shape[-self.axes_count :], weight, bias, self.eps)

    def decompose(
        self, b: Builder, x: Value, weight: Value | None = None, bias: Value | None = None
    ) -> Value:
        axes = tuple(range(-self.axes_count, 0))
        return _affine(b, _standardized(b, x, axes, self.eps), weight, bias)

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        x = inputs[0]
        assert x is not None
        return dims.product(x.shape[-self.axes_count :])


@op("rms_norm")
@dataclass(frozen=True)
class RmsNorm(Norm):
    """y = x / sqrt(mean(x^2) + eps) * weight along one axis.

    Zhang, Sennrich 2019, arXiv:1910.07467, eq. 4 (which has no eps).

    Inputs       x : T[*S], weight? : T[S[axis]]     T a float
    Outputs      y : T[*S]
    Attributes   eps : float > 0, axis : int
    Constraints  (C1) one float dtype    (C2) -rank(x) <= axis < rank(x)
                 (C3) weight is [S[axis]]
    Exactness    ROUNDING, as many terms as the axis has
    """

    eps: float = 1e-6
    axis: int = -1

    def infer(self, x: TensorType, weight: TensorType | None = None) -> TensorType:
        _check_floats(self, x, weight)
        axis = axis_of(self, self.axis, x.rank, "C2")
        _check_shapes(self, "C3", (x.shape[axis],), weight=weight)
        return x

    def evaluate(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        y = x * torch.rsqrt(torch.mean(x * x, self.axis, keepdim=True) + self.eps)
        if weight is None:
            return y
        return y * weight.reshape(-1, *[1] * (x.dim() - 1 - self.axis % x.dim()))

    def decompose(self, b: Builder, x: Value, weight: Value | None = None) -> Value:
        square = b.reduce_mean(b.mul(x, x), axes=(self.axis,), keep=True)
        y = b.mul(x, b.rsqrt(b.add(square, b.scalar(self.eps, x.type.dtype))))
        behind = x.type.rank - 1 - self.axis % x.type.rank
        if weight is not None and behind:
            weight = b.reshape(weight, shape=(weight.type.shape[0], *[1] * behind))
        return _affine(b, y, weight, None)

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        x = inputs[0]
        assert x is not None
        return x.shape[self.axis]


@op("group_norm")
@dataclass(frozen=True)
class GroupNorm(Norm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias; mean and var over the channels of a group.

    Wu, He 2018, arXiv:1803.08494. groups = C is the instance norm.

    Inputs       x : T[B, C, *S], weight? : T[C], bias? : T[C]     T a float
    Outputs      y : T[B, C, *S]
    Attributes   groups : int, eps : float > 0
    Constraints  (C1) one float dtype    (C2) x has at least two axes, C is a number
                 (C3) C is a multiple of groups    (C4) weight, bias are [C]
    Exactness    ROUNDING, C / groups * numel(S) terms
    """

    groups: int
    eps: float = 1e-5

    def infer(
        self, x: TensorType, weight: TensorType | None = None, bias: TensorType | None = None
    ) -> TensorType:
        _check_floats(self, x, weight, bias)
        static = x.rank >= 2 and isinstance(x.shape[1], int)
        require(self, static, "C2", f"x: {x}", "[B, C, *S] with a static C")
        fits = self.groups > 0 and x.shape[1] % self.groups == 0
        require(self, fits, "C3", f"groups={self.groups}", f"a divisor of C={x.shape[1]}")
        _check_shapes(self, "C4", (x.shape[1],), weight=weight, bias=bias)
        return x

    def evaluate(
        self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        # weight and bias apart: torch's derivative fails for a bias alone
        return _channel_affine(torch.group_norm(x, self.groups, eps=self.eps), weight, bias)

    def decompose(
        self, b: Builder, x: Value, weight: Value | None = None, bias: Value | None = None
    ) -> Value:
        shape = x.type.shape
        size = dims.floordiv(dims.product(shape[1:]), self.groups)
        rows = b.reshape(x, shape=(shape[0], self.groups, size))
        y = b.reshape(_standardized(b, rows, (-1,), self.eps), shape=shape)
        weight, bias = (_per_channel(b, t, len(shape)) for t in (weight, bias))
        return _affine(b, y, weight, bias)

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        x = inputs[0]
        assert x is not None
        return dims.floordiv(dims.product(x.shape[1:]), self.groups)


@op("batch_norm")
@dataclass(frozen=True)
class BatchNorm(Norm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias with given statistics per channel.

    Ioffe, Szegedy 2015, arXiv:1502.03167, algorithm 2.

    Inputs       x : T[B, C, *S], mean, var, weight?, bias? : T[C]     T a float
    Outputs      y : T[B, C, *S]
    Attributes   eps : float
    Constraints  (C1) one float dtype    (C2) x has at least two axes    (C3) the others are [C]
    Exactness    ROUNDING
    """

    eps: float = 1e-5

    def infer(
        self,
        x: TensorType,
        mean: TensorType,
        var: TensorType,
        weight: TensorType | None = None,
        bias: TensorType | None = None,
    ) -> TensorType:
        _check_floats(self, x, mean, var, weight, bias)
        require(self, x.rank >= 2, "C2", f"x: {x}", "[B, C, *S]")
        need = (x.shape[1],)
        _check_shapes(self, "C3", need, mean=mean, var=var, weight=weight, bias=bias)
        return x

    def evaluate(
        self,
        x: Tensor,
        mean: Tensor,
        var: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        # the formula, since torch's batch_norm has no derivative in the statistics
        sides = (-1, *[1] * (x.dim() - 2))
        y = (x - mean.reshape(sides)) * torch.rsqrt(var.reshape(sides) + self.eps)
        return _channel_affine(y, weight, bias)

    def decompose(
        self,
        b: Builder,
        x: Value,
        mean: Value,
        var: Value,
        weight: Value | None = None,
        bias: Value | None = None,
    ) -> Value:
        # one scale and one shift per channel: both fold where the statistics are constants
        deviation = b.sqrt(b.add(var, b.scalar(self.eps, x.type.dtype)))
        one = b.scalar(1, x.type.dtype)
        scale = b.div(one if weight is None else weight, deviation)
        shift = b.neg(b.mul(mean, scale))
        shift = shift if bias is None else b.add(shift, bias)
        rank = x.type.rank
        return _affine(b, x, _per_channel(b, scale, rank), _per_channel(b, shift, rank))

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        return dims.normal(2 * outputs[0].numel)
