"""Matrix products: linear with packed weights, matmul."""

from __future__ import annotations

from edgec.ir import DType, Node, TensorType, dims
from edgec.kernels.linear import Linear
from edgec.kernels.panel_packing import pack
from edgec.targets.native.epilogues import absorb, rows_of
from edgec.targets.native.lowering import dense_as, given, lowers, operand
from edgec.targets.native.views import View
from edgec.targets.native.writer import Writer


@lowers("linear")
def linear(w: Writer, node: Node) -> View:
    """One call, with what follows elementwise; other floats are computed in f32."""
    x, bias = _rows(w, given(w, node, 0)), operand(w, node, 2)
    out = node.output.type
    weight = w.graph.constant(given(w, node, 1))
    assert weight is not None
    spec, arrays = pack(weight.encoding)
    storages = w.weights.packed(weight, "panels", lambda: arrays)
    packed = [View.whole(storages[p.name], TensorType(DType.U8, ())) for p in spec.pointers()]
    taken = absorb(w, node)
    kernel = Linear(bias=bias is not None, epilogue=taken.epilogue)
    to = w.temporary(out, taken.last.output.name)
    biases = [dense_as(w, bias, DType.F32)] if bias is not None else []
    m, k = x.shape
    n = out.shape[-1]
    w.call(
        kernel,
        [x, *packed, *biases, *taken.views, to],
        m=m,
        n=n,
        k=k,
        x_stride=x.strides[0],
        y_stride=n,
        **taken.strides,
    )
    w.define(taken.last.output.name, to)
    return to


def _rows(w: Writer, name: str) -> View:
    """x as f32 rows."""
    view = w.view(name)
    rows = rows_of(view) if view.type.dtype is DType.F32 else None
    if rows is None:
        dense = dense_as(w, name, DType.F32)
        rows = dense.reshaped((dims.product(dense.shape[:-1]), dense.shape[-1]))
        assert rows is not None
    return rows
