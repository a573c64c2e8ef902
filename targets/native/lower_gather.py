"""Ops that select by index. Indices are checked when the program runs."""

from __future__ import annotations

from typing import Any

from edgec.ir import Constant, DType, Node, dims
from edgec.ir.encoding import Dense
from edgec.kernels.decode import DecodeRows
from edgec.targets.native.lower_linear import as_f32
from edgec.targets.native.lowering import given, lowers, result
from edgec.targets.native.statements import CheckIndices, Place
from edgec.targets.native.views import View
from edgec.targets.native.writer import Writer


def check_indices(w: Writer, name: str, ids: View, high: dims.Dim) -> None:
    """A status where an index of a value is not in [0, high)."""
    is_i64 = ids.type.dtype is DType.I64
    place = Place(ids.storage, ids.offset)
    w.statements.append(CheckIndices(name, place, is_i64, ids.type.numel, 0, high))


def rows_of_constant(w: Writer, node: Node, constant: Constant) -> View:
    """Rows of a packed constant, decoded one by one."""
    ids, to = w.dense(given(w, node, 1)), result(w, node)
    check_indices(w, given(w, node, 1), ids, constant.type.shape[0])
    spec, packed = w.weights.panels(constant)
    k = dims.product(constant.type.shape[1:])
    kernel = DecodeRows(spec, "int64" if ids.type.dtype is DType.I64 else "int32")
    sizes = {"m": ids.type.numel, "n": constant.type.shape[0], "k": k, "y_stride": k}
    w.call(kernel, [*packed, ids, to], **sizes)
    return to


def is_packed(w: Writer, node: Node) -> Constant | None:
    """The table, where its rows are taken from a packed form: encoded, or packed for a product."""
    op: Any = node.op
    constant = w.graph.constant(given(w, node, 0))
    if (
        constant is None
        or op.axis % constant.type.rank != 0
        or constant.type.dtype is not DType.F32
    ):
        return None
    encoded = not isinstance(constant.encoding, Dense) or constant.encoding.as_dtype is not None
    multiplied = constant.name in w.weights.multiplied
    return as_f32(constant) if constant.type.rank >= 2 and (encoded or multiplied) else None


@lowers("gather")
def gather(w: Writer, node: Node) -> View:
    constant = is_packed(w, node)
    if constant is not None:
        return rows_of_constant(w, node, constant)
    raise NotImplementedError("gather")
