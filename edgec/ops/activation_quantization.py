"""Quantization of activations at run time: what `linear` and `conv` do to x before the product.

dynamic        asymmetric u8 with one scale, exactly as ONNX DynamicQuantizeLinear:
               scale = (max(0, max x) - min(0, min x)) / 255
               zero  = clamp(round(-min(0, min x) / scale), 0, 255)
               q     = clamp(round(x / scale) + zero, 0, 255)
               x_hat = (q - zero) scale
dynamic_token  symmetric i8 with a scale per row:
               scale = max |x| / 127,   q = round(x / scale) in [-127, 127],   x_hat = q scale
static         as dynamic, with the node's own scale and zero point, exactly as ONNX QuantizeLinear:
               scale = x_scale, zero = x_zero, found on calibration data

A dynamic scale of 0 (x is 0 everywhere) counts as 1; halves are rounded to the even number. 0 is
always exact, so that padding is.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from edgec.ir.op import require
from edgec.ir.types import DType

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value

Activations: TypeAlias = Literal["none", "dynamic", "dynamic_token", "static"]


class Quantizer(Protocol):
    """The attributes of an op that quantizes x.

    x_scale   of "static": > 0, a number of f32; else 0
    x_zero    of "static": 0..255; else 0
    """

    @property
    def activations(self) -> Activations: ...
    @property
    def x_scale(self) -> float: ...
    @property
    def x_zero(self) -> int: ...


def check_quantizer(op: Any, label: str) -> None:
    """Raise TypeCheckError for a scale or zero point that the kind of quantization has not."""
    got = f"activations={op.activations}, x_scale={op.x_scale}, x_zero={op.x_zero}"
    if op.activations == "static":
        proper = is_f32(op.x_scale) and op.x_scale > 0 and 0 <= op.x_zero <= 255
        require(op, proper, label, got, "x_scale > 0, a finite number of f32, x_zero in 0..255")
    else:
        need = "x_scale and x_zero for activations=static alone"
        require(op, op.x_scale == 0 and op.x_zero == 0, label, got, need)


def is_f32(number: float) -> bool:
    """Whether a number is one of float32, and finite."""
    if not math.isfinite(number) or abs(number) > torch.finfo(torch.float32).max:
        return False
    return bool(struct.unpack("f", struct.pack("f", number))[0] == number)


def quantized(x: Tensor, op: Quantizer, row_axes: tuple[int, ...]) -> Tensor:
    """x rounded to the values that its quantized form has; `row_axes` are the axes of one row."""
    if op.activations == "none" or x.numel() == 0:
        return x
    if op.activations == "static":
        codes = torch.clamp(torch.round(x / op.x_scale) + op.x_zero, 0, 255)
        return (codes - op.x_zero) * op.x_scale
    if op.activations == "dynamic_token":
        scale = torch.amax(torch.abs(x), row_axes, keepdim=True) / 127
        scale = torch.where(scale == 0, 1.0, scale)
        return torch.clamp(torch.round(x / scale), -127, 127) * scale
    low, high = torch.clamp(torch.amin(x), max=0.0), torch.clamp(torch.amax(x), min=0.0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, 1.0, scale)
    zero = torch.round(torch.clamp(-low / scale, 0, 255))
    return (torch.clamp(torch.round(x / scale) + zero, 0, 255) - zero) * scale


def emit_quantized(b: Builder, x: Value, op: Quantizer, row_axes: tuple[int, ...]) -> Value:
    """Nodes that compute `quantized`; x must have elements where it is dynamic."""
    dtype = x.type.dtype
    if op.activations == "dynamic_token":
        top = b.reduce_max(b.abs(x), axes=row_axes, keep=True)
        scale = _or_one(b, b.div(top, b.scalar(127, dtype)))
        codes = b.clamp(b.round(b.div(x, scale)), min=-127.0, max=127.0)
        result: Value = b.mul(codes, scale)
        return result
    if op.activations == "static":
        scale, zero = b.scalar(op.x_scale, dtype), b.scalar(op.x_zero, dtype)
    else:
        scale, zero = _dynamic(b, x)
    codes = b.clamp(b.add(b.round(b.div(x, scale)), zero), min=0.0, max=255.0)
    result = b.mul(b.sub(codes, zero), scale)
    return result


def _dynamic(b: Builder, x: Value) -> tuple[Value, Value]:
    """Scale and zero point of what x is."""
    every = tuple(range(x.type.rank))
    low = b.clamp(b.reduce_min(x, axes=every), max=0.0)
    high = b.clamp(b.reduce_max(x, axes=every), min=0.0)
    scale = _or_one(b, b.div(b.sub(high, low), b.scalar(255, x.type.dtype)))
    return scale, b.round(b.clamp(b.div(b.neg(low), scale), min=0.0, max=255.0))


def _or_one(b: Builder, scale: Value) -> Value:
    dtype: DType = scale.type.dtype
    result: Value = b.where(b.eq(scale, b.scalar(0, dtype)), b.scalar(1, dtype), scale)
    return result
