"""Writes at computed places, without a scatter operator: every target can compare and select.

A write of K elements into N places compares all K indices with all N positions. That costs N K,
which suits the small writes of inference (one-hot masks, the slots of a cache), and keeps "the
last write wins" of torch's CPU kernels where indices repeat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgec.capture.aten.indexing import indices, wrapped
from edgec.capture.call import Call, Scalar
from edgec.capture.registry import aten
from edgec.ir import dims
from edgec.ir.graph import Value
from edgec.ir.types import DType


def _hits(c: Call, x: Value, axis: int, ids: Value) -> tuple[Value, list[int]]:
    """bool [*S, N, K]: whether ids[*S, k] is position n along `axis`, and the order that moves
    `axis` last."""
    rank = x.type.rank
    others = [i for i in range(rank) if i != axis]
    agree = all(dims.same(x.type.shape[i], ids.type.shape[i]) for i in others)
    if not agree:
        c.fail(f"scatter into a part: indices {ids.type}, target {x.type}; need equal other axes")
    order = [*others, axis]
    size = x.type.shape[axis]
    moved = c.unsqueeze(c.permute(indices(c, ids), order), -2)
    places = c.reshape(c.cast(c.iota(size), moved.type.dtype), [size, 1])
    return c.value(c.b.eq(moved, places)), order


def _back(order: Sequence[int]) -> list[int]:
    return [order.index(i) for i in range(len(order))]


def _last_hit(c: Call, hits: Value) -> Value:
    """i64 [*S, N]: the largest k that writes to the place, -1 for none."""
    k = c.iota(hits.type.shape[-1])
    marked = c.b.where(hits, k, c.number(-1, DType.I64))
    return c.value(c.b.reduce_max(marked, axes=(-1,)))


@aten("scatter.value")
def scatter_value(c: Call, x: Value, axis: int, ids: Value, value: Scalar) -> Value:
    axis %= x.type.rank
    hits, order = _hits(c, x, axis, ids)
    written = c.permute(c.b.reduce_max(hits, axes=(-1,)), _back(order))
    return c.value(c.b.where(written, c.operand(value, x.type.dtype), x))


@aten("scatter.src")
def scatter(c: Call, x: Value, axis: int, ids: Value, source: Value) -> Value:
    axis %= x.type.rank
    hits, order = _hits(c, x, axis, ids)
    part = source
    for i, size in enumerate(
        ids.type.shape
    ):  # torch reads as much of the source as there are indices
        part = c.slice(part, i, 0, size)
    last = c.permute(_last_hit(c, hits), _back(order))
    zero = c.number(0, DType.I64)
    taken = c.b.take_along(part, c.b.maximum(last, zero), axis=axis)
    return c.value(c.b.where(c.b.ge(last, zero), taken, x))


@aten("scatter_add")
def scatter_add(c: Call, x: Value, axis: int, ids: Value, source: Value) -> Value:
    return scatter_reduce(c, x, axis, ids, source, "sum", True)


_NEUTRAL = {"sum": 0.0, "mean": 0.0, "amax": -math.inf, "amin": math.inf}
_JOIN = {
    "sum": ("reduce_sum", "add"),
    "mean": ("reduce_sum", "add"),
    "amax": ("reduce_max", "maximum"),
    "amin": ("reduce_min", "minimum"),
}


@aten("scatter_reduce.two")
def scatter_reduce(
    c: Call, x: Value, axis: int, ids: Value, source: Value, how: str, include_self: bool
) -> Value:
    if how not in _JOIN or (not x.type.dtype.is_float and how != "sum"):
        c.fail(f"scatter_reduce with reduce={how} of {x.type.dtype.value}")
    axis %= x.type.rank
    hits, order = _hits(c, x, axis, ids)
    part = source
    for i, size in enumerate(ids.type.shape):
        part = c.slice(part, i, 0, size)
    neutral = _NEUTRAL[how] if x.type.dtype.is_float else 0
    spread = c.unsqueeze(c.permute(part, order), -2)
    chosen = c.b.where(hits, spread, c.number(neutral, x.type.dtype))
    reduce, join = _JOIN[how]
    back = _back(order)
    total = c.permute(getattr(c.b, reduce)(chosen, axes=(-1,)), back)
    own = x
    count = c.permute(c.b.reduce_sum(c.cast(hits, x.type.dtype), axes=(-1,)), back)
    written = c.b.gt(count, c.number(0, x.type.dtype))
    if not include_self:
        own = c.b.where(written, c.number(neutral, x.type.dtype), x)
    total = getattr(c.b, join)(own, total)
    if how == "mean":
        one = c.number(1, x.type.dtype)
        divisor = c.b.add(count, one) if include_self else c.b.maximum(count, one)
        total = c.b.div(total, divisor)
    return c.value(total)


# ------------------------------------------------------------------ whole slices at an index
def _write_rows(c: Call, x: Value, ids: Value, rows: Value, accumulate: bool) -> Value:
    """x [N, *C] with rows [K, *C] written to, or added at, ids [K]."""
    size, count = x.type.shape[0], ids.type.shape[0]
    places = c.reshape(c.cast(c.iota(size), ids.type.dtype), [size, 1])
    hits = c.value(c.b.eq(c.reshape(ids, [1, count]), places))
    if accumulate:
        width = dims.product(x.type.shape[1:])
        chosen = c.b.matmul(c.cast(hits, x.type.dtype), c.reshape(rows, [count, width]))
        return c.value(c.b.add(x, c.reshape(chosen, x.type.shape)))
    last = _last_hit(c, hits)
    zero = c.number(0, DType.I64)
    taken = c.b.gather(rows, c.b.maximum(last, zero), axis=0)
    written = c.reshape(c.b.ge(last, zero), [size] + [1] * (x.type.rank - 1))
    return c.value(c.b.where(written, taken, x))


def _along(c: Call, x: Value, axis: int, ids: Value, source: Value, accumulate: bool) -> Value:
    ids = c.reshape(wrapped(c, ids, x.type.shape[axis]), [ids.type.numel])
    order = [axis, *(i for i in range(x.type.rank) if i != axis)]
    rows, moved = c.permute(source, order), c.permute(x, order)
    return c.permute(_write_rows(c, moved, ids, rows, accumulate), _back(order))


@aten("index_add")
def index_add(c: Call, x: Value, axis: int, ids: Value, source: Value, alpha: Scalar) -> Value:
    scaled = c.b.mul(source, c.operand(alpha, x.type.dtype)) if alpha != 1 else source
    return _along(c, x, axis % x.type.rank, ids, scaled, True)


@aten("index_copy")
def index_copy(c: Call, x: Value, axis: int, ids: Value, source: Value) -> Value:
    return _along(c, x, axis % x.type.rank, ids, source, False)


@aten("index_fill.int_Scalar", "index_fill.int_Tensor")
def index_fill(c: Call, x: Value, axis: int, ids: Value, value: Scalar) -> Value:
    axis %= x.type.rank
    shape = [*x.type.shape[:axis], ids.type.numel, *x.type.shape[axis + 1 :]]
    source = c.expand(c.operand(value, x.type.dtype), shape)
    return _along(c, x, axis, ids, source, False)


@aten("index_put", "_unsafe_index_put")
def index_put(
    c: Call, x: Value, places: Sequence[Value | None], values: Value, accumulate: bool
) -> Value:
    """x[i, j] = values: the indexed axes in front are written as rows of one axis."""
    axes = [i for i, p in enumerate(places) if p is not None]
    given = [p for p in places if p is not None]
    values = c.cast(values, x.type.dtype)
    if any(p.type.dtype is DType.BOOL for p in given):
        return _masked(c, x, axes, given, values, accumulate)
    shape = _broadcast([p.type.shape for p in given])
    count = dims.product(shape)
    lead = [x.type.shape[i] for i in axes]
    rest = [i for i in range(x.type.rank) if i not in axes]
    flat: Value | None = None
    for place, size in zip(given, lead, strict=True):
        own = c.reshape(c.expand(wrapped(c, place, size), shape), [count])
        own = c.cast(own, DType.I64)
        scaled = own if flat is None else c.b.mul(flat, c.number(size, DType.I64))
        flat = own if flat is None else c.b.add(scaled, own)
    assert flat is not None
    adjacent = axes == list(range(axes[0], axes[0] + len(axes)))
    sides = [x.type.shape[i] for i in rest]
    at = axes[0] if adjacent else 0
    target = [*sides[:at], *shape, *sides[at:]]
    rows = c.permute(c.expand(values, target), _front(at, len(shape), len(target)))
    order = [*axes, *rest]
    moved = c.permute(x, order)
    table = c.reshape(moved, [dims.product(lead), *sides])
    made = _write_rows(c, table, flat, c.reshape(rows, [count, *sides]), accumulate)
    return c.permute(c.reshape(made, moved.type.shape), _back(order))


def _front(at: int, width: int, rank: int) -> list[int]:
    """The order that brings `width` axes from `at` to the front."""
    inner = range(at, at + width)
    return [*inner, *(i for i in range(rank) if i not in inner)]


def _broadcast(shapes: Sequence[Sequence[dims.Dim]]) -> list[dims.Dim]:
    rank = max(len(s) for s in shapes)
    wide = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    return [next((d for d in column if d != 1), 1) for column in zip(*wide, strict=True)]


def _masked(
    c: Call, x: Value, axes: list[int], masks: list[Value], values: Value, accumulate: bool
) -> Value:
    """x[mask] = one value, or one for each place behind the mask's axes."""
    (mask, *others) = masks
    if others or axes != [0] or values.type.rank > x.type.rank - mask.type.rank:
        c.fail("a write through a boolean index of several values; use where or masked_scatter")
    behind = x.type.rank - mask.type.rank
    shaped = c.reshape(mask, [*mask.type.shape, *[1] * behind])
    if accumulate:
        values = c.value(c.b.add(x, values))
    return c.value(c.b.where(shaped, values, x))


