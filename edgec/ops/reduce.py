"""Reductions along axes, running sums and the k largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.op import Exactness, Op, axis_of, op, require
from edgec.ir.types import DType, TensorType
from edgec.ops.indexing import size_value

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


@dataclass(frozen=True)
class Reduction(Op):
    """y = f over the elements along `axes`.

    Inputs       x : T[*S]
    Outputs      y : T[S without axes], or with 1 in their place where `keep`
    Attributes   axes : at least one axis, negative ones count from the end
                 keep : bool
    Constraints  (C1) -rank(x) <= axis < rank(x)    (C2) axes are different, at least one
                 (C3) T is as the op says
    """

    axes: tuple[int, ...]
    keep: bool = False

    def accepts(self, dtype: DType) -> bool:
        """Whether the op is defined for elements of this dtype (C3)."""
        return dtype is not DType.BOOL

    def axes_of(self, rank: int) -> tuple[int, ...]:
        """The axes as non-negative numbers, ascending."""
        axes = sorted({axis_of(self, a, rank) for a in self.axes})
        proper = len(axes) == len(self.axes) > 0
        require(self, proper, "C2", f"axes={list(self.axes)}", "different axes, at least one")
        return tuple(axes)

    def infer(self, x: TensorType) -> TensorType:
        axes = self.axes_of(x.rank)
        require(self, self.accepts(x.dtype), "C3", f"x: {x}", "a dtype that the op is defined for")
        if self.keep:
            return x.with_shape(*(1 if i in axes else d for i, d in enumerate(x.shape)))
        return x.with_shape(*(d for i, d in enumerate(x.shape) if i not in axes))

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        (x,) = inputs
        assert x is not None
        return dims.product(x.shape[a] for a in self.axes_of(x.rank))

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        (x,) = inputs
        assert x is not None
        return x.numel


@op("reduce_sum")
@dataclass(frozen=True)
class ReduceSum(Reduction):
    """y = the sum along `axes`, in the dtype of x; 0 of nothing.

    Inputs, outputs, attributes, constraints as `Reduction`; T any number.   Exactness ROUNDING.
    """

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.sum(x, self.axes, keepdim=self.keep, dtype=x.dtype)


@op("reduce_mean")
@dataclass(frozen=True)
class ReduceMean(Reduction):
    """y = the mean along `axes`; NaN of nothing.

    Inputs, outputs, attributes, constraints as `Reduction`; T a float.   Exactness ROUNDING.
    """

    def accepts(self, dtype: DType) -> bool:
        return dtype.is_float

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.mean(x, self.axes, keepdim=self.keep)

    def decompose(self, b: Builder, x: Value) -> Value:
        total = b.reduce_sum(x, axes=self.axes, keep=self.keep)
        result: Value = b.div(total, size_value(b, self.reduction([x.type]), x.type.dtype))
        return result


@dataclass(frozen=True)
class Extremum(Reduction):
    """y = the largest or smallest element along `axes`.

    Inputs, outputs, attributes, constraints as `Reduction`; T any, for bool it is "any" or "all".
    Constraints  (C4) not the extremum of nothing: no reduced dimension is 0
    Exactness    EXACT
    """

    exactness: ClassVar[Exactness] = Exactness.EXACT

    def accepts(self, dtype: DType) -> bool:
        return True

    def infer(self, x: TensorType) -> TensorType:
        result = Reduction.infer(self, x)
        filled = all(x.shape[a] != 0 for a in self.axes_of(x.rank))
        require(self, filled, "C4", f"x: {x}", "elements along every reduced axis")
        return result


@op("reduce_max")
@dataclass(frozen=True)
class ReduceMax(Extremum):
    """y = the largest element along `axes`.   All else as `Extremum`."""

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.amax(x, self.axes, keepdim=self.keep)


@op("reduce_min")
@dataclass(frozen=True)
class ReduceMin(Extremum):
    """y = the smallest element along `axes`.   All else as `Extremum`."""

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.amin(x, self.axes, keepdim=self.keep)

    def decompose(self, b: Builder, x: Value) -> Value:
        flip = b.logical_not if x.type.dtype is DType.BOOL else b.neg
        result: Value = flip(b.reduce_max(flip(x), axes=self.axes, keep=self.keep))
        return result


@dataclass(frozen=True)
class ArgExtremum(Op):
    """y = the index of an extremum along `axis`, the first of equal ones. No gradient.

    Inputs       x : T[*S]            T any number
    Outputs      y : i64[S without axis], or with 1 in its place where `keep`
    Attributes   axis : int, keep : bool
    Constraints  (C1) -rank(x) <= axis < rank(x)    (C2) T is not bool
                 (C3) the dimension is not 0
    Exactness    EXACT
    """

    axis: int
    keep: bool = False
    exactness: ClassVar[Exactness] = Exactness.EXACT

    def infer(self, x: TensorType) -> TensorType:
        axis = axis_of(self, self.axis, x.rank)
        require(self, x.dtype is not DType.BOOL, "C2", f"x: {x}", "numbers")
        require(self, x.shape[axis] != 0, "C3", f"x: {x}", "elements along the axis")
        middle = (1,) if self.keep else ()
        return TensorType(DType.I64, x.shape[:axis] + middle + x.shape[axis + 1 :])


@op("argmax")
@dataclass(frozen=True)
class Argmax(ArgExtremum):
    """y = the index of the largest element along `axis`.   All else as `ArgExtremum`."""

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.argmax(x, self.axis, self.keep)


@op("argmin")
@dataclass(frozen=True)
class Argmin(ArgExtremum):
    """y = the index of the smallest element along `axis`.   All else as `ArgExtremum`."""

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.argmin(x, self.axis, self.keep)

    def decompose(self, b: Builder, x: Value) -> Value | None:
        if not x.type.dtype.is_float:
            return None  # the smallest integer has no negative
        result: Value = b.argmax(b.neg(x), axis=self.axis, keep=self.keep)
        return result


@op("cumsum")
@dataclass(frozen=True)
class Cumsum(Op):
    """y_i = x_0 + ... + x_i along `axis`, in the dtype of x.

    Inputs       x : T[*S]            T any number
    Outputs      y : T[*S]
    Attributes   axis : int
    Constraints  (C1) -rank(x) <= axis < rank(x)    (C2) T is not bool
    Exactness    ROUNDING
    """

    axis: int

    def infer(self, x: TensorType) -> TensorType:
        axis_of(self, self.axis, x.rank)
        require(self, x.dtype is not DType.BOOL, "C2", f"x: {x}", "numbers")
        return x

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.cumsum(x, self.axis, dtype=x.dtype)

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        (x,) = inputs
        assert x is not None
        return x.shape[self.axis]


@op("topk")
@dataclass(frozen=True)
class Topk(Op):
    """The k largest (or smallest) elements along `axis`, in order, of equal ones the first.

    Inputs       x : T[*S]            T any number
    Outputs      values : T[S with k at axis], indices : i64[the same]
    Attributes   k : int, axis : int, largest : bool
    Constraints  (C1) -rank(x) <= axis < rank(x)    (C2) T is not bool
                 (C3) 0 <= k <= size of the axis
    Exactness    EXACT
    Differs      torch.topk leaves the order of equal elements open
    """

    k: int
    axis: int = -1
    largest: bool = True
    exactness: ClassVar[Exactness] = Exactness.EXACT

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        axis = axis_of(self, self.axis, x.rank)
        require(self, x.dtype is not DType.BOOL, "C2", f"x: {x}", "numbers")
        size = x.shape[axis]
        fits = self.k >= 0 and (not isinstance(size, int) or self.k <= size)
        require(self, fits, "C3", f"k={self.k}", f"0 <= k <= {dims.show(size)}")
        values = x.with_shape(*x.shape[:axis], self.k, *x.shape[axis + 1 :])
        return values, values.with_dtype(DType.I64)

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values, indices = torch.sort(x, dim=self.axis, descending=self.largest, stable=True)
        return values.narrow(self.axis, 0, self.k), indices.narrow(self.axis, 0, self.k)
