"""Biases, scales and batch norms that fold into the linear or convolution before them.

Within rounding. A weight is only changed where nothing else in the program reads it, and only while
it is stored as plain numbers: compressed weights stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgec.ir import dims
from edgec.ir.encoding import Constant
from edgec.ir.graph import Value
from edgec.ir.op import Op
from edgec.ir.pattern import Pattern, Term, Var
from edgec.ir.rewrite import Rule, Site
from edgec.ops.conv import ConvTranspose
from edgec.ops.linear import Linear

AFFINE = ("linear", "conv", "conv_transpose")


def _affine(p: Pattern, x: Var, w: Var, bias: Var, op: Var) -> Term:
    """An op of AFFINE on a constant weight."""
    weight, optional = p.constant(w), p.optional(bias)
    return p.either(*(getattr(p, name)(x, weight, optional, _op=op) for name in AFFINE))


def _channel_axis(op: Op) -> int:
    """The axis of the weight that counts output channels."""
    return 1 if isinstance(op, ConvTranspose) else 0


def _channels(op: Op, w: Constant) -> dims.Dim:
    return w.type.shape[_channel_axis(op)]


def _may_change(b: Site, op: Op, w: Constant) -> bool:
    """Whether the weight is this node's own; grouped transposed convolutions mix their axes."""
    grouped = isinstance(op, ConvTranspose) and op.groups != 1
    quantized = getattr(op, "activations", "none") != "none"
    return w.encoding.is_plain and b.uses(w) == 1 and not grouped and not quantized


# ------------------------------------------------------------------ product with a matrix
def product(p: Pattern, x: Var, w: Var) -> Term:
    return p.matmul(x, p.constant(w))


def linear(b: Site, x: Value, w: Constant) -> Value | None:
    """x W as linear with W transposed, where W is used in no other way."""
    if w.type.rank != 2 or not w.type.dtype.is_float or not w.encoding.is_plain:
        return None
    if not b.only_used_as(w, "matmul", 1):
        return None
    made: Value = b.linear(x, b.derive(w, "transposed", lambda t: t.t()))
    return made


def product_from_left(p: Pattern, x: Var, w: Var, order: Var) -> Term:
    return p.matmul(p.constant(w), p.permute(x, order=order))


def linear_then_permute(b: Site, x: Value, w: Constant, order: tuple[int, ...]) -> Value | None:
    """W x^T is linear(x, W)^T (Mamba's time steps); W is a weight as it is."""
    swapped = (*range(len(order) - 2), len(order) - 1, len(order) - 2)
    if w.type.rank != 2 or not w.type.dtype.is_float or order != swapped:
        return None
    made: Value = b.permute(b.linear(x, Value(w.ref, w.type)), order=swapped)
    return made


# ------------------------------------------------------------------ bias
def plus_bias(p: Pattern, x: Var, w: Var, bias: Var, op: Var, more: Var) -> Term:
    return p.add(_affine(p, x, w, bias, op), p.constant(more))


def with_bias(
    b: Site, x: Value, w: Constant, bias: Value | None, op: Op, more: Constant
) -> Value | None:
    count = _channels(op, w)
    added = _per_channel(b, op, count, more, "bias")
    if added is None:
        return None
    if bias is not None:
        old = b.graph.constant(bias.name)
        if old is None or not old.encoding.is_plain:
            return None
        addend = b.graph.constants[added.name[1:]].encoding.decode()
        added = b.derive(old, f"plus {more.name}", lambda t: t + addend)
    made: Value = b.emit(op, x, w, added)
    return made


def _per_channel(b: Site, op: Op, count: dims.Dim, constant: Constant, how: str) -> Value | None:
    """The constant as [N], where it broadcasts along the channels of the op's result."""
    if not constant.encoding.is_plain or not isinstance(count, int):
        return None
    shape, rank = constant.type.shape, b.root.output.type.rank
    channel = rank - 1 if isinstance(op, Linear) else 1
    padded = (1,) * (rank - len(shape)) + shape
    if len(padded) != rank or any(d != 1 for i, d in enumerate(padded) if i != channel):
        return None
    if padded[channel] not in (1, count):
        return None
    if shape == (count,):
        return Value(constant.ref, constant.type)
    return b.derive(constant, f"{how} [{count}]", lambda t: t.reshape(-1).expand(count).clone())