# ------------------------------------------------------------------ masks, intervals
@aten("masked_scatter")
def masked_scatter(c: Call, x: Value, mask: Value, source: Value) -> Value:
    """The i-th True takes the i-th element of the source."""
    flat = c.reshape(c.expand(mask, x.type.shape), [x.type.numel])
    rank = c.b.sub(c.b.cumsum(c.cast(flat, DType.I64), axis=0), c.number(1, DType.I64))
    last = c.number(dims.normal(source.type.numel - 1), DType.I64)
    index = c.b.minimum(c.b.maximum(rank, c.number(0, DType.I64)), last)
    taken = c.b.gather(c.reshape(source, [source.type.numel]), index, axis=0)
    return c.value(c.b.where(mask, c.reshape(taken, x.type.shape), x))


@aten("bucketize.Tensor")
def bucketize(c: Call, x: Value, bounds: Value, int32: bool, right: bool) -> Value:
    return _count_below(c, bounds, x, right)


@aten("searchsorted.Tensor")
def searchsorted(
    c: Call, bounds: Value, x: Value, int32: bool, right: bool, side: str | None, order: object
) -> Value:
    if order is not None or bounds.type.rank != 1:
        c.fail("searchsorted with a sorter or with several sequences")
    return _count_below(c, bounds, x, right or side == "right")


def _count_below(c: Call, bounds: Value, x: Value, right: bool) -> Value:
    """The number of bounds that are < x, or <= x."""
    left, inside = c.promoted(bounds, c.unsqueeze(x, -1), dtype=c.common(bounds, x))
    below = c.b.le(left, inside) if right else c.b.lt(left, inside)
    return c.value(c.b.reduce_sum(c.cast(below, c.dtype), axes=(-1,)))
