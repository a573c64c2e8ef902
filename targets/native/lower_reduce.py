"""Reductions, running sums, the k largest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgec.ir import Node, dims
from edgec.ir.dims import Dim, Shape
from edgec.kernels.reduce import Arg, Kind, Reduce
from edgec.kernels.scan import Cumsum, Topk
from edgec.ops.reduce import ArgExtremum, Argmax, Reduction
from edgec.ops.reduce import Cumsum as CumsumOp
from edgec.ops.reduce import Topk as TopkOp
from edgec.targets.native.lowering import given, lowers, result
from edgec.targets.native.views import View
from edgec.targets.native.writer import TVM_TYPES, Writer

KINDS: Mapping[str, Kind] = {
    "reduce_sum": "sum",
    "reduce_mean": "mean",
    "reduce_max": "max",
    "reduce_min": "min",
}


@lowers(*KINDS)
def reduce(w: Writer, node: Node) -> View:
    """Reduced axes that are not neighbours are brought together first."""
    op, view = node.op, w.view(given(node, 0))
    assert isinstance(op, Reduction)
    axes = op.axes_of(view.type.rank)
    kept = [a for a in range(view.type.rank) if a not in axes]
    ahead = [a for a in kept if a < axes[0]]
    behind = [a for a in kept if a > axes[-1]]
    if len(ahead) + len(behind) < len(kept):
        ahead, behind = kept, []
    moved = w.row_major(view.permuted([*ahead, *axes, *behind]))
    shape = moved.shape
    sizes = _three(shape, len(ahead), len(ahead) + len(axes))
    to = result(w, node)
    kernel = Reduce(KINDS[op.name], TVM_TYPES[view.type.dtype], across=sizes["inner"] != 1)
    w.call(kernel, [moved, to], **sizes)
    return to


@lowers("argmax", "argmin")
def arg(w: Writer, node: Node) -> View:
    op, view = node.op, w.dense(given(node, 0))
    assert isinstance(op, ArgExtremum)
    sizes = around(view.shape, op.axis)
    kernel = Arg(isinstance(op, Argmax), TVM_TYPES[view.type.dtype], across=sizes["inner"] != 1)
    to = result(w, node)
    w.call(kernel, [view, to], **sizes)
    return to


@lowers("cumsum")
def cumsum(w: Writer, node: Node) -> View:
    op, view, to = node.op, w.dense(given(node, 0)), result(w, node)
    assert isinstance(op, CumsumOp)
    sizes = around(view.shape, op.axis)
    w.call(Cumsum(TVM_TYPES[view.type.dtype]), [view, to], **sizes)
    return to


@lowers("topk")
def topk(w: Writer, node: Node) -> Sequence[View]:
    op, view = node.op, w.dense(given(node, 0))
    assert isinstance(op, TopkOp)
    values, indices = (w.temporary(v.type, v.name) for v in node.outputs)
    kernel = Topk(op.largest, TVM_TYPES[view.type.dtype])
    w.call(kernel, [view, values, indices], **around(view.shape, op.axis), k=op.k)
    return [values, indices]


def around(shape: Shape, axis: int) -> dict[str, Dim]:
    """The shape as [outer, n, inner], where n is an axis, which may be counted from the end."""
    axis %= len(shape)
    return _three(shape, axis, axis + 1)


def _three(shape: Shape, start: int, stop: int) -> dict[str, Dim]:
    """The shape as [outer, n, inner]: axes start .. stop - 1 are n."""
    parts = shape[:start], shape[start:stop], shape[stop:]
    return dict(zip(("outer", "n", "inner"), map(dims.product, parts), strict=True))
