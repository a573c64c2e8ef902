"""Views, permutation, repetition, joining and splitting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgec.capture.call import Call, Number, Scalar
from edgec.capture.registry import aten
from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.graph import Value
from edgec.ir.types import DType


# ------------------------------------------------------------------ views
@aten("view", "_unsafe_view", "reshape", "view_copy", "_reshape_copy", "view_as", "reshape_as")
@aten("flatten.using_ints", "unflatten.int", "ravel", "unsqueeze", "unsqueeze_copy", "squeeze")
@aten("squeeze.dim", "squeeze.dims", "squeeze_copy", "squeeze_copy.dim", "squeeze_copy.dims")
@aten("atleast_1d", "atleast_2d")
def reshape(c: Call, x: Value, *_: Any) -> Value:
    """The target shape is torch's result: arguments are full of -1 and of sizes."""
    return c.reshape(x, c.shape)


@aten("expand", "expand_copy", "expand_as", "broadcast_to")
def expand(c: Call, x: Value, *_: Any) -> Value:
    return c.expand(x, c.shape)


@aten("permute", "permute_copy")
def permute(c: Call, x: Value, order: Sequence[int]) -> Value:
    return c.permute(x, [a % x.type.rank for a in order])


@aten("transpose.int", "transpose_copy.int", "swapaxes", "swapdims")
def transpose(c: Call, x: Value, a: int, b: int) -> Value:
    return c.swap(x, a, b) if x.type.rank else x


@aten("t", "t_copy", "numpy_T")
def reverse_axes(c: Call, x: Value) -> Value:
    return c.permute(x, range(x.type.rank)[::-1])


@aten("mT", "mH", "adjoint", "matrix_H")
def swap_last(c: Call, x: Value) -> Value:
    return c.swap(x, -1, -2)


@aten("movedim.intlist", "movedim.int", "moveaxis.intlist", "moveaxis.int")
def movedim(c: Call, x: Value, source: Any, destination: Any) -> Value:
    rank = x.type.rank
    sources = [a % rank for a in ([source] if isinstance(source, int) else source)]
    targets = [a % rank for a in ([destination] if isinstance(destination, int) else destination)]
    placed = dict(zip(targets, sources, strict=True))
    rest = iter(a for a in range(rank) if a not in sources)
    return c.permute(x, [placed[i] if i in placed else next(rest) for i in range(rank)])


@aten("pixel_shuffle")
def pixel_shuffle(c: Call, x: Value, r: int) -> Value:
    """[*, C r r, H, W] -> [*, C, H r, W r]; Shi et al. 2016, arXiv:1609.05158, eq. 4."""
    *lead, _, h, w = x.type.shape
    n = len(lead)
    split = c.reshape(x, [*lead, c.shape[n], r, r, h, w])
    order = [*range(n), n, n + 3, n + 1, n + 4, n + 2]
    return c.reshape(c.permute(split, order), c.shape)


@aten("pixel_unshuffle")
def pixel_unshuffle(c: Call, x: Value, r: int) -> Value:
    """[*, C, H r, W r] -> [*, C r r, H, W]."""
    *lead, channels, _, _ = x.type.shape
    n = len(lead)
    h, w = c.shape[-2:]
    split = c.reshape(x, [*lead, channels, h, r, w, r])
    order = [*range(n), n, n + 2, n + 4, n + 1, n + 3]
    return c.reshape(c.permute(split, order), c.shape)


