"""Ops that only move data: views where strides say it, copies elsewhere."""

from __future__ import annotations

from edgec.ir import Node, dims
from edgec.ir.dims import Dim
from edgec.kernels.copy import Iota
from edgec.ops.creation import DimValue, Full
from edgec.ops.creation import Iota as IotaOp
from edgec.ops.movement import Concat, Expand, Flip, Pad, Permute, Reshape, ScatterSlice, Slice
from edgec.targets.native.lower_elementwise import fill
from edgec.targets.native.lowering import given, lowers, result
from edgec.targets.native.views import View
from edgec.targets.native.writer import TVM_TYPES, Writer


@lowers("reshape")
def reshape(w: Writer, node: Node) -> View:
    op, name = node.op, given(node, 0)
    assert isinstance(op, Reshape)
    shape = node.output.type.shape
    view = w.view(name).reshaped(shape) or w.dense(name).reshaped(shape)
    assert view is not None
    return view


@lowers("permute")
def permute(w: Writer, node: Node) -> View:
    assert isinstance(node.op, Permute)
    return w.view(given(node, 0)).permuted(node.op.order)


@lowers("expand")
def expand(w: Writer, node: Node) -> View:
    assert isinstance(node.op, Expand)
    return w.view(given(node, 0)).expanded(node.output.type.shape)


@lowers("slice")
def slice_(w: Writer, node: Node) -> View:
    op, view = node.op, w.view(given(node, 0))
    assert isinstance(op, Slice)
    axis = op.axis % view.type.rank
    return view.part(axis, op.start, node.output.type.shape[axis], op.step)


@lowers("flip")
def flip(w: Writer, node: Node) -> View:
    assert isinstance(node.op, Flip)
    view = w.view(given(node, 0))
    for axis in node.op.axes:
        view = view.flipped(axis % view.type.rank)
    return view


@lowers("concat")
def concat(w: Writer, node: Node) -> View:
    assert isinstance(node.op, Concat)
    axis = node.op.axis % node.output.type.rank
    if (grown := _appended(w, node, axis)) is not None:
        return grown
    to, start = result(w, node), dims.normal(0)
    for name in node.operands:
        view = w.view(name)
        length = view.shape[axis]
        w.copy(view, to.part(axis, start, length))
        start = dims.normal(start + length)
    return to


def _appended(w: Writer, node: Node, axis: int) -> View | None:
    """A state with more behind it, written in place; None where that is not what this is."""
    first, *more = node.operands
    state = w.states.get(first)
    if state is None or state.grows != axis or not more:
        return None
    fed = dict(zip(w.graph.output_names, w.graph.outputs, strict=True))
    if fed[state.output] != node.output.name:
        return None
    grown, start = state.view(node.output.type), w.view(first).shape[axis]
    for name in more:
        view = w.view(name)
        w.copy(view, grown.part(axis, start, view.shape[axis]))
        start = dims.normal(start + view.shape[axis])
    return grown


@lowers("scatter_slice")
def scatter_slice(w: Writer, node: Node) -> View:
    op = node.op
    assert isinstance(op, ScatterSlice)
    x, y = w.view(given(node, 0)), w.view(given(node, 1))
    axis = op.axis % x.type.rank
    apart = x.storage is not y.storage
    if given(node, 0) in w.states and apart and w.is_overwritable(x, node):
        to = x  # the old state is not wanted any more
    else:
        to = result(w, node)
        w.copy(x, to)
    w.copy(y, to.part(axis, op.start, y.shape[axis], op.step))
    return to


@lowers("pad")
def pad(w: Writer, node: Node) -> View:
    """The constant around x; reflect and edge are decomposed (legal.py)."""
    op, view, to = node.op, w.view(given(node, 0)), result(w, node)
    assert isinstance(op, Pad)
    if any(p != 0 for pair in op.pads for p in pair):
        fill(w, to, op.value)
    inside = to
    for axis, (low, _) in enumerate(op.pads):
        inside = inside.part(axis, low, view.shape[axis])
    w.copy(view, inside)
    return to


@lowers("full")
def full(w: Writer, node: Node) -> View:
    assert isinstance(node.op, Full)
    to = result(w, node)
    fill(w, to, node.op.value)
    return to


@lowers("iota")
def iota(w: Writer, node: Node) -> View:
    op, to = node.op, result(w, node)
    assert isinstance(op, IotaOp)
    return _counted(w, to, op.size, op.start, op.step)


@lowers("dim_value")
def dim_value(w: Writer, node: Node) -> View:
    assert isinstance(node.op, DimValue)
    return _counted(w, result(w, node), 1, node.op.dim, 0)


def _counted(w: Writer, to: View, count: Dim, start: Dim, step: int) -> View:
    w.call(Iota(TVM_TYPES[to.type.dtype]), [to], n=count, start=start, step=step)
    return to
