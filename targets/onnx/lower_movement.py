"""Lowering of edgec.ops.movement, gather and creation."""

from __future__ import annotations

import torch

from edgec.ir import DType, Node, dims
from edgec.ir.dims import Dim
from edgec.ir.encodings import Affine
from edgec.ops import creation
from edgec.ops import movement as ops
from edgec.ops.gather import Gather, TakeAlong
from edgec.targets.onnx.lowering import Weight, dense, lowers, operand_type
from edgec.targets.onnx.packed import gather_blocks, gather_rows
from edgec.targets.onnx.writer import INT_MIN, Name, Writer


# ------------------------------------------------------------------ views
@lowers("reshape")
def reshape(w: Writer, node: Node, x: Name) -> Name:
    return w.reshape(x, operand_type(w, node, 0).shape, node.output.type.shape)


@lowers("permute")
def permute(w: Writer, node: Node, x: Name) -> Name:
    assert isinstance(node.op, ops.Permute)
    return w.transpose(x, node.op.order)


@lowers("expand")
def expand(w: Writer, node: Node, x: Name) -> Name:
    """Axes that keep their size are asked for as 1: Expand broadcasts both ways."""
    have, want = operand_type(w, node, 0).shape, node.output.type.shape
    padded = (1,) * (len(want) - len(have)) + tuple(have)
    shape = tuple(
        1 if dims.same(a, b) else b for a, b in zip(padded, map(dims.normal, want), strict=True)
    )
    if len(have) == len(want) and set(shape) <= {1}:
        return x
    return w.node("Expand", x, w.shape(shape))


# ------------------------------------------------------------------ parts
@lowers("slice")
def slice_(w: Writer, node: Node, x: Name) -> Name:
    op = node.op
    assert isinstance(op, ops.Slice)
    return w.slice(x, op.axis, op.start, op.stop, op.step)


@lowers("flip")
def flip(w: Writer, node: Node, x: Name) -> Name:
    assert isinstance(node.op, ops.Flip)
    axes = node.op.axes
    if not axes:
        return x
    n = len(axes)
    starts, stops, steps = w.ints(*[-1] * n), w.ints(*[INT_MIN] * n), w.ints(*[-1] * n)
    return w.node("Slice", x, starts, stops, w.ints(*axes), steps)


@lowers("concat")
def concat(w: Writer, node: Node, *xs: Name) -> Name:
    assert isinstance(node.op, ops.Concat)
    return w.concat(xs, node.op.axis)


@lowers("pad")
def pad(w: Writer, node: Node, x: Name) -> Name:
    op = node.op
    assert isinstance(op, ops.Pad)
    pads: list[Dim] = [low for low, _ in op.pads] + [high for _, high in op.pads]
    if all(p == 0 for p in pads):
        return x
    if op.mode != "constant":
        return w.node("Pad", x, w.shape(tuple(pads)), mode=op.mode)
    kind = float if w.kernel.is_float else bool if w.kernel is DType.BOOL else int
    return w.node("Pad", x, w.shape(tuple(pads)), w.number(kind(op.value), w.kernel))


# ------------------------------------------------------------------ by index
@lowers("gather", weight=0)
def gather(w: Writer, node: Node, table: Weight, ids: Name) -> Name:
    assert isinstance(node.op, Gather)
    axis = node.op.axis % operand_type(w, node, 0).rank
    if not isinstance(table, str) and axis == 0 and isinstance(table.encoding, Affine):
        kind = operand_type(w, node, 1).dtype
        found = gather_blocks(w, table, ids, kind) or gather_rows(w, table, ids)
        if found is not None:
            return found
    return w.node("Gather", dense(w, table), ids, axis=axis)


@lowers("take_along")
def take_along(w: Writer, node: Node, x: Name, ids: Name) -> Name:
    assert isinstance(node.op, TakeAlong)
    return w.node("GatherElements", x, ids, axis=node.op.axis)


@lowers("gather_nd")
def gather_nd(w: Writer, node: Node, x: Name, *ids: Name) -> Name:
    """GatherND wants all indices in one tensor, [*I, number of indexed axes]."""
    rest = operand_type(w, node, 0).rank - len(ids)
    rank = node.output.type.rank - rest
    shape = node.output.type.shape[:rank]
    columns = []
    for i, name in enumerate(ids):
        kind = operand_type(w, node, i + 1)
        index = name if kind.dtype is DType.I64 else w.cast(name, DType.I64)
        if not ops.same_shapes(kind.shape, shape):
            index = w.node("Expand", index, w.shape(shape))
        columns.append(w.unsqueeze(index, -1))
    return w.node("GatherND", x, w.concat(columns, -1))


# ------------------------------------------------------------------ from nothing
@lowers("full")
def full(w: Writer, node: Node) -> Name:
    op = node.op
    assert isinstance(op, creation.Full)
    value = torch.tensor([op.value], dtype=w.kernel.torch_dtype)
    if not op.shape:
        return w.array(value.reshape(()))
    return w.node("Expand", w.array(value), w.shape(op.shape))


@lowers("iota")
def iota(w: Writer, node: Node) -> Name:
    op = node.op
    assert isinstance(op, creation.Iota)
    limit = dims.normal(op.start + op.step * op.size)
    start, stop = _scalar(w, op.start), _scalar(w, limit)
    values = w.node("Range", start, stop, w.number(op.step, DType.I64))
    return values if w.kernel is DType.I64 else w.cast(values, w.kernel)


@lowers("dim_value")
def dim_value(w: Writer, node: Node) -> Name:
    op = node.op
    assert isinstance(op, creation.DimValue)
    value = _scalar(w, op.dim)
    return value if op.dtype is DType.I64 else w.cast(value, op.dtype)


def _scalar(w: Writer, dim: Dim) -> Name:
    """A dimension as i64[]."""
    dim = dims.normal(dim)
    return w.number(dim, DType.I64) if isinstance(dim, int) else w.squeeze(w.dim(dim), 0)
