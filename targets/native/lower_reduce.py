"""Reductions, running sums, the k largest."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.ir import Node, dims
from edgec.ir.dims import Dim, Shape
from edgec.kernels.reduce import Arg, Reduce
from edgec.kernels.scan import Cumsum, Topk
from edgec.targets.native.lowering import given, lowers, result
from edgec.targets.native.views import View
from edgec.targets.native.writer import TVM_TYPES, Writer

KINDS = {"reduce_sum": "sum", "reduce_mean": "mean", "reduce_max": "max", "reduce_min": "min"}


@lowers(*KINDS)
def reduce(w: Writer, node: Node) -> View:
    """Reduced axes that are not neighbours are brought together first."""
    op, view = node.op, w.view(given(node, 0))
    rank = view.type.rank
    axes = sorted({a % rank for a in op.axes}) or list(range(rank))  # type: ignore[attr-defined]
    kept = [a for a in range(rank) if a not in axes]
    ahead = [a for a in kept if not axes or a < axes[0]]
    behind = [a for a in kept if axes and a > axes[-1]]
    if len(ahead) + len(behind) < len(kept):
        ahead, behind = kept, []
    moved = w.row_major(view.permuted([*ahead, *axes, *behind]))
    shape = moved.shape
    sizes = _three(shape, len(ahead), len(ahead) + len(axes))
    to = result(w, node)
    kernel = Reduce(
        KINDS[op.name],  # type: ignore[arg-type]
        TVM_TYPES[view.type.dtype],
        across=sizes["inner"] != 1,
    )
    w.call(kernel, [moved, to], **sizes)
    return to


@lowers("argmax", "argmin")
def arg(w: Writer, node: Node) -> View:
    view = w.dense(given(node, 0))
    sizes = around(view.shape, node.op.axis)  # type: ignore[attr-defined]
    largest = node.op.name == "argmax"
    kernel = Arg(largest, TVM_TYPES[view.type.dtype], across=sizes["inner"] != 1)
    to = result(w, node)
    w.call(kernel, [view, to], **sizes)
    return to


@lowers("cumsum")
def cumsum(w: Writer, node: Node) -> View:
    view = w.dense(given(node, 0))
    to = result(w, node)
    sizes = around(view.shape, node.op.axis)  # type: ignore[attr-defined]
    w.call(Cumsum(TVM_TYPES[view.type.dtype]), [view, to], **sizes)
    return to


@lowers("topk")
def topk(w: Writer, node: Node) -> Sequence[View]:
    op, view = node.op, w.dense(given(node, 0))
    values, indices = (w.temporary(v.type, v.name) for v in node.outputs)
    axis = op.axis % view.type.rank  # type: ignore[attr-defined]
    sizes = around(view.shape, axis)
    kernel = Topk(op.largest, TVM_TYPES[view.type.dtype])  # type: ignore[attr-defined]
    w.call(kernel, [view, values, indices], **sizes, k=values.shape[axis])
    return [values, indices]


def around(shape: Shape, axis: int) -> dict[str, Dim]:
    axis %= len(shape)
    return _three(shape, axis, axis + 1)


def _three(shape: Shape, start: int, stop: int) -> dict[str, Dim]:
    """The shape as [outer, n, inner]: axes start .. stop - 1 are n."""
    parts = shape[:start], shape[start:stop], shape[stop:]
    return dict(zip(("outer", "n", "inner"), map(dims.product, parts), strict=True))
