"""Softmax and the norms."""

from __future__ import annotations

from edgec.ir import Node, dims
from edgec.kernels.normalize import GroupNorm, LayerNorm, RmsNorm
from edgec.kernels.softmax import Softmax
from edgec.ops.normalize import GroupNorm as GroupNormOp
from edgec.ops.normalize import LayerNorm as LayerNormOp
from edgec.ops.normalize import LogSoftmax
from edgec.ops.normalize import RmsNorm as RmsNormOp
from edgec.ops.normalize import Softmax as SoftmaxOp
from edgec.targets.native.lower_reduce import around
from edgec.targets.native.lowering import given, lowers, operand, result
from edgec.targets.native.views import View
from edgec.targets.native.writer import TVM_TYPES, Writer


@lowers("softmax", "log_softmax")
def softmax(w: Writer, node: Node) -> View:
    op = node.op
    assert isinstance(op, SoftmaxOp | LogSoftmax)
    x, to = w.dense(given(node, 0)), result(w, node)
    sizes = around(x.shape, op.axis)
    log, across = isinstance(op, LogSoftmax), sizes["inner"] != 1
    w.call(Softmax(log=log, dtype=TVM_TYPES[x.type.dtype], across=across), [x, to], **sizes)
    return to


@lowers("layer_norm")
def layer_norm(w: Writer, node: Node) -> View:
    op = node.op
    assert isinstance(op, LayerNormOp)
    x, to = w.dense(given(node, 0)), result(w, node)
    weight, bias = _optional(w, node, 1), _optional(w, node, 2)
    split = x.type.rank - op.axes_count
    kernel = LayerNorm(TVM_TYPES[x.type.dtype], weight=bool(weight), bias=bool(bias))
    sizes = {"rows": dims.product(x.shape[:split]), "n": dims.product(x.shape[split:])}
    w.call(kernel, [x, *weight, *bias, to], **sizes, eps=float(op.eps))
    return to


@lowers("rms_norm")
def rms_norm(w: Writer, node: Node) -> View:
    op = node.op
    assert isinstance(op, RmsNormOp)
    x, to, weight = w.dense(given(node, 0)), result(w, node), _optional(w, node, 1)
    sizes = around(x.shape, op.axis)
    dtype, across = TVM_TYPES[x.type.dtype], sizes["inner"] != 1
    kernel = RmsNorm(dtype, weight=bool(weight), across=across)
    w.call(kernel, [x, *weight, to], **sizes, eps=float(op.eps))
    return to


@lowers("group_norm")
def group_norm(w: Writer, node: Node) -> View:
    op = node.op
    assert isinstance(op, GroupNormOp)
    x, to = w.dense(given(node, 0)), result(w, node)
    weight, bias = _optional(w, node, 1), _optional(w, node, 2)
    kernel = GroupNorm(TVM_TYPES[x.type.dtype], weight=bool(weight), bias=bool(bias))
    batch, channels, *space = x.shape
    w.call(
        kernel,
        [x, *weight, *bias, to],
        batch=batch,
        groups=op.groups,
        channels=dims.floordiv(channels, op.groups),
        spatial=dims.product(space),
        eps=float(op.eps),
    )
    return to


def _optional(w: Writer, node: Node, position: int) -> list[View]:
    """An operand that may be missing."""
    name = operand(node, position)
    return [] if name is None else [w.dense(name)]
