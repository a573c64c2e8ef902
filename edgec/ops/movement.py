"""Ops that move data: views, parts, concatenation, padding. Every one is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.ir import dims
from edgec.ir.dims import Dim, Shape
from edgec.ir.op import Exactness, Op, TensorTypeText, axis_of, op, require
from edgec.ir.types import DType, TensorType
from edgec.ops.indexing import along, size_value

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


def same_shapes(a: Shape, b: Shape) -> bool:
    """Whether two shapes are equal for all values of the named dims."""
    return len(a) == len(b) and all(dims.same(x, y) for x, y in zip(a, b, strict=True))


def is_negative(dim: Dim) -> bool:
    """Whether a dimension is negative for all values of its names; False where not known."""
    return dim < 0 if isinstance(dim, int) else bool(dim.is_negative)


def number(dim: Dim) -> int:
    """A dimension of a bound op."""
    assert isinstance(dim, int)
    return dim


@dataclass(frozen=True)
class Movement(Op):
    """Base of the exact ops: the results hold elements of the operands, unchanged."""

    exactness: ClassVar[Exactness] = Exactness.EXACT


# ------------------------------------------------------------------ views
@op("reshape")
@dataclass(frozen=True)
class Reshape(Movement):
    """y = the elements of x in row-major order, in another shape.

    Inputs       x : T[*S]            T any
    Outputs      y : T[*shape]
    Attributes   shape : tuple[Dim, ...], every dimension given, no -1
    Constraints  (C1) no dimension is negative    (C2) numel(shape) = numel(x)
    Exactness    EXACT
    """

    shape: tuple[Dim, ...]

    def infer(self, x: TensorType) -> TensorType:
        y = x.with_shape(*self.shape)
        bad = any(is_negative(d) for d in y.shape)
        require(self, not bad, "C1", f"shape={TensorTypeText(y.shape)}", "no negative dimension")
        got = f"x: {x} to {TensorTypeText(y.shape)}"
        require(self, dims.same(x.numel, y.numel), "C2", got, "equal numbers of elements")
        return y

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.reshape(x, [number(d) for d in self.shape])


@op("permute")
@dataclass(frozen=True)
class Permute(Movement):
    """y[i_order[0], i_order[1], ...] = x[i_0, i_1, ...]: axis j of y is axis order[j] of x.

    Inputs       x : T[*S]            T any
    Outputs      y : T[S[order[0]], S[order[1]], ...]
    Attributes   order : tuple[int, ...]
    Constraints  (C1) order is a permutation of 0 .. rank(x)-1
    Exactness    EXACT
    """

    order: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        proper = sorted(self.order) == list(range(x.rank))
        got = f"order={list(self.order)}"
        require(self, proper, "C1", got, f"a permutation of 0 .. {x.rank - 1}")
        return x.with_shape(*(x.shape[a] for a in self.order))

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.permute(x, self.order)


@op("expand")
@dataclass(frozen=True)
class Expand(Movement):
    """y = x repeated along axes of size 1 and along new leading axes (numpy's rules).

    Inputs       x : T[*S]            T any
    Outputs      y : T[*shape]
    Attributes   shape : tuple[Dim, ...], the full shape
    Constraints  (C1) S broadcasts to shape
    Exactness    EXACT
    """

    shape: tuple[Dim, ...]

    def infer(self, x: TensorType) -> TensorType:
        y = x.with_shape(*self.shape)
        got, need = f"x: {x}", f"a shape that broadcasts to {TensorTypeText(y.shape)}"
        require(self, y.rank >= x.rank, "C1", got, need)
        tail = y.shape[y.rank - x.rank :]
        fits = all(a == 1 or dims.same(a, b) for a, b in zip(x.shape, tail, strict=True))
        require(self, fits, "C1", got, need)
        return y

    def evaluate(self, x: Tensor) -> Tensor:
        return x.expand([number(d) for d in self.shape])


# ------------------------------------------------------------------ parts
def _span(start: Dim, stop: Dim, step: int) -> Dim:
    """Number of indices start, start + step, ... below stop."""
    return dims.floordiv(dims.normal(stop - start + step - 1), step)


def _check_span(op: Op, size: Dim, start: Dim, stop: Dim, step: int) -> None:
    """C2 and C3 of `slice` and `scatter_slice`."""
    require(op, step > 0, "C2", f"step={step}", "step > 0; flip reverses an axis")
    ordered = not any(is_negative(dims.normal(d)) for d in (start, stop - start, size - stop))
    got = f"start={dims.show(start)}, stop={dims.show(stop)}"
    require(op, ordered, "C3", got, f"0 <= start <= stop <= {dims.show(size)}")


@op("slice")
@dataclass(frozen=True)
class Slice(Movement):
    """y = x[start : stop : step] along `axis`.

    Inputs       x : T[*S]            T any
    Outputs      y : T[S with ceil((stop - start) / step) at axis]
    Attributes   axis : int, start : Dim, stop : Dim or None (the end), step : int
    Constraints  (C1) -rank(x) <= axis < rank(x)    (C2) step > 0
                 (C3) 0 <= start <= stop <= size of the axis
    Exactness    EXACT
    """

    axis: int
    start: Dim = 0
    stop: Dim | None = None
    step: int = 1

    def infer(self, x: TensorType) -> TensorType:
        axis = axis_of(self, self.axis, x.rank)
        size = x.shape[axis]
        stop = size if self.stop is None else self.stop
        _check_span(self, size, self.start, stop, self.step)
        length = _span(self.start, stop, self.step)
        return x.with_shape(*x.shape[:axis], length, *x.shape[axis + 1 :])

    def evaluate(self, x: Tensor) -> Tensor:
        # narrow, and not an index: it raises where an index would silently clip
        start = number(self.start)
        stop = x.shape[self.axis] if self.stop is None else number(self.stop)
        part = torch.narrow(x, self.axis, start, stop - start)
        if self.step == 1:
            return part
        before = (slice(None),) * (self.axis % x.dim())
        return part[(*before, slice(None, None, self.step))]


@op("scatter_slice")
@dataclass(frozen=True)
class ScatterSlice(Movement):
    """x with y in place of x[start : stop : step] along `axis`.

    Inputs       x : T[*S]            T any
                 y : T[S with ceil((stop - start) / step) at axis]
    Outputs      T[*S]
    Attributes   axis : int, start : Dim, stop : Dim or None (the end), step : int
    Constraints  (C1) -rank(x) <= axis < rank(x)    (C2) step > 0
                 (C3) 0 <= start <= stop <= size of the axis
                 (C4) type(y) = type(x[start : stop : step])
    Exactness    EXACT
    """

    axis: int
    start: Dim = 0
    stop: Dim | None = None
    step: int = 1

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        axis = axis_of(self, self.axis, x.rank)
        size = x.shape[axis]
        stop = size if self.stop is None else self.stop
        _check_span(self, size, self.start, stop, self.step)
        length = _span(self.start, stop, self.step)
        part = x.with_shape(*x.shape[:axis], length, *x.shape[axis + 1 :])
        require(self, y.same(part), "C4", f"y: {y}", str(part))
        return x

    def evaluate(self, x: Tensor, y: Tensor) -> Tensor:
        start = number(self.start)
        stop = x.shape[self.axis] if self.stop is None else number(self.stop)
        return torch.slice_scatter(x, y, self.axis, start, stop, self.step)

    def decompose(self, b: Builder, x: Value, y: Value) -> Value:
        axis = self.axis % x.type.rank
        size = x.type.shape[axis]
        stop = size if self.stop is None else self.stop
        if y.type.shape[axis] == 0:
            return x
        result: Value
        if self.step == 1:
            before = b.slice(x, axis=axis, start=0, stop=self.start)
            result = b.concat(before, y, b.slice(x, axis=axis, start=stop), axis=axis)
            return result
        # position i holds y[(i - start) / step] where that is a whole number in range
        dtype = DType.I64
        offset = b.iota(size=size, start=dims.normal(-self.start))
        zero, step = b.scalar(0, dtype), b.scalar(self.step, dtype)
        length = size_value(b, dims.normal(stop - self.start), dtype)
        inside = b.logical_and(b.ge(offset, zero), b.lt(offset, length))
        inside = b.logical_and(inside, b.eq(b.mod(offset, step), zero))
        index = b.where(inside, b.floor_div(offset, step), zero)
        spread = b.gather(y, index, axis=axis)
        result = b.where(along(b, inside, axis, x.type.rank), spread, x)
        return result


@op("flip")
@dataclass(frozen=True)
class Flip(Movement):
    """y = x with the order of elements along `axes` reversed.

    Inputs       x : T[*S]            T any
    Outputs      y : T[*S]
    Attributes   axes : tuple[int, ...]
    Constraints  (C1) -rank(x) <= axis < rank(x)    (C2) axes are different
    Exactness    EXACT
    """

    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        axes = {axis_of(self, a, x.rank) for a in self.axes}
        proper = len(axes) == len(self.axes)
        require(self, proper, "C2", f"axes={list(self.axes)}", "different axes")
        return x

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.flip(x, self.axes)

    def decompose(self, b: Builder, x: Value) -> Value:
        for axis in self.axes:
            size = x.type.shape[axis]
            last = size - 1
            x = b.gather(x, b.iota(size=size, start=last, step=-1), axis=axis % x.type.rank)
        return x


@op("concat")
@dataclass(frozen=True)
class Concat(Movement):
    """y = the operands one after the other along `axis`.

    Inputs       x_0, x_1, ... : T[*S_i]        T any; equal but for the size of the axis
    Outputs      y : T[S_0 with the sum of the sizes at axis]
    Attributes   axis : int
    Constraints  (C1) -rank <= axis < rank    (C2) at least one operand, all of one dtype
                 (C3) equal ranks, and equal dimensions but for the axis
    Exactness    EXACT
    """

    axis: int

    def infer(self, *xs: TensorType) -> TensorType:
        require(self, len({x.dtype for x in xs}) == 1, "C2", listed(xs), "operands of one dtype")
        first = xs[0]
        axis = axis_of(self, self.axis, first.rank)

        def others(x: TensorType) -> Shape:
            return x.shape[:axis] + x.shape[axis + 1 :]

        fits = all(x.rank == first.rank and same_shapes(others(x), others(first)) for x in xs)
        require(self, fits, "C3", listed(xs), f"shapes that are equal but for axis {axis}")
        total = sum((x.shape[axis] for x in xs), 0)
        return first.with_shape(*first.shape[:axis], total, *first.shape[axis + 1 :])

    def evaluate(self, *xs: Tensor) -> Tensor:
        return torch.cat(xs, self.axis)


def listed(xs: tuple[TensorType, ...]) -> str:
    """Types for an error's text."""
    return ", ".join(map(str, xs)) or "no operands"


@op("pad")
@dataclass(frozen=True)
class Pad(Movement):
    """y = x with elements added before and after each axis.

    constant   `value`
    reflect    x mirrored at its first and last element, which are not repeated
    edge       the first and last element, repeated

    Inputs       x : T[*S]            T any
    Outputs      y : T[S_i + low_i + high_i]
    Attributes   pads : one pair (low, high) of Dim per axis, mode, value : float
    Constraints  (C1) one pair per axis    (C2) no pad is negative; slice takes away
                 (C3) reflect: pads are smaller than the dimension; edge: the dimension is not 0
                 (C4) an integer x is padded with a whole number, bool with 0 or 1
    Exactness    EXACT
    """

    pads: tuple[tuple[Dim, Dim], ...]
    mode: Literal["constant", "reflect", "edge"] = "constant"
    value: float = 0.0

    def infer(self, x: TensorType) -> TensorType:
        got = f"{len(self.pads)} pairs"
        require(self, len(self.pads) == x.rank, "C1", got, f"{x.rank}, one per axis of {x}")
        flat = [dims.normal(p) for pair in self.pads for p in pair]
        got = f"pads={TensorTypeText(flat)}"
        require(self, not any(map(is_negative, flat)), "C2", got, "no negative pad")
        for size, pair in zip(x.shape, self.pads, strict=True):
            self._check_room(size, pair)
        whole = x.dtype.is_float or float(self.value).is_integer()
        whole = whole and (x.dtype is not DType.BOOL or self.value in (0.0, 1.0))
        require(self, whole, "C4", f"value={self.value}", f"a value of {x.dtype.value}")
        sizes = zip(x.shape, self.pads, strict=True)
        return x.with_shape(*(size + low + high for size, (low, high) in sizes))

    def _check_room(self, size: Dim, pair: tuple[Dim, Dim]) -> None:
        """C3 for one axis."""
        if self.mode == "constant" or all(p == 0 for p in pair):
            return
        room = (
            1
            if self.mode == "edge"
            else max((p for p in pair if isinstance(p, int)), default=0) + 1
        )
        fits = not isinstance(size, int) or size >= room
        got = f"size {dims.show(size)}"
        require(self, fits, "C3", got, f"at least {room} elements to pad from")

    def evaluate(self, x: Tensor) -> Tensor:
        if self.mode == "constant":
            flat = [number(p) for pair in reversed(self.pads) for p in pair]
            return F.pad(x, flat, value=self._element(DType.of(x.dtype)))
        for axis, (low, high) in enumerate(self.pads):
            if (low, high) != (0, 0):
                n = x.shape[axis]
                i = torch.arange(-number(low), n + number(high), device=x.device)
                i = (
                    i.clamp(0, n - 1)
                    if self.mode == "edge"
                    else (n - 1) - ((n - 1) - i.abs()).abs()
                )
                x = torch.index_select(x, axis, i)
        return x

    def decompose(self, b: Builder, x: Value) -> Value:
        for axis, (low, high) in enumerate(self.pads):
            if (low, high) == (0, 0):
                continue
            if self.mode == "constant":
                x = self._surround(b, x, axis, low, high)
            else:
                x = b.gather(x, self._sources(b, x.type.shape[axis], low, high), axis=axis)
        return x

    def _element(self, dtype: DType) -> float:
        """The padding value as a number of the kind of `dtype`."""
        kind = float if dtype.is_float else bool if dtype is DType.BOOL else int
        return kind(self.value)

    def _surround(self, b: Builder, x: Value, axis: int, low: Dim, high: Dim) -> Value:
        """x between blocks of the constant."""
        dtype, shape = x.type.dtype, x.type.shape

        def block(size: Dim) -> list[Value]:
            if size == 0:
                return []
            sides = (*shape[:axis], size, *shape[axis + 1 :])
            return [b.full(shape=sides, value=self._element(dtype), dtype=dtype)]

        result: Value = b.concat(*block(low), x, *block(high), axis=axis)
        return result

    def _sources(self, b: Builder, size: Dim, low: Dim, high: Dim) -> Value:
        """The index along x of each element along y."""
        index = b.iota(size=dims.normal(size + low + high), start=dims.normal(-low))
        last = size_value(b, size - 1, DType.I64)
        result: Value
        if self.mode == "edge":
            result = b.minimum(b.maximum(index, b.scalar(0, DType.I64)), last)
        else:
            result = b.sub(last, b.abs(b.sub(last, b.abs(index))))
        return result
