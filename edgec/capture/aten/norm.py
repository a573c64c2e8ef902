"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from edgec.capture.aten.reduction import vector_norm
from edgec.capture.call import Call
from edgec.capture.registry import aten
from edgec.ir.dims import Dim
from edgec.ir.graph import Value


@aten("layer_norm")
def layer_norm(
    c: Call,
    x: Value,
    shape: Sequence[Dim],
    weight: Value | None,
    bias: Value | None,
    eps: float,
    *_: Any,
) -> Value:
    return c.value(c.b.layer_norm(x, weight, bias, axes_count=len(shape), eps=float(eps)))


@aten("native_layer_norm")
def native_layer_norm(
    c: Call,
    x: Value,
    shape: Sequence[Dim],
    weight: Value | None,
    bias: Value | None,
    eps: float,
) -> tuple[Value, None, None]:
    return layer_norm(c, x, shape, weight, bias, eps), None, None


@aten("rms_norm")
def rms_norm(
    c: Call, x: Value, shape: Sequence[Dim], weight: Value | None, eps: float | None
) -> Value:
    eps = torch.finfo(x.type.dtype.torch_dtype).eps if eps is None else eps
    if len(shape) == 1:
        return c.value(c.b.rms_norm(x, weight, eps=float(eps)))
    axes = tuple(range(-len(shape), 0))
    square = c.b.reduce_mean(c.b.mul(x, x), axes=axes, keep=True)
    y = c.b.mul(x, c.b.rsqrt(c.b.add(square, c.number(float(eps), c.dtype))))
    return c.value(y if weight is None else c.b.mul(y, weight))


@aten("_fused_rms_norm")
def fused_rms_norm(
    c: Call, x: Value, shape: Sequence[Dim], weight: Value | None, eps: float | None
) -> tuple[Value, None]:
    return rms_norm(c, x, shape, weight, eps), None


@aten("group_norm")
def group_norm(
    c: Call, x: Value, groups: int, weight: Value | None, bias: Value | None, eps: float, *_: Any
) -> Value:
    return c.value(c.b.group_norm(x, weight, bias, groups=groups, eps=float(eps)))


@aten("native_group_norm")
def native_group_norm(
    c: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    batch: Dim,
    channels: Dim,
    rest: Dim,
    groups: int,
    eps: float,
) -> tuple[Value, None, None]:
    return group_norm(c, x, groups, weight, bias, eps), None, None


# ------------------------------------------------------------------ batches and instances
@aten("batch_norm")
def batch_norm(
    c: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> Value:
    """With the stored statistics, or with the batch's own where a layer keeps none."""
    if mean is None or var is None or training:
        mean, var = _batch_statistics(c, x)
    return c.value(c.b.batch_norm(x, mean, var, weight, bias, eps=float(eps)))


def _batch_statistics(c: Call, x: Value) -> tuple[Value, Value]:
    """Mean and variance of each channel, [C]."""
    axes = (0, *range(2, x.type.rank))
    middle = c.b.reduce_mean(x, axes=axes, keep=True)
    difference = c.b.sub(x, middle)
    spread = c.b.reduce_mean(c.b.mul(difference, difference), axes=axes)
    return c.reshape(middle, [x.type.shape[1]]), c.value(spread)


@aten("_native_batch_norm_legit_no_training")
def native_batch_norm(
    c: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    var: Value,
    momentum: float,
    eps: float,
) -> tuple[Value, None, None]:
    return batch_norm(c, x, weight, bias, mean, var, False, momentum, eps, False), None, None


@aten("native_batch_norm")
def native_batch_norm_training(
    c: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Value, None, None]:
    y = batch_norm(c, x, weight, bias, mean, var, training, momentum, eps, False)
    return y, None, None


@aten("_native_batch_norm_legit.no_stats")
def native_batch_norm_own(
    c: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Value, None, None]:
    y = batch_norm(c, x, weight, bias, None, None, True, momentum, eps, False)
    return y, None, None


@aten("instance_norm")
def instance_norm(
    c: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> Value:
    """Ulyanov et al. 2016, arXiv:1607.08022: a group norm with one group for each channel."""
    if not use_input_stats:
        return batch_norm(c, x, weight, bias, mean, var, False, momentum, eps, cudnn)
    channels = c.require_static(x.type.shape[1], "the number of channels")
    return c.value(c.b.group_norm(x, weight, bias, groups=channels, eps=float(eps)))


# ------------------------------------------------------------------ weights, responses
@aten("_weight_norm")
def weight_norm(c: Call, v: Value, g: Value, axis: int) -> Value:
    """v g / |v|, the norm over all axes but one; Salimans, Kingma 2016, arXiv:1602.07868, eq. 2."""
    axes = tuple(i for i in range(v.type.rank) if axis == -1 or i != axis % v.type.rank)
    length = c.b.sqrt(c.b.reduce_sum(c.b.mul(v, v), axes=axes, keep=True))
    return c.value(c.b.mul(v, c.b.div(g, length)))


@aten("_weight_norm_interface")
def weight_norm_interface(c: Call, v: Value, g: Value, axis: int) -> tuple[Value, None]:
    return weight_norm(c, v, g, axis), None


@aten("renorm")
def renorm(c: Call, x: Value, p: float, axis: int, limit: float) -> Value:
    """Slices along `axis` whose norm exceeds `limit` are scaled down to it."""
    axes = [i for i in range(x.type.rank) if i != axis % x.type.rank]
    length = vector_norm(c, x, p, axes, True)
    bound = c.number(float(limit), c.dtype)
    shrunk = c.b.div(bound, c.b.add(length, c.number(1e-7, c.dtype)))
    factor = c.b.where(c.b.gt(length, bound), shrunk, c.number(1.0, c.dtype))
    return c.value(c.b.mul(x, factor))
