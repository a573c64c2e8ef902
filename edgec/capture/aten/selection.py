"""Parts of a tensor at known places: slices, single positions, diagonals, windows."""

from __future__ import annotations

from typing import Any

from edgec.capture.aten.movement import reshape
from edgec.capture.call import Call
from edgec.capture.registry import aten
from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.graph import Value

END = 2**62  # torch writes "to the end" as the largest integer


def position(c: Call, place: Dim | None, size: Dim, default: Dim) -> Dim:
    """A slice's end point as a non-negative size: negative ones count from the end.

    Whether a symbolic one is negative, or beyond the end, is decided by the example inputs, as
    torch did.
    """
    if place is None:
        return default
    if isinstance(place, int) and place >= END:
        return size
    if c.hint(place) < 0:
        place = dims.normal(place + size)
        return place if c.hint(place) >= 0 else 0
    return size if c.hint(place) > c.hint(size) else place


@aten("slice.Tensor", "slice_copy.Tensor")
def slice_(c: Call, x: Value, axis: int, start: Any, stop: Any, step: int) -> Value:
    axis %= x.type.rank
    first, last = _bounds(c, x, axis, start, stop, c.shape[axis], step)
    return c.slice(x, axis, first, last, step)


def _bounds(
    c: Call, x: Value, axis: int, start: Any, stop: Any, length: Dim, step: int
) -> tuple[Dim, Dim]:
    """Normalised start and stop of a slice that has `length` elements."""
    size = x.type.shape[axis]
    first = position(c, start, size, 0)
    if step == 1:
        return first, dims.normal(first + length)
    return first, position(c, stop, size, size)


@aten("slice_scatter")
def slice_scatter(
    c: Call, x: Value, y: Value, axis: int, start: Any, stop: Any, step: int
) -> Value:
    axis %= x.type.rank
    first, last = _bounds(c, x, axis, start, stop, y.type.shape[axis], step)
    y = c.cast(y, x.type.dtype)
    if step == 1 and first == 0 and dims.same(last, x.type.shape[axis]):
        return y
    return c.value(c.b.scatter_slice(x, y, axis=axis, start=first, stop=last, step=step))


@aten("select.int", "select_copy.int")
def select(c: Call, x: Value, axis: int, index: Dim) -> Value:
    axis %= x.type.rank
    first = _index(c, x, axis, index)
    part = _stacked_part(c, x, axis, first)
    if part is None:
        part = c.slice(x, axis, first, dims.normal(first + 1))
    return c.squeeze(part, axis)


def _stacked_part(c: Call, x: Value, axis: int, index: Dim) -> Value | None:
    """The operand that stands at `index` where `x` was just stacked of operands of size 1."""
    node = c.producer(x)
    if node is None or node.op.name != "concat" or not isinstance(index, int):
        return None
    parts = [c.b.operand(name) for name in node.operands]
    stacked = getattr(node.op, "axis", None) == axis
    if not stacked or any(p is None or p.type.shape[axis] != 1 for p in parts):
        return None
    return parts[index]


def _index(c: Call, x: Value, axis: int, index: Dim) -> Dim:
    size = x.type.shape[axis]
    return dims.normal(index + size) if c.hint(index) < 0 else index


@aten("select_scatter")
def select_scatter(c: Call, x: Value, y: Value, axis: int, index: Dim) -> Value:
    axis %= x.type.rank
    first = _index(c, x, axis, index)
    part = c.unsqueeze(c.cast(y, x.type.dtype), axis)
    stop = dims.normal(first + 1)
    return c.value(c.b.scatter_slice(x, part, axis=axis, start=first, stop=stop))


@aten("narrow", "narrow_copy")
def narrow(c: Call, x: Value, axis: int, start: Dim, length: Dim) -> Value:
    axis %= x.type.rank
    first = _index(c, x, axis, start)
    return c.slice(x, axis, first, dims.normal(first + length))


# ------------------------------------------------------------------ diagonals
@aten("diagonal", "diagonal_copy")
def diagonal(c: Call, x: Value, offset: int, a: int, b: int) -> Value:
    """y[.., i] = x[i + max(-offset, 0), i + max(offset, 0)] over the axes a and b."""
    rank = x.type.rank
    a, b = a % rank, b % rank
    rest = [i for i in range(rank) if i not in (a, b)]
    ramp = c.iota(c.shape[-1])
    places = [c.b.add(ramp, c.number(max(o, 0), ramp.type.dtype)) for o in (-offset, offset)]
    taken = c.b.gather_nd(c.permute(x, [a, b, *rest]), *places)
    return c.permute(taken, [*range(1, c.type.rank), 0])


@aten("diag")
def diag(c: Call, x: Value, offset: int) -> Value:
    if x.type.rank == 2:
        return diagonal(c, x, offset, 0, 1)
    if offset:
        return c.fail("diag of a vector with an offset")
    (size,) = x.type.shape
    index = c.iota(size)
    on = c.b.eq(c.reshape(index, [size, 1]), c.reshape(index, [1, size]))
    return c.value(c.b.where(on, x, c.number(0, c.dtype)))


@aten("trace")
def trace(c: Call, x: Value) -> Value:
    size = min(x.type.shape, key=c.hint)
    ramp = c.iota(size)
    taken = c.cast(c.b.gather_nd(x, ramp, ramp), c.dtype)
    return c.value(c.b.reduce_sum(taken, axes=(0,)))


# ------------------------------------------------------------------ windows
@aten("unfold", "unfold_copy")
def unfold(c: Call, x: Value, axis: int, size: int, step: int) -> Value:
    """Windows of `size` elements, one every `step`: [.., n, .., size]."""
    axis = c.axis(axis, x.type.rank)
    count = c.shape[axis]
    starts = c.b.iota(size=count, step=step)
    index = c.b.add(c.reshape(starts, [count, 1]), c.iota(size))
    windows = c.b.gather(x, index, axis=axis)
    order = [i for i in range(windows.type.rank) if i != axis + 1] + [axis + 1]
    return c.permute(windows, order)


@aten("as_strided", "as_strided_copy")
def as_strided(c: Call, x: Value, size: Any, stride: Any, offset: Any) -> Value:
    """Only the form that reads all of a tensor in its own order is a reshape."""
    natural: Dim = 1
    for length, step in zip(reversed(size), reversed(stride), strict=True):
        if length != 1 and not dims.same(step, natural):
            return c.fail("as_strided over an overlapping or permuted layout; use unfold, permute")
        natural = dims.normal(natural * length)
    if offset or not dims.same(natural, x.type.numel):
        return c.fail("as_strided over a part of the memory; use slices")
    return reshape(c, x)
