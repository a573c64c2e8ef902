"""Parts of a tensor at computed places: embedding, gather, advanced indexing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edgec.capture.call import Call
from edgec.capture.registry import aten
from edgec.ir.dims import Dim
from edgec.ir.graph import Node, Value
from edgec.ir.types import DType

INDICES = (DType.I64, DType.I32)


def indices(c: Call, ids: Value) -> Value:
    return ids if ids.type.dtype in INDICES else c.cast(ids, DType.I64)


@aten("embedding")
def embedding(c: Call, table: Value, ids: Value, *_: Any) -> Value:
    return c.value(c.b.gather(table, indices(c, ids), axis=0))


@aten("index_select")
def index_select(c: Call, x: Value, axis: int, ids: Value) -> Value:
    if x.type.rank == 0:
        return x
    taken = c.b.gather(x, indices(c, ids), axis=axis % x.type.rank)
    return c.reshape(taken, c.shape)


@aten("embedding_bag.padding_idx", "embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(
    c: Call,
    table: Value,
    ids: Value,
    offsets: Value,
    scale_grad: bool,
    mode: int,
    sparse: bool,
    weights: Value | None,
    include_last: bool,
    padding: int | None = None,
) -> tuple[Value, None, None, None]:
    """Sum, mean or maximum of the table's rows in each bag; bag b starts at position offsets[b]."""
    if padding is not None and padding >= 0:
        c.fail("padding_idx of embedding_bag; multiply by a mask in per_sample_weights")
    bags, count = c.shape[0], ids.type.numel
    rows = c.value(c.b.gather(table, indices(c, c.reshape(ids, [count])), axis=0))
    if weights is not None:
        rows = c.value(c.b.mul(rows, c.reshape(weights, [count, 1])))
    starts = c.slice(c.cast(offsets, DType.I64), 0, 0, bags)
    begun = c.b.le(c.reshape(starts, [bags, 1]), c.reshape(c.iota(count), [1, count]))
    # position j is in bag b where b has begun and b + 1 has not
    later = c.concat([c.slice(begun, 0, 1, bags), c.full(False, DType.BOOL, (1, count))], 0)
    inside = c.b.logical_and(begun, c.b.logical_not(later))
    if mode == 2:
        spread = c.b.where(c.unsqueeze(inside, -1), c.unsqueeze(rows, 0), _lowest(c))
        peak = c.b.reduce_max(spread, axes=(1,))
        some = c.unsqueeze(c.b.reduce_max(inside, axes=(1,)), -1)
        return c.value(c.b.where(some, peak, c.number(0.0, c.dtype))), None, None, None
    member = c.cast(inside, c.dtype)
    total = c.b.matmul(member, rows)
    if mode == 1:
        size = c.b.reduce_sum(member, axes=(1,), keep=True)
        total = c.b.div(total, c.b.maximum(size, c.number(1.0, c.dtype)))
    return c.value(total), None, None, None


def _lowest(c: Call) -> Value:
    return c.number(-math.inf, c.dtype)


@aten("gather")
def gather(c: Call, x: Value, axis: int, ids: Value, sparse: bool) -> Value:
    if x.type.rank == 0:
        return c.reshape(x, c.shape)
    if ids.type.rank == 0:
        return c.reshape(c.b.take_along(x, c.unsqueeze(indices(c, ids), 0), axis=0), c.shape)
    return c.value(c.b.take_along(x, indices(c, ids), axis=axis % x.type.rank))


@aten("take_along_dim")
def take_along_dim(c: Call, x: Value, ids: Value, axis: int | None) -> Value:
    if axis is None:
        flat = c.b.gather(c.reshape(x, [x.type.numel]), c.reshape(ids, [ids.type.numel]), axis=0)
        return c.reshape(flat, c.shape)
    axis %= x.type.rank
    wide = [d if i != axis else ids.type.shape[i] for i, d in enumerate(c.shape)]
    source = [d if i != axis else x.type.shape[i] for i, d in enumerate(c.shape)]
    return c.value(c.b.take_along(c.expand(x, source), c.expand(indices(c, ids), wide), axis=axis))