@aten("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(c: Call, x: Value, groups: int) -> Value:
    batch, channels, *rest = x.type.shape
    split = c.reshape(x, [batch, groups, dims.floordiv(channels, groups), *rest])
    return c.reshape(c.swap(split, 1, 2), x.type.shape)


# ------------------------------------------------------------------ repetition, order
@aten("repeat", "tile")
def repeat(c: Call, x: Value, counts: Sequence[Dim]) -> Value:
    """[a, b] repeated (m, n) times: [1, a, 1, b] expanded to [m, a, n, b], then [m a, n b]."""
    rank = max(len(counts), x.type.rank)
    counts = [1] * (rank - len(counts)) + list(counts)
    shape = [1] * (rank - x.type.rank) + list(x.type.shape)
    spread = [d for size in shape for d in (1, size)]
    target = [d for n, size in zip(counts, shape, strict=True) for d in (n, size)]
    if all(n == 1 for n in counts):
        return c.reshape(x, c.shape)
    return c.reshape(c.expand(c.reshape(x, spread), target), c.shape)


@aten("repeat_interleave.self_int")
def repeat_interleave(c: Call, x: Value, count: Dim, axis: int | None, size: object) -> Value:
    if axis is None:
        x, axis = c.reshape(x, [x.type.numel]), 0
    axis %= x.type.rank
    shape = list(x.type.shape)
    apart = c.reshape(x, [*shape[: axis + 1], 1, *shape[axis + 1 :]])
    return c.reshape(c.expand(apart, [*shape[: axis + 1], count, *shape[axis + 1 :]]), c.shape)


@aten("flip")
def flip(c: Call, x: Value, axes: Sequence[int]) -> Value:
    return c.value(c.b.flip(x, axes=tuple(a % x.type.rank for a in axes))) if axes else x


@aten("roll")
def roll(c: Call, x: Value, shifts: Sequence[Dim], axes: Sequence[int]) -> Value:
    """y[i] = x[i - shift]: the last `shift` elements come first."""
    if not axes:
        flat = _rolled(c, c.reshape(x, [x.type.numel]), shifts[0], 0)
        return c.reshape(flat, x.type.shape)
    for shift, axis in zip(shifts, axes, strict=True):
        x = _rolled(c, x, shift, axis % x.type.rank)
    return x


def _rolled(c: Call, x: Value, shift: Dim, axis: int) -> Value:
    size = x.type.shape[axis]
    if isinstance(size, int) and isinstance(shift, int):
        shift %= max(size, 1)
    elif c.hint(shift) < 0:
        shift = dims.normal(shift + size)
    if shift == 0:
        return x
    start = dims.normal(size - shift)
    return c.concat([c.slice(x, axis, start, size), c.slice(x, axis, 0, start)], axis)


@aten("rot90")
def rot90(c: Call, x: Value, k: int, axes: Sequence[int]) -> Value:
    a, b = (axis % x.type.rank for axis in axes)
    if k % 4 == 2:
        return c.value(c.b.flip(x, axes=(a, b)))
    if k % 4 == 1:
        return c.swap(c.b.flip(x, axes=(b,)), a, b)
    return c.value(c.b.flip(c.swap(x, a, b), axes=(b,))) if k % 4 == 3 else x


# ------------------------------------------------------------------ joining
@aten("cat", "concat", "concatenate")
def cat(c: Call, xs: Sequence[Value], axis: int) -> Value:
    """torch skips operands of shape [0], the way that caches start in older code."""
    kept = [x for x in xs if not (x.type.rank == 1 and x.type.shape[0] == 0 and c.type.rank != 1)]
    parts = [c.cast(x, c.dtype) for x in kept]
    return c.concat(parts, axis % c.type.rank)


@aten("stack")
def stack(c: Call, xs: Sequence[Value], axis: int) -> Value:
    axis %= c.type.rank
    return c.concat([c.unsqueeze(c.cast(x, c.dtype), axis) for x in xs], axis)


@aten("hstack")
def hstack(c: Call, xs: Sequence[Value]) -> Value:
    parts = [c.unsqueeze(x, 0) if x.type.rank == 0 else x for x in xs]
    return cat(c, parts, 0 if parts[0].type.rank == 1 else 1)


@aten("vstack", "row_stack")
def vstack(c: Call, xs: Sequence[Value]) -> Value:
    return cat(c, [c.unsqueeze(x, 0) if x.type.rank == 1 else x for x in xs], 0)


@aten("column_stack")
def column_stack(c: Call, xs: Sequence[Value]) -> Value:
    return cat(c, [c.unsqueeze(x, 1) if x.type.rank == 1 else x for x in xs], 1)


# ------------------------------------------------------------------ splitting
@aten("split.Tensor", "split.sizes", "split_with_sizes", "chunk", "tensor_split.sections")
@aten("tensor_split.indices", "unsafe_split.Tensor", "unsafe_split_with_sizes", "unsafe_chunk")
@aten("split_copy.Tensor", "split_with_sizes_copy")
def split(c: Call, x: Value, how: Any, axis: int) -> tuple[Value, ...]:
    """The sizes of the parts are those of torch's results."""
    axis %= x.type.rank
    parts, start = [], 0
    for kind in c.types:
        assert kind is not None
        stop = dims.normal(start + kind.shape[axis])
        parts.append(c.slice(x, axis, start, stop))
        start = stop
    return tuple(parts)


@aten("unbind.int", "unbind_copy.int")
def unbind(c: Call, x: Value, axis: int) -> tuple[Value, ...]:
    axis %= x.type.rank
    parts = (c.slice(x, axis, i, i + 1) for i in range(len(c.types)))
    return tuple(c.squeeze(part, axis) for part in parts)


@aten("meshgrid", "meshgrid.indexing")
def meshgrid(c: Call, xs: Sequence[Value], indexing: str = "ij") -> tuple[Value, ...]:
    """Each vector along an axis of its own; "xy" swaps the first two axes."""
    order = list(range(len(xs)))
    if indexing == "xy" and len(xs) > 1:
        order[:2] = [1, 0]
    grids = []
    for x, axis, kind in zip(xs, order, c.types, strict=True):
        assert kind is not None
        shape: list[Dim] = [1] * len(xs)
        shape[axis] = x.type.numel
        grids.append(c.expand(c.reshape(x, shape), kind.shape))
    return tuple(grids)


@aten("broadcast_tensors")
def broadcast_tensors(c: Call, xs: Sequence[Value]) -> tuple[Value, ...]:
    return tuple(
        c.expand(x, kind.shape) for x, kind in zip(xs, c.types, strict=True) if kind is not None
    )


# ------------------------------------------------------------------ copies
@aten("copy")
def copy(c: Call, target: Value, source: Value, non_blocking: bool) -> Value:
    """`target.copy_(source)`: the source in the target's shape and dtype."""
    return c.expand(c.cast(source, c.dtype), c.shape)


@aten("fill.Scalar", "fill.Tensor")
def fill(c: Call, x: Value, value: Scalar) -> Value:
    return c.expand(c.operand(value, c.dtype), c.shape)


@aten("zero")
def zero(c: Call, x: Value) -> Value:
    return filled(c, 0)


def filled(c: Call, value: Number) -> Value:
    """The call's result, with one number everywhere."""
    if isinstance(value, bool | int | float):
        kind = bool if c.dtype is DType.BOOL else float if c.dtype.is_float else int
        return c.full(kind(value), c.dtype, c.shape)
    return c.expand(c.number(value, c.dtype), c.shape)
