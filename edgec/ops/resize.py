"""Sampling images at other places: resize and grid_sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.op import Op, op, require
from edgec.ir.types import DType, TensorType
from edgec.ops import windows
from edgec.ops.indexing import along, size_value

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value

_CUBIC = -0.75  # the free parameter of Keys 1981, as in torch
_TORCH = {
    "nearest": ("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    "linear": ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"),
    "cubic": ("", "upsample_bicubic2d", ""),
}


@op("resize")
@dataclass(frozen=True)
class Resize(Op):
    """Images of another size, sampled along each spatial axis; the semantics of torch's upsample_*.

    Output o reads place p of an axis with S elements, O afterwards, r = 1 / scale or S / O:
    nearest              x[min(floor(o r), S - 1)], in f32
    linear, cubic        p = (o + 1/2) r - 1/2, for linear max(p, 0); with align_corners
                         p = o (S - 1) / (O - 1), or 0 for O = 1
    linear               x[i] (1 - t) + x[i + 1] t,   i = floor(p), t = p - i
    cubic                four neighbours by the cubic convolution of Keys 1981 with a = -0.75
    Indices outside of x are clipped.

    Inputs       x : T[B, C, *S]      T a float
    Outputs      y : T[B, C, *size]
    Attributes   size : one Dim per spatial axis; mode; align_corners : bool
                 scale : factors that were asked for, one per axis, or None
    Constraints  (C1) x is [B, C, *S] of floats, 1 to 3 spatial axes    (C2) one entry per axis
                 (C3) cubic has two spatial axes    (C4) align_corners is not for nearest
                 (C5) sizes and scales are positive
    Exactness    ROUNDING, 2 terms an axis for linear and 4 for cubic
    """

    size: tuple[Dim, ...]
    mode: Literal["nearest", "linear", "cubic"]
    align_corners: bool = False
    scale: tuple[float, ...] | None = None

    def infer(self, x: TensorType) -> TensorType:
        axes = windows.check_input(self, x, "C1")
        windows.check_attributes(self, "C2", axes, size=self.size)
        if self.scale is not None:
            windows.check_attributes(self, "C2", axes, scale=self.scale)
        require(self, self.mode != "cubic" or axes == 2, "C3", f"{axes} axes", "two for cubic")
        proper = self.mode != "nearest" or not self.align_corners
        require(self, proper, "C4", "align_corners with nearest", "linear or cubic")
        positive = all(not isinstance(n, int) or n > 0 for n in self.size)
        positive = positive and all(s > 0 for s in self.scale or ())
        require(self, positive, "C5", f"size={self.size}, scale={self.scale}", "positive numbers")
        return x.with_shape(*x.shape[:2], *self.size)

    def evaluate(self, x: Tensor) -> Tensor:
        axes = x.dim() - 2
        function = getattr(torch.ops.aten, _TORCH[self.mode][axes - 1]).default
        scale = self.scale or (None,) * axes
        corners = () if self.mode == "nearest" else (self.align_corners,)
        result: Tensor = function(x, list(self.size), *corners, *scale)
        return result

    def decompose(self, b: Builder, x: Value) -> Value:
        for i, size in enumerate(self.size):
            scale = None if self.scale is None else self.scale[i]
            old = x.type.shape[2 + i]
            if dims.same(old, size) and scale in (None, 1.0):
                continue
            if self.mode == "nearest":
                x = _nearest(b, x, 2 + i, size, scale)
            else:
                place = self._places(b, old, size, scale, x.type.dtype)
                taps = _linear_taps if self.mode == "linear" else _cubic_taps
                x = _weighted(b, x, 2 + i, taps(b, place, old))
        return x

    def _places(self, b: Builder, old: Dim, size: Dim, scale: float | None, dtype: DType) -> Value:
        """p of every output along one axis."""
        o = b.cast(b.iota(size=size), dtype=dtype)
        result: Value
        if self.align_corners:
            result = b.mul(o, _quotient(b, dims.normal(old - 1), dims.normal(size - 1), dtype))
            return result
        ratio = _ratio(b, old, size, scale, dtype)
        half = b.scalar(0.5, dtype)
        result = b.sub(b.mul(b.add(o, half), ratio), half)
        return result if self.mode == "cubic" else b.relu(result)

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        return int({"nearest": 1, "linear": 2, "cubic": 4}[self.mode] ** len(self.size))

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        terms = 0 if self.mode == "nearest" else 2 * int(self.reduction(inputs))
        return dims.normal(outputs[0].numel * terms)


def _ratio(b: Builder, old: Dim, size: Dim, scale: float | None, dtype: DType) -> Value:
    """r, elements of x per element of y."""
    if scale is not None:
        return b.scalar(1 / scale, dtype)
    return _quotient(b, old, size, dtype)


def _quotient(b: Builder, a: Dim, c: Dim, dtype: DType) -> Value:
    """a / max(c, 1)."""
    if isinstance(a, int) and isinstance(c, int):
        return b.scalar(a / c if c > 0 else 0.0, dtype)
    divisor = b.maximum(size_value(b, c, dtype), b.scalar(1, dtype))
    result: Value = b.div(size_value(b, a, dtype), divisor)
    return result


def _nearest(b: Builder, x: Value, axis: int, size: Dim, scale: float | None) -> Value:
    shape = x.type.shape
    old, before, behind = shape[axis], shape[:axis], shape[axis + 1 :]
    factor = _whole_factor(old, size, scale)
    result: Value
    if factor is not None:
        column = b.reshape(x, shape=(*before, old, 1, *behind))
        wide = b.expand(column, shape=(*before, old, factor, *behind))
        result = b.reshape(wide, shape=(*before, size, *behind))
        return result
    # f32 whatever the dtype of x: so does torch, and another rounding would pick another element
    ratio = _ratio(b, old, size, scale, DType.F32)
    place = b.floor(b.mul(b.cast(b.iota(size=size), dtype=DType.F32), ratio))
    last = size_value(b, dims.normal(old - 1), DType.I64)
    result = b.gather(x, b.minimum(b.cast(place, dtype=DType.I64), last), axis=axis)
    return result


def _whole_factor(old: Dim, size: Dim, scale: float | None) -> int | None:
    """f where size = f old for all values of the names, and the scale is f or not given."""
    factor = dims.floordiv(size, old) if isinstance(old, int) else dims.normal(size / old)
    if not isinstance(factor, int) or not dims.same(size, dims.normal(old * factor)):
        return None
    return factor if scale in (None, float(factor)) else None


def _weighted(b: Builder, x: Value, axis: int, taps: list[tuple[Value, Value]]) -> Value:
    """Sum of x at each tap's indices times its weights, along one axis."""
    rank = x.type.rank
    terms = [
        b.mul(b.gather(x, index, axis=axis), along(b, weight, axis, rank)) for index, weight in taps
    ]
    return windows.fold(terms, b.add)