@aten("take")
def take(c: Call, x: Value, ids: Value) -> Value:
    flat = c.reshape(x, [x.type.numel])
    return c.value(c.b.gather(flat, wrapped(c, ids, x.type.numel), axis=0))


# ------------------------------------------------------------------ advanced indexing
@aten("index.Tensor", "_unsafe_index.Tensor")
def index(c: Call, x: Value, places: Sequence[Value | None]) -> Value:
    """x[:, i, :, j]: tensors index their axes together, None keeps an axis.

    The indexed axes are brought to the front; where they stood side by side the result's axes go
    back to that place, else they stay in front (numpy's rule).
    """
    if any(p is not None and p.type.dtype in (DType.BOOL, DType.U8) for p in places):
        c.fail("a boolean index, whose result's size depends on values; use where or masked_fill")
    axes = [i for i, p in enumerate(places) if p is not None]
    ids = [wrapped(c, p, x.type.shape[i]) for i, p in enumerate(places) if p is not None]
    if len(axes) == 1:
        return c.value(c.b.gather(x, ids[0], axis=axes[0]))
    rest = [i for i in range(x.type.rank) if i not in axes]
    taken = c.b.gather_nd(c.permute(x, [*axes, *rest]), *ids)
    joined = taken.type.rank - len(rest)
    if axes != list(range(axes[0], axes[0] + len(axes))):
        return c.value(taken)
    before = range(joined, joined + axes[0])
    return c.permute(taken, [*before, *range(joined), *range(joined + axes[0], taken.type.rank)])


def wrapped(c: Call, ids: Value, size: Dim) -> Value:
    """Indices in [0, size) from ones in [-size, size); no node where none can be negative."""
    ids = indices(c, ids)
    if never_negative(c, ids):
        return ids
    dtype = ids.type.dtype
    shifted = c.b.add(ids, c.number(size, dtype))
    return c.value(c.b.where(c.b.lt(ids, c.number(0, dtype)), shifted, ids))


def never_negative(c: Call, x: Value) -> bool:
    """Whether it follows from how integers are computed that they are not negative."""
    values = c.tensor(x)
    if values is not None:
        return bool((values >= 0).all())
    node = c.producer(x)
    if node is None:
        return False
    return node.op.name in _NOT_NEGATIVE or _by_operands(c, node)


_NOT_NEGATIVE = {"argmax", "argmin", "dim_value", "topk", "abs"}
# Results whose elements are elements of the operands, or sums and products of them.
_KEEP_SIGN = {"reshape", "permute", "expand", "slice", "concat", "flip", "cumsum", "reduce_max"}
_KEEP_SIGN |= {"add", "mul", "minimum", "reduce_sum", "reduce_min"}


def _by_operands(c: Call, node: Node) -> bool:
    operands = [c.b.operand(name) for name in node.operands]
    values = [v for v in operands if v is not None]
    if node.op.name == "iota":
        start, step = getattr(node.op, "start", 0), getattr(node.op, "step", 1)
        return step > 0 and _known_positive(start)
    if node.op.name == "full":
        return getattr(node.op, "value", -1) >= 0
    if node.op.name == "clamp":
        return (getattr(node.op, "min", None) or -1.0) >= 0 or getattr(node.op, "min", None) == 0
    if node.op.name == "cast":
        return values[0].type.dtype is DType.BOOL or never_negative(c, values[0])
    if node.op.name in ("gather", "take_along", "gather_nd"):
        return never_negative(c, values[0])
    if node.op.name in ("mod", "floor_div"):
        own = (values[1],) if node.op.name == "mod" else values
        return all(never_negative(c, v) for v in own)
    if node.op.name == "maximum":
        return any(never_negative(c, v) for v in values)
    if node.op.name == "where":
        return all(never_negative(c, v) for v in values[1:])
    return node.op.name in _KEEP_SIGN and all(never_negative(c, v) for v in values)


def _known_positive(dim: Dim) -> bool:
    return dim >= 0 if isinstance(dim, int) else bool(dim.is_nonnegative)
