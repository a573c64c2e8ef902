"""Attention: q, k and v are read as they lie, the result is written position by position."""

from __future__ import annotations

import math

from edgec import patterns
from edgec.ir import DType, Node, TensorType, dims
from edgec.ir.dims import Dim
from edgec.kernels import Kernel
from edgec.kernels.attention import SparseAttention
from edgec.kernels.attention_decode import DecodeAttention
from edgec.kernels.attention_dense import DenseAttention
from edgec.kernels.attention_mask import MaskType
from edgec.ops.attention import Attention
from edgec.patterns import Causal, Pattern
from edgec.targets.native.lower_elementwise import cast
from edgec.targets.native.lowering import given, lowers, operand
from edgec.targets.native.sizes import greatest
from edgec.targets.native.tables import Table
from edgec.targets.native.views import Place, View
from edgec.targets.native.writer import Writer

F32 = DType.F32

#: Up to so many queries the kernel of a decoder's step is the faster one.
FEW_QUERIES = 4


@lowers("attention")
def attention(w: Writer, node: Node) -> View:
    op = node.op
    assert isinstance(op, Attention)
    q, k, v = (_by_position(w, given(node, i)) for i in range(3))
    out = node.output.type
    to = _result(w, out.with_dtype(F32), node.output.name)
    head_dim, value_dim = int(q.shape[3]), int(v.shape[3])
    mask, kind, sizes = _mask(w, node, (*q.shape[:3], k.shape[2]))
    sizes |= counts(op, q, k)
    for name, view in zip("qkvo", (q, k, v, to), strict=True):
        axes = zip(("batch", "head", "row"), view.strides, strict=False)
        sizes |= {f"{name}_{axis}": stride for axis, stride in axes}
    kernel: Kernel
    places: list[Place] = []
    if op.pattern:
        table = w.table(_pattern(op), q.shape[2])
        kernel, places = SparseAttention(head_dim, value_dim, table.ordered, kind), _arrays(table)
        sizes["period"] = table.pattern.head_period
    elif not op.causal and greatest(q.shape[2], w.graph.dims) <= FEW_QUERIES:
        kernel = DecodeAttention(head_dim, value_dim, kind)
    else:
        kernel = DenseAttention(head_dim, value_dim, op.causal, kind)
    w.call(kernel, [q, k, v, to, *places, *mask], **sizes)
    return to if out.dtype is F32 else cast(w, w.row_major(to), out.dtype)


def _arrays(table: Table) -> list[Place]:
    """The arrays of a block table, in the order of the kernel's pointers."""
    names = ("row_ptr", "col_idx", "tile_id", "bias", *(("order",) if table.ordered else ()))
    return [Place(table.storage, table.offset(name) // 4) for name in names]


def _pattern(op: Attention) -> Pattern:
    """What the op's pattern and its causal attribute admit together."""
    pattern = patterns.parse(op.pattern)
    return pattern & Causal() if op.causal else pattern


def counts(op: Attention, q: View, k: View) -> dict[str, Dim | float]:
    """What the kernels want to know beside strides."""
    scale = op.scale if op.scale is not None else 1 / math.sqrt(int(q.shape[3]))
    return {
        "batch": q.shape[0],
        "heads": q.shape[1],
        "group": dims.floordiv(q.shape[1], k.shape[1]),
        "queries": q.shape[2],
        "keys": k.shape[2],
        "scale": float(scale),
    }


def _by_position(w: Writer, name: str) -> View:
    """An operand of f32 whose vectors lie in one piece."""
    view = w.view(name)
    if view.type.dtype is not F32:
        return cast(w, w.dense(name), F32)
    return view if view.strides[3] == 1 or view.shape[3] == 1 else w.dense(name)


def _result(w: Writer, type: TensorType, name: str) -> View:
    """Room for [B, H, T, D] that lies as [B, T, H, D]: the layers behind want it so."""
    b, h, t, d = type.shape
    room = w.temporary(type.with_shape(b, t, h, d), name)
    return room.permuted((0, 2, 1, 3))


def _mask(
    w: Writer, node: Node, scores: tuple[Dim, ...]
) -> tuple[list[View], MaskType, dict[str, Dim | float]]:
    """The mask with a stride for each axis of the scores."""
    name = operand(node, 3)
    if name is None:
        return [], "", {}
    view = w.view(name)
    kind: MaskType = "bool" if view.type.dtype is DType.BOOL else "float32"
    if kind == "float32" and view.type.dtype is not F32:
        view = cast(w, w.dense(name), F32)
    strides = view.expanded(scores).strides
    names = ("m_batch", "m_head", "m_row", "m_key")
    return [view], kind, dict(zip(names, strides, strict=True))