def _linear_taps(b: Builder, place: Value, size: Dim) -> list[tuple[Value, Value]]:
    one = b.scalar(1, place.type.dtype)
    low = b.minimum(b.floor(place), size_value(b, dims.normal(size - 1), place.type.dtype))
    t = b.sub(place, low)
    t = b.minimum(t, one)
    return [(_clipped(b, low, 0, size), b.sub(one, t)), (_clipped(b, low, 1, size), t)]


def _cubic_taps(b: Builder, place: Value, size: Dim) -> list[tuple[Value, Value]]:
    one = b.scalar(1, place.type.dtype)
    low = b.floor(place)
    t = b.sub(place, low)
    rest = b.sub(one, t)
    weights = (
        _outer_weight(b, b.add(t, one)),
        _inner_weight(b, t),
        _inner_weight(b, rest),
        _outer_weight(b, b.add(rest, one)),
    )
    return [(_clipped(b, low, i - 1, size), w) for i, w in enumerate(weights)]


def _inner_weight(b: Builder, t: Value) -> Value:
    """(a + 2) t^3 - (a + 3) t^2 + 1, the weight at distance t <= 1."""
    return _polynomial(b, t, (_CUBIC + 2, -(_CUBIC + 3), 0.0, 1.0))


def _outer_weight(b: Builder, t: Value) -> Value:
    """a t^3 - 5 a t^2 + 8 a t - 4 a, the weight at distance 1 < t <= 2."""
    return _polynomial(b, t, (_CUBIC, -5 * _CUBIC, 8 * _CUBIC, -4 * _CUBIC))


def _polynomial(b: Builder, t: Value, coefficients: tuple[float, ...]) -> Value:
    """By Horner's rule, highest power first."""
    total = b.scalar(coefficients[0], t.type.dtype)
    for c in coefficients[1:]:
        total = b.add(b.mul(total, t), b.scalar(c, t.type.dtype))
    return total


def _clipped(b: Builder, place: Value, shift: int, size: Dim) -> Value:
    """Whole-number places as indices, moved by `shift` and clipped to [0, size)."""
    index = b.cast(place, dtype=DType.I64)
    if shift:
        index = b.add(index, b.scalar(shift, DType.I64))
    last = size_value(b, dims.normal(size - 1), DType.I64)
    result: Value = b.minimum(b.maximum(index, b.scalar(0, DType.I64)), last)
    return result
