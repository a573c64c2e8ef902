"""Ops that select by index. Indices are checked when the program runs."""

from __future__ import annotations

from edgec.ir import Constant, DType, Node, dims
from edgec.kernels.decode import DecodeRows
from edgec.kernels.gather import Gather, GatherNd, TakeAlong
from edgec.ops.gather import Gather as GatherOp
from edgec.ops.gather import TakeAlong as TakeAlongOp
from edgec.targets.native.lower_elementwise import cast
from edgec.targets.native.lower_reduce import around
from edgec.targets.native.lowering import given, lowers, result
from edgec.targets.native.statements import CheckIndices
from edgec.targets.native.views import View
from edgec.targets.native.writer import TVM_TYPES, Writer


@lowers("gather")
def gather(w: Writer, node: Node) -> View:
    """Rows of a constant in its packed form, or of any other table."""
    constant = _packed_table(w, node)
    if constant is not None:
        return _decoded_rows(w, node, constant)
    op = node.op
    assert isinstance(op, GatherOp)
    x, to = w.dense(given(node, 0)), result(w, node)
    sizes = around(x.shape, op.axis)
    rows = sizes.pop("n")
    ids = _indices(w, given(node, 1), rows)
    count = dims.product(ids.shape)
    kernel = Gather(x.type.dtype.nbytes, TVM_TYPES[ids.type.dtype])
    w.call(kernel, [x, ids, to], **sizes, rows=rows, count=count)
    return to


@lowers("take_along")
def take_along(w: Writer, node: Node) -> View:
    """x is cut to the axes of the indices first."""
    op = node.op
    assert isinstance(op, TakeAlongOp)
    x = w.view(given(node, 0))
    axis = op.axis % x.type.rank
    ids = _indices(w, given(node, 1), x.shape[axis])
    for other in range(x.type.rank):
        if other != axis:
            x = x.part(other, 0, ids.shape[other])
    x, to = w.row_major(x), result(w, node)
    sizes = around(x.shape, axis)
    rows, count = sizes.pop("n"), ids.shape[axis]
    kernel = TakeAlong(x.type.dtype.nbytes, TVM_TYPES[ids.type.dtype])
    w.call(kernel, [x, ids, to], **sizes, rows=rows, count=count)
    return to


@lowers("gather_nd")
def gather_nd(w: Writer, node: Node) -> View:
    """Indices that broadcast are expanded first."""
    x, to = w.dense(given(node, 0)), result(w, node)
    names = [n for n in node.inputs[1:] if n is not None]
    shape = node.output.type.shape[: node.output.type.rank - (x.type.rank - len(names))]
    wide = any(w.graph.type(n).dtype is DType.I64 for n in names)
    dtype = DType.I64 if wide else DType.I32
    indices = []
    for name, high in zip(names, x.shape, strict=False):
        checked = _indices(w, name, high, dtype)
        indices.append(w.row_major(checked.expanded(shape)))
    kernel = GatherNd(x.type.dtype.nbytes, TVM_TYPES[dtype], len(names))
    sizes = {f"n{a}": n for a, n in enumerate(x.shape[: len(names)])}
    inner = dims.product(x.shape[len(names) :])
    w.call(kernel, [x, *indices, to], **sizes, count=dims.product(shape), inner=inner)
    return to


def _indices(w: Writer, name: str, high: dims.Dim, dtype: DType | None = None) -> View:
    """The indices, row-major; a status where one is not in [0, high)."""
    ids = w.dense(name)
    if dtype is not None and ids.type.dtype is not dtype:
        ids = cast(w, ids, dtype)
    is_i64 = ids.type.dtype is DType.I64
    w.statements.append(CheckIndices(name, ids.place, is_i64, dims.product(ids.shape), 0, high))
    return ids


# ------------------------------------------------------------------ packed tables
def _packed_table(w: Writer, node: Node) -> Constant | None:
    """The table, where its rows are taken from a packed form: encoded, or packed for a product."""
    op = node.op
    assert isinstance(op, GatherOp)
    constant = w.graph.constant(given(node, 0))
    if constant is None or constant.type.rank < 2 or constant.type.dtype is not DType.F32:
        return None
    if op.axis % constant.type.rank != 0:
        return None
    packed = not constant.encoding.is_plain or constant.name in w.weights.multiplied
    return constant if packed else None


def _decoded_rows(w: Writer, node: Node, constant: Constant) -> View:
    """Rows of a packed constant, decoded one by one."""
    ids, to = _indices(w, given(node, 1), constant.type.shape[0]), result(w, node)
    spec, packed = w.weights.panels(constant)
    k = dims.product(constant.type.shape[1:])
    kernel = DecodeRows(spec, TVM_TYPES[ids.type.dtype])
    sizes = {"m": dims.product(ids.shape), "n": constant.type.shape[0], "k": k, "y_stride": k}
    w.call(kernel, [*packed, ids, to], **sizes)
    return to