# ------------------------------------------------------------------ scale
def times_scale(p: Pattern, x: Var, w: Var, bias: Var, op: Var, scale: Var) -> Term:
    return p.mul(_affine(p, x, w, bias, op), p.constant(scale))


def with_scale(
    b: Site, x: Value, w: Constant, bias: Value | None, op: Op, scale: Constant
) -> Value | None:
    if not _may_change(b, op, w):
        return None
    per_channel = _per_channel(b, op, _channels(op, w), scale, "scale")
    if per_channel is None:
        return None
    factors = b.graph.constants[per_channel.name[1:]].encoding.decode()
    return _scaled(b, x, w, bias, op, factors, None, f"times {scale.name}")


def _scaled(
    b: Site,
    x: Value,
    w: Constant,
    bias: Value | None,
    op: Op,
    scale: Tensor,
    shift: Tensor | None,
    how: str,
) -> Value | None:
    """op(x, scale w, scale bias + shift), computed in float64 and rounded once."""
    axis, dtype = _channel_axis(op), w.type.dtype.torch_dtype
    old = None if bias is None else b.graph.constant(bias.name)
    if bias is not None and (old is None or not old.encoding.is_plain):
        return None

    def weight(t: Tensor) -> Tensor:
        shape = [-1 if i == axis else 1 for i in range(t.dim())]
        return (t.double() * scale.double().reshape(shape)).to(dtype)

    operands: list[Value] = [x, b.derive(w, how, weight)]
    if old is not None:
        operands.append(b.derive(old, how, lambda t: _shifted(t.double() * scale, shift, dtype)))
    elif shift is not None:
        operands.append(b.constant(shift.to(dtype), f"{w.name}_bias"))
    made: Value = b.emit(op, *operands)
    return made


def _shifted(values: Tensor, shift: Tensor | None, dtype: torch.dtype) -> Tensor:
    return (values if shift is None else values + shift.double()).to(dtype)


# ------------------------------------------------------------------ batch norm
def normalized(
    p: Pattern,
    x: Var,
    w: Var,
    bias: Var,
    op: Var,
    mean: Var,
    var: Var,
    gain: Var,
    offset: Var,
    norm: Var,
) -> Term:
    inner = _affine(p, x, w, bias, op)
    statistics = (p.constant(mean), p.constant(var))
    return p.batch_norm(inner, *statistics, p.optional(gain), p.optional(offset), _op=norm)


def with_statistics(
    b: Site,
    x: Value,
    w: Constant,
    bias: Value | None,
    op: Op,
    mean: Constant,
    var: Constant,
    gain: Value | None,
    offset: Value | None,
    norm: Op,
) -> Value | None:
    """(y - mean) gain / sqrt(var + eps) + offset as a scale and a shift of y."""
    if not _may_change(b, op, w) or (isinstance(op, Linear) and b.root.output.type.rank != 2):
        return None
    given = [None if v is None else b.graph.constant(v.name) for v in (gain, offset)]
    if any(v is not None and c is None for v, c in zip((gain, offset), given, strict=True)):
        return None
    eps: float = getattr(norm, "eps")  # noqa: B009 - a field of that op
    gains, offsets = (None if c is None else c.encoding.decode().double() for c in given)
    scale = torch.rsqrt(var.encoding.decode().double() + eps)
    scale = scale if gains is None else scale * gains
    shift = -mean.encoding.decode().double() * scale
    shift = shift if offsets is None else shift + offsets
    return _scaled(b, x, w, bias, op, scale, shift, f"normalized by {mean.name}")


RULES = (
    Rule("product-with-matrix", product, linear),
    Rule("product-from-left", product_from_left, linear_then_permute),
    Rule("bias", plus_bias, with_bias),
    Rule("scale", times_scale, with_scale),
    Rule("batch-norm", normalized, with_statistics),
)
