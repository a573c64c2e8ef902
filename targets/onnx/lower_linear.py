"""Lowering of edgec.ops.linear and attention."""

from __future__ import annotations

import math

import torch

from edgec.ir import DType, Node, dims
from edgec.ir.encodings import Affine
from edgec.ops.attention import Attention
from edgec.ops.linear import Linear
from edgec.targets.onnx import packed, quantized
from edgec.targets.onnx.lowering import Weight, dense, lowers, operand_type
from edgec.targets.onnx.writer import Name, Writer


# ------------------------------------------------------------------ linear
@lowers("linear", weight=1)
def linear(w: Writer, node: Node, x: Name, weight: Weight, bias: Name | None = None) -> Name:
    op = node.op
    assert isinstance(op, Linear)
    if not isinstance(weight, str) and isinstance(weight.encoding, Affine):
        if op.activations != "none" and quantized.is_integer_weight(weight.encoding):
            return quantized.integer_linear(w, x, weight, bias, op)
        if packed.uses_packed_matmul(w, weight.encoding, operand_type(w, node, 0).shape):
            x = quantized.quantized_values(w, x, op, (-1,))
            return packed.matmul(w, x, weight, bias)
    # onnxruntime transposes constants when it opens the file
    x = quantized.quantized_values(w, x, op, (-1,))
    y = w.node("MatMul", x, w.transpose(dense(w, weight), (1, 0)))
    return y if bias is None else w.node("Add", y, bias)


@lowers("matmul")
def matmul(w: Writer, node: Node, a: Name, b: Name) -> Name:
    return w.node("MatMul", a, b)


# ------------------------------------------------------------------ attention
@lowers("attention")
def attention(w: Writer, node: Node, q: Name, k: Name, v: Name, mask: Name | None = None) -> Name:
    """Matrix products and a softmax; a mask is added: cheaper than Where over all heads."""
    op = node.op
    assert isinstance(op, Attention)
    width, scale = operand_type(w, node, 0).shape[3], op.scale
    bias, visible = _mask(w, node, mask)
    groups, axes = _groups(w, node), 4
    if groups > 1:
        axes = 4 if _same_for_all_rows(w, node) else 5
        q, k, v, bias = _split_groups(w, node, (q, k, v, bias), groups, axes)
    keys = w.transpose(k, (*range(axes - 2), axes - 1, axes - 2))
    factor = w.number(1 / math.sqrt(int(width)) if scale is None else scale, w.kernel)
    scores = w.node("Mul", w.node("MatMul", q, keys), factor)
    if bias is not None:
        scores = w.node("Add", scores, bias)
    y = w.node("MatMul", w.node("Softmax", scores, axis=-1), v)
    if groups > 1:
        y = w.reshape(y, operand_type(w, node, 0).shape[:1], node.output.type.shape)
    return y if visible is None else w.node("Mul", y, visible)


def _groups(w: Writer, node: Node) -> int:
    """Heads of q per head of k."""
    many, few = (operand_type(w, node, i).shape[1] for i in (0, 1))
    return 1 if dims.same(many, few) else int(dims.floordiv(many, few))


def _mask(w: Writer, node: Node, mask: Name | None) -> tuple[Name | None, Name | None]:
    """What is added to the scores, and 1 or 0 for each row: 0 where no key is visible.

    Hidden scores become the lowest number, not minus infinity, so that no row is NaN.
    """
    op = node.op
    assert isinstance(op, Attention)
    lowest = w.number(torch.finfo(w.kernel.torch_dtype).min, w.kernel)
    zero, hidden = w.number(0.0, w.kernel), w.number(-math.inf, w.kernel)
    before = _before(w, node) if op.causal else None
    if mask is None:
        # position 0 is visible to every row
        return (None if before is None else w.node("Where", before, zero, lowest)), None
    if operand_type(w, node, 3).dtype is DType.BOOL:
        shown = mask if before is None else w.node("And", mask, before)
        bias = w.node("Where", shown, zero, lowest)
    else:
        shifted = mask if before is None else w.node("Where", before, mask, hidden)
        bias = w.node("Max", shifted, lowest)
        shown = w.node("Greater", shifted, hidden)
    if operand_type(w, node, 3).rank == 0:
        shown = w.unsqueeze(shown, 0)
    some = w.node("ReduceMax", shown, w.ints(-1), keepdims=1)
    return bias, w.cast(some, w.kernel)


def _before(w: Writer, node: Node) -> Name:
    """bool [T, S]: True where s <= t."""
    rows, columns = (operand_type(w, node, i).shape[2] for i in (0, 1))
    zero, one = w.number(0, DType.I64), w.number(1, DType.I64)
    t, s = (w.node("Range", zero, w.squeeze(w.dim(n), 0), one) for n in (rows, columns))
    return w.node("LessOrEqual", s, w.unsqueeze(t, 1))


def _same_for_all_rows(w: Writer, node: Node) -> bool:
    """Whether what is added to the scores is the same for all rows and heads."""
    op = node.op
    assert isinstance(op, Attention)
    if op.causal:
        return False
    if len(node.inputs) < 4 or node.inputs[3] is None:
        return True
    shape = operand_type(w, node, 3).shape
    return all(d == 1 for d in shape[-3:-1])


def _split_groups(
    w: Writer,
    node: Node,
    operands: tuple[Name, Name, Name, Name | None],
    groups: int,
    axes: int,
) -> tuple[Name, Name, Name, Name | None]:
    """q as [B, Hk, G*T, D] (4 axes), or [B, Hk, G, T, D] (5) and keys [B, Hk, 1, S, D]."""
    q, k, v, bias = operands
    shape = operand_type(w, node, 0).shape
    few = operand_type(w, node, 1).shape[1]
    rows, width = shape[2], shape[3]
    merged = (groups * rows,) if axes == 4 else (groups, rows)
    q = w.reshape(q, shape, (shape[0], few, *merged, width))
    if axes == 4:
        return q, k, v, bias
    if bias is not None and len(node.inputs) > 3 and node.inputs[3] is not None:
        mask = operand_type(w, node, 3).shape
        if len(mask) >= 3:
            heads = (1, 1) if mask[-3] == 1 else (few, groups)
            causal = isinstance(node.op, Attention) and node.op.causal
            tail = (rows, operand_type(w, node, 1).shape[2]) if causal else mask[-2:]
            bias = w.reshape(bias, (*mask[:-2], *tail), (*mask[:-3], *heads, *tail))
    return q, w.unsqueeze(k, 2), w.unsqueeze(v, 2), bias
