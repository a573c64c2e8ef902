"""Quantization of activations at run time: what `linear` and `conv` do to x before the product.

dynamic        asymmetric u8 with one scale, exactly as ONNX DynamicQuantizeLinear:
               scale = (max(0, max x) - min(0, min x)) / 255
               zero  = clamp(round(-min(0, min x) / scale), 0, 255)
               q     = clamp(round(x / scale) + zero, 0, 255)
               x_hat = (q - zero) scale
dynamic_token  symmetric i8 with a scale per row:
               scale = max |x| / 127,   q = round(x / scale) in [-127, 127],   x_hat = q scale

A scale of 0 (x is 0 everywhere) counts as 1; halves are rounded to the even number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor

from edgec.ir.types import DType

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value

Activations: TypeAlias = Literal["none", "dynamic", "dynamic_token"]


def quantized(x: Tensor, activations: Activations, row_axes: tuple[int, ...]) -> Tensor:
    """x rounded to the values that its quantized form has; `row_axes` are the axes of one row."""
    if activations == "none" or x.numel() == 0:
        return x
    if activations == "dynamic_token":
        top = torch.amax(torch.abs(x), row_axes, keepdim=True)
        scale = torch.where(top == 0, 1.0, top / 127)
        return torch.clamp(torch.round(x / scale), -127, 127) * scale
    low, high = torch.clamp(torch.amin(x), max=0.0), torch.clamp(torch.amax(x), min=0.0)
    scale = torch.where(high == low, 1.0, (high - low) / 255)
    zero = torch.round(torch.clamp(-low / scale, 0, 255))
    return (torch.clamp(torch.round(x / scale) + zero, 0, 255) - zero) * scale


def emit_quantized(
    b: Builder, x: Value, activations: Activations, row_axes: tuple[int, ...]
) -> Value:
    """Nodes that compute `quantized`; x must have elements."""
    dtype = x.type.dtype
    if activations == "dynamic_token":
        top = b.reduce_max(b.abs(x), axes=row_axes, keep=True)
        scale = _or_one(b, b.div(top, b.scalar(127, dtype)))
        codes = b.clamp(b.round(b.div(x, scale)), min=-127.0, max=127.0)
        result: Value = b.mul(codes, scale)
        return result
    every = tuple(range(x.type.rank))
    low = b.clamp(b.reduce_min(x, axes=every), max=0.0)
    high = b.clamp(b.reduce_max(x, axes=every), min=0.0)
    scale = _or_one(b, b.div(b.sub(high, low), b.scalar(255, dtype)))
    zero = b.round(b.clamp(b.div(b.neg(low), scale), min=0.0, max=255.0))
    codes = b.clamp(b.add(b.round(b.div(x, scale)), zero), min=0.0, max=255.0)
    result = b.mul(b.sub(codes, zero), scale)
    return result


def _or_one(b: Builder, scale: Value) -> Value:
    dtype: DType = scale.type.dtype
    result: Value = b.where(b.eq(scale, b.scalar(0, dtype)), b.scalar(1, dtype), scale)
    return result
