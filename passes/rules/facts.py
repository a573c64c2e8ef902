"""What the rules know about values: shapes, signs, and where an index comes from."""

from __future__ import annotations

import dataclasses

import numpy
import torch

from edgec.ir import dims
from edgec.ir.dims import Dim, Shape
from edgec.ir.graph import Node, Value
from edgec.ir.op import broadcast
from edgec.ir.rewrite import Site
from edgec.ir.types import DType, TensorType
from edgec.ops.creation import DimValue, Full, Iota
from edgec.ops.elementwise import Cast
from edgec.ops.movement import Expand, Permute, Reshape, Slice, same_shapes

DEPTH = 12  # how many nodes are looked at behind a value
SMALL = 4096  # integer constants of at most so many elements are looked at

# Ops whose operands broadcast against each other by numpy's rules.
BROADCASTING = (
    *("add", "sub", "mul", "div", "pow", "minimum", "maximum", "mod", "floor_div"),
    *("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "where"),
)


def fitted(b: Site, value: Value) -> Value | None:
    """`value` in the shape of the result that is being replaced; None where its dtype differs."""
    want = b.root.output.type
    if value.type.same(want):
        return value
    if value.type.dtype is not want.dtype:
        return None
    made: Value = b.expand(value, shape=want.shape)
    return made


def permuted(b: Site, value: Value, order: tuple[int, ...]) -> Value:
    """`value` permuted, together with the permute that it may come from."""
    node = b.producer(value)
    if node is not None and isinstance(node.op, Permute):
        order = tuple(node.op.order[a] for a in order)
        value = b.operand(node.inputs[0]) or value
    if order == tuple(range(len(order))):
        return value
    made: Value = b.permute(value, order=order)
    return made


def reshaped(b: Site, value: Value, shape: Shape) -> Value:
    """`value` in another shape, together with the reshape that it may come from."""
    node = b.producer(value)
    if node is not None and isinstance(node.op, Reshape):
        value = b.operand(node.inputs[0]) or value
    if same_shapes(value.type.shape, shape):
        return value
    made: Value = b.reshape(value, shape=shape)
    return made


def written(number: float) -> float:
    """The shortest decimal that is the same number in float32: 1e-05 for 9.999999747378752e-06."""
    return float(str(numpy.float32(number)))


def axis_is_last(axes: tuple[int, ...], rank: int) -> bool:
    """Whether `axes` is the last axis alone."""
    return len(axes) == 1 and axes[0] % rank == rank - 1


def broadcasts_to(shape: Shape, target: Shape) -> bool:
    """Whether operands of `shape` and `target` give `target`."""
    if len(shape) > len(target):
        return False
    tail = target[len(target) - len(shape) :]
    return all(s == 1 or dims.same(s, t) for s, t in zip(shape, tail, strict=True))


def result_shape(node: Node, shapes: list[Shape]) -> Shape:
    return broadcast(node.op, *shapes)


def leading_ones_dropped(shape: Shape, source: Shape) -> bool:
    """Whether `shape` is `source` behind additional leading ones."""
    extra = len(shape) - len(source)
    return extra > 0 and all(d == 1 for d in shape[:extra]) and same_shapes(shape[extra:], source)


# ------------------------------------------------------------------ ranges
@dataclasses.dataclass(frozen=True)
class Bounds:
    """low <= every element <= high, for all values of the named dims; None where not known."""

    low: Dim | None
    high: Dim | None


UNKNOWN = Bounds(None, None)
_VIEWS = ("cast", "reshape", "permute", "expand", "slice", "gather", "gather_nd", "flip")


def bounds(b: Site, value: Value, depth: int = DEPTH) -> Bounds:
    """Range of an integer value, from how it is computed."""
    if value.type.dtype is DType.BOOL:
        return Bounds(0, 1)
    if not value.type.dtype.is_int:
        return UNKNOWN
    if value.is_constant:
        stored = small_integers(b, value)
        if stored is None or stored.numel() == 0:
            return UNKNOWN
        return Bounds(int(stored.min()), int(stored.max()))
    node = b.producer(value)
    if node is None or depth == 0:
        return UNKNOWN
    match node.op:
        case Full(value=number):
            return Bounds(int(number), int(number))
        case DimValue(dim=dim):
            return Bounds(dim, dim)
        case Iota(size=size, start=start, step=step):
            last = dims.normal(start + step * (size - 1))
            return Bounds(start, last) if step > 0 else Bounds(last, start)
        case Cast() if value.type.dtype.nbytes < 4:
            return UNKNOWN  # a larger number may wrap around
    parts = [bounds(b, v, depth - 1) for v in map(b.operand, node.inputs) if v is not None]
    return _combined(node.op.name, parts)


def _combined(name: str, parts: list[Bounds]) -> Bounds:
    """Range of an op's result from the ranges of its operands."""
    first = parts[0] if parts else UNKNOWN
    if name in _VIEWS:
        return first
    if name not in ("add", "sub", "mul", "neg"):
        return UNKNOWN
    if name == "neg":
        return Bounds(_minus(0, first.high), _minus(0, first.low))
    second = parts[1]
    if name == "add":
        return Bounds(_plus(first.low, second.low), _plus(first.high, second.high))
    if name == "sub":
        return Bounds(_minus(first.low, second.high), _minus(first.high, second.low))
    if not (at_least(first.low, 0) and at_least(second.low, 0)):
        return UNKNOWN
    return Bounds(_times(first.low, second.low), _times(first.high, second.high))


def _plus(a: Dim | None, b: Dim | None) -> Dim | None:
    return None if a is None or b is None else dims.normal(a + b)


def _minus(a: Dim | None, b: Dim | None) -> Dim | None:
    return None if a is None or b is None else dims.normal(a - b)


def _times(a: Dim | None, b: Dim | None) -> Dim | None:
    return None if a is None or b is None else dims.normal(a * b)


def at_least(a: Dim | None, b: Dim | None) -> bool:
    """Whether a >= b for all values of the named dims; False where that is not known."""
    difference = _minus(a, b)
    if difference is None:
        return False
    known = difference >= 0 if isinstance(difference, int) else difference.is_nonnegative
    return bool(known)


def small_integers(b: Site, value: Value) -> torch.Tensor | None:
    """The numbers of an integer constant of at most SMALL elements."""
    constant = b.graph.constant(value.name)
    if constant is None or not constant.type.dtype.is_int:
        return None
    return constant.encoding.decode() if int(constant.type.numel) <= SMALL else None


# ------------------------------------------------------------------ indices
@dataclasses.dataclass(frozen=True)
class Counting:
    """An index that counts start, start + 1, ... along one axis and is constant along all others.

    axis   counted from the last axis: -1, -2, ...
    """

    axis: int
    start: Dim
    size: Dim


def counting(b: Site, value: Value, depth: int = DEPTH) -> Counting | None:
    """How an integer value counts, seen through views; None where it does not."""
    if value.is_constant:
        return _counting_constant(b, value)
    node = b.root if value == b.root.output else b.producer(value)
    if node is None or depth == 0:
        return None
    if isinstance(node.op, Iota):
        known = node.op.step == 1
        return Counting(-1, node.op.start, node.op.size) if known else None
    if not isinstance(node.op, Reshape | Expand | Cast | Permute | Slice):
        return None
    source = b.operand(node.inputs[0])
    inner = None if source is None else counting(b, source, depth - 1)
    if source is None or inner is None:
        return None
    return _moved(node, source.type, inner)


def _counting_constant(b: Site, value: Value) -> Counting | None:
    stored = small_integers(b, value)
    axes = [i for i, d in enumerate(value.type.shape) if d != 1]
    if stored is None or len(axes) != 1 or stored.numel() < 2:
        return None
    flat = stored.reshape(-1).long()
    if not bool((flat.diff() == 1).all()):
        return None
    return Counting(axes[0] - value.type.rank, int(flat[0]), len(flat))


def _moved(node: Node, source: TensorType, inner: Counting) -> Counting | None:
    """How the result of a view counts, when its operand counts as `inner`."""
    rank, target = source.rank, node.output.type
    match node.op:
        case Cast():
            return inner if target.dtype in (DType.I64, DType.I32) else None
        case Expand():
            # a single index that is repeated does not count any more
            return inner if dims.same(target.shape[inner.axis], inner.size) else None
        case Permute(order=order):
            place = order.index(inner.axis % rank)
            return dataclasses.replace(inner, axis=place - rank)
        case Slice(axis=axis, start=start, step=1):
            if axis % rank != inner.axis % rank:
                return inner
            size = target.shape[axis]
            return Counting(inner.axis, dims.normal(inner.start + start), size)
        case Reshape():
            return _reshaped(source.shape, target.shape, inner)
    return None


def _reshaped(source: Shape, target: Shape, inner: Counting) -> Counting | None:
    """Only axes of size 1 may come and go."""
    old = [i for i, d in enumerate(source) if d != 1]
    new = [i for i, d in enumerate(target) if d != 1]
    if not same_shapes(tuple(source[i] for i in old), tuple(target[i] for i in new)):
        return None
    where = inner.axis % len(source)
    if where not in old:
        return None
    return dataclasses.replace(inner, axis=new[old.index(where)] - len(target))
