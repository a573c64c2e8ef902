"""Lowering of edgec.ops.reduce and normalize."""

from __future__ import annotations

import torch

from edgec.ir import DType, Node
from edgec.ops import normalize, reduce
from edgec.targets.onnx.lowering import lowers, operand_type
from edgec.targets.onnx.writer import Name, Writer

REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_mean": "ReduceMean",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
}
EXTREMA = {"argmax": "ArgMax", "argmin": "ArgMin"}
SOFTMAXES = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}


# ------------------------------------------------------------------ reduce
@lowers(*REDUCTIONS)
def reduction(w: Writer, node: Node, x: Name) -> Name:
    assert isinstance(node.op, reduce.Reduction)
    return w.node(REDUCTIONS[node.op.name], x, w.ints(*node.op.axes), keepdims=int(node.op.keep))


@lowers(*EXTREMA)
def extremum(w: Writer, node: Node, x: Name) -> Name:
    assert isinstance(node.op, reduce.ArgExtremum)
    return w.node(EXTREMA[node.op.name], x, axis=node.op.axis, keepdims=int(node.op.keep))


@lowers("cumsum")
def cumsum(w: Writer, node: Node, x: Name) -> Name:
    assert isinstance(node.op, reduce.Cumsum)
    return w.node("CumSum", x, w.number(node.op.axis, DType.I64))


@lowers("topk")
def topk(w: Writer, node: Node, x: Name) -> tuple[Name, ...]:
    op = node.op
    assert isinstance(op, reduce.Topk)
    return w.node_of(2, "TopK", x, w.ints(op.k), axis=op.axis, largest=int(op.largest))


# ------------------------------------------------------------------ normalize
@lowers(*SOFTMAXES)
def softmax(w: Writer, node: Node, x: Name) -> Name:
    assert isinstance(node.op, normalize.Softmax | normalize.LogSoftmax)
    return w.node(SOFTMAXES[node.op.name], x, axis=node.op.axis)


def ones(w: Writer, *shape: int) -> Name:
    return w.array(torch.ones(shape, dtype=w.kernel.torch_dtype))


def zeros(w: Writer, *shape: int) -> Name:
    return w.array(torch.zeros(shape, dtype=w.kernel.torch_dtype))


@lowers("layer_norm")
def layer_norm(
    w: Writer, node: Node, x: Name, weight: Name | None = None, bias: Name | None = None
) -> Name:
    op = node.op
    assert isinstance(op, normalize.LayerNorm)
    if weight is None:
        shape = operand_type(w, node, 0).shape[-op.axes_count :]
        weight = ones(w, *(int(d) for d in shape))
    axis = -op.axes_count
    return w.node("LayerNormalization", x, weight, bias, axis=axis, epsilon=op.eps)


@lowers("rms_norm")
def rms_norm(w: Writer, node: Node, x: Name, weight: Name | None = None) -> Name:
    """The pattern that onnxruntime fuses: its kernel is faster than that of RMSNormalization.

    In f64 x * x keeps it from fusing, since it would read the f64 eps as f32.
    """
    op = node.op
    assert isinstance(op, normalize.RmsNorm)
    rank = operand_type(w, node, 0).rank
    single = w.kernel is DType.F32
    square = w.node("Pow", x, w.number(2, w.kernel)) if single else w.node("Mul", x, x)
    mean = w.node("ReduceMean", square, w.ints(op.axis), keepdims=1)
    root = w.node("Sqrt", w.node("Add", mean, w.number(op.eps, w.kernel)))
    y = w.node("Div", x, root)
    behind = rank - 1 - op.axis % rank
    if weight is not None and behind:
        weight = w.static_reshape(weight, -1, *[1] * behind)
    return y if weight is None else w.node("Mul", y, weight)


@lowers("group_norm")
def group_norm(
    w: Writer, node: Node, x: Name, weight: Name | None = None, bias: Name | None = None
) -> Name:
    """InstanceNormalization over [B, groups, rest], then the channels' own scale and shift."""
    op = node.op
    assert isinstance(op, normalize.GroupNorm)
    kind = operand_type(w, node, 0)
    groups = ones(w, op.groups), zeros(w, op.groups)
    rows = w.static_reshape(x, 0, op.groups, -1)
    rows = w.node("InstanceNormalization", rows, *groups, epsilon=op.eps)
    y = w.reshape(rows, (kind.shape[0], op.groups, -1), kind.shape)
    behind = [1] * (kind.rank - 2)
    if weight is not None:
        y = w.node("Mul", y, w.static_reshape(weight, -1, *behind))
    return y if bias is None else w.node("Add", y, w.static_reshape(bias, -1, *behind))


@lowers("batch_norm")
def batch_norm(
    w: Writer,
    node: Node,
    x: Name,
    mean: Name,
    var: Name,
    weight: Name | None = None,
    bias: Name | None = None,
) -> Name:
    op = node.op
    assert isinstance(op, normalize.BatchNorm)
    channels = int(operand_type(w, node, 1).shape[0])
    weight = ones(w, channels) if weight is None else weight
    bias = zeros(w, channels) if bias is None else bias
    return w.node("BatchNormalization", x, weight, bias, mean, var, epsilon=op.eps)
