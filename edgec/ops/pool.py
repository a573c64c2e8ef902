"""Pooling over spatial windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.ir import dims
from edgec.ir.dims import Dim, Shape
from edgec.ir.op import Exactness, Op, op, require
from edgec.ir.types import TensorType
from edgec.ops import windows

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


def _check_pool(op: MaxPool | AvgPool, x: TensorType, dilation: Sequence[int]) -> None:
    """C1 to C3 of the pools."""
    pads = op.padding
    given = {"kernel": op.kernel, "stride": op.stride, "dilation": dilation}
    axes = windows.check_input(op, x, "C1")
    windows.check_attributes(op, "C2", axes, padding=pads, **given)
    windows.check_positive(op, "C2", **given)
    spans = [windows.extent(k, d) for k, d in zip(op.kernel, dilation, strict=True)]
    small = all(0 <= p < n for pair, n in zip(pads, spans, strict=True) for p in pair)
    require(op, small, "C3", f"padding={list(pads)}", "0 <= padding < the window's extent")


def _narrowed(y: Tensor, sizes: Sequence[int]) -> Tensor:
    """The first windows along every spatial axis."""
    for i, n in enumerate(sizes):
        y = torch.narrow(y, 2 + i, 0, n)
    return y


@op("max_pool")
@dataclass(frozen=True)
class MaxPool(Op):
    """y[b, c, o] = max_i x[b, c, o stride + i dilation - low]; nothing outside of x counts.

    Inputs       x : T[B, C, *S]      T a float
    Outputs      y : T[B, C, *O],  O = floor((S + low + high - dilation (K - 1) - 1) / stride) + 1;
                 ceil_mode rounds up, without windows that would start behind x
    Attributes   kernel, stride, dilation : one int per spatial axis; padding : one pair (low, high)
                 each; ceil_mode : bool
    Constraints  (C1) x is [B, C, *S] of floats, 1 to 3 spatial axes    (C2) one entry per axis;
                 kernel, stride and dilation from 1    (C3) 0 <= padding < dilation (K - 1) + 1
                 (C4) O >= 1
    Exactness    EXACT
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False
    exactness: ClassVar[Exactness] = Exactness.EXACT

    def infer(self, x: TensorType) -> TensorType:
        _check_pool(self, x, self.dilation)
        sizes = self._sizes(x.shape[2:])
        windows.check_outputs(self, "C4", x, sizes)
        return x.with_shape(*x.shape[:2], *sizes)

    def _sizes(self, sides: Shape) -> Shape:
        return windows.output_sizes(
            sides, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def evaluate(self, x: Tensor) -> Tensor:
        sizes = [int(n) for n in self._sizes(tuple(x.shape[2:]))]
        pads = windows.padded_pairs(self.padding, self.stride, self.ceil_mode)
        function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[x.dim() - 3]
        padded = F.pad(x, windows.torch_pads(pads), value=-math.inf)
        return _narrowed(function(padded, self.kernel, self.stride, 0, self.dilation), sizes)

    def decompose(self, b: Builder, x: Value) -> Value:
        pads = windows.padded_pairs(self.padding, self.stride, self.ceil_mode)
        padded = windows.surround(b, x, pads, -math.inf)
        sizes = self._sizes(x.type.shape[2:])
        parts = windows.window_slices(b, padded, self.kernel, self.stride, self.dilation, sizes)
        return windows.fold(parts, b.maximum)


@op("avg_pool")
@dataclass(frozen=True)
class AvgPool(Op):
    """y[b, c, o] = mean of x[b, c, o stride + i - low] over the places i of the window.

    count_include_pad counts the zeros of the padding; what `ceil_mode` adds behind it never counts.

    Inputs       x : T[B, C, *S]      T a float
    Outputs      y : T[B, C, *O],  O = floor((S + low + high - K) / stride) + 1; ceil_mode rounds
                 up, without windows that would start behind x
    Attributes   kernel, stride : one int per spatial axis; padding : one pair (low, high) each
                 ceil_mode, count_include_pad : bool
    Constraints  (C1) x is [B, C, *S] of floats, 1 to 3 spatial axes    (C2) one entry per axis;
                 kernel and stride from 1    (C3) 0 <= padding < K    (C4) O >= 1
    Exactness    ROUNDING, numel(K) terms
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    ceil_mode: bool = False
    count_include_pad: bool = True

    def infer(self, x: TensorType) -> TensorType:
        _check_pool(self, x, self._dilation)
        sizes = self._sizes(x.shape[2:])
        windows.check_outputs(self, "C4", x, sizes)
        return x.with_shape(*x.shape[:2], *sizes)

    @property
    def _dilation(self) -> tuple[int, ...]:
        return (1,) * len(self.kernel)

    @property
    def _counts_vary(self) -> bool:
        """Whether windows differ in the number of elements that they average."""
        pads = any(p for pair in self.padding for p in pair)
        return self.ceil_mode or (pads and not self.count_include_pad)

    def _sizes(self, sides: Shape) -> Shape:
        return windows.output_sizes(
            sides, self.kernel, self.stride, self.padding, self._dilation, self.ceil_mode
        )

    def evaluate(self, x: Tensor) -> Tensor:
        sizes = [int(n) for n in self._sizes(tuple(x.shape[2:]))]
        total = self._averages(x, self.padding)
        if self._counts_vary:
            ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
            if self.count_include_pad:
                ones = F.pad(ones, windows.torch_pads(self.padding), value=1.0)
            inner = ((0, 0),) * len(self.kernel) if self.count_include_pad else self.padding
            total = total / self._averages(ones, inner)
        return _narrowed(total, sizes)

    def _averages(self, x: Tensor, padding: windows.Pads) -> Tensor:
        """Averages of full windows of x between zeros."""
        pads = windows.padded_pairs(padding, self.stride, self.ceil_mode)
        function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(self.kernel) - 1]
        return function(F.pad(x, windows.torch_pads(pads)), self.kernel, self.stride)

    def decompose(self, b: Builder, x: Value) -> Value:
        sides, dtype = x.type.shape[2:], x.type.dtype
        result: Value
        if not self._counts_vary:
            count = b.scalar(windows.volume(self.kernel), dtype)
            result = b.div(self._sums(b, x, self.padding, sides), count)
            return result
        ones, inner = b.full(shape=(1, 1, *sides), value=1.0, dtype=dtype), self.padding
        if self.count_include_pad:
            ones = windows.surround(b, ones, self.padding, 1.0)
            inner = ((0, 0),) * len(self.kernel)
        counts = self._sums(b, ones, inner, sides)
        result = b.div(self._sums(b, x, self.padding, sides), counts)
        return result

    def _sums(self, b: Builder, x: Value, padding: windows.Pads, sides: Shape) -> Value:
        """Sums of the windows of x between zeros; `sides` are the sizes before any padding."""
        pads = windows.padded_pairs(padding, self.stride, self.ceil_mode)
        padded, sizes = windows.surround(b, x, pads), self._sizes(sides)
        parts = windows.window_slices(b, padded, self.kernel, self.stride, self._dilation, sizes)
        return windows.fold(parts, b.add)

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        return windows.volume(self.kernel)

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        return dims.normal(outputs[0].numel * windows.volume(self.kernel))


@op("adaptive_avg_pool")
@dataclass(frozen=True)
class AdaptiveAvgPool(Op):
    """y[b, c, o] = mean of x[b, c, i] over floor(o S / O) <= i < ceil((o + 1) S / O), axis by axis.

    Inputs       x : T[B, C, *S]      T a float
    Outputs      y : T[B, C, *O]
    Attributes   size : O, one int per spatial axis
    Constraints  (C1) x is [B, C, *S] of floats, 1 to 3 spatial axes
                 (C2) one entry per axis, from 1
    Exactness    ROUNDING, as many terms as the largest bin has
    """

    size: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        axes = windows.check_input(self, x, "C1")
        windows.check_attributes(self, "C2", axes, size=self.size)
        windows.check_positive(self, "C2", size=self.size)
        return x.with_shape(*x.shape[:2], *self.size)

    def evaluate(self, x: Tensor) -> Tensor:
        aten = torch.ops.aten
        pools = (aten.adaptive_avg_pool1d, aten.adaptive_avg_pool2d, aten.adaptive_avg_pool3d)
        result: Tensor = pools[x.dim() - 3](x, list(self.size))
        return result

    def decompose(self, b: Builder, x: Value) -> Value | None:
        """Means along one axis after the other; None for a dynamic axis with unequal bins."""
        ones = tuple(2 + i for i, n in enumerate(self.size) if n == 1)
        if len(ones) == len(self.size):
            result: Value = b.reduce_mean(x, axes=ones, keep=True)
            return result
        for i, count in enumerate(self.size):
            axis, size = 2 + i, x.type.shape[2 + i]
            each = dims.floordiv(size, count)
            if dims.same(dims.normal(each * count), size):
                before, behind = x.type.shape[:axis], x.type.shape[axis + 1 :]
                split = b.reshape(x, shape=(*before, count, each, *behind))
                x = b.reduce_mean(split, axes=(axis + 1,))
            elif isinstance(size, int):
                x = b.concat(*_bins(b, x, axis, size, count), axis=axis)
            else:
                return None
        return x

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        (x,) = inputs
        assert x is not None
        pairs = zip(x.shape[2:], self.size, strict=True)
        return dims.product(dims.floordiv(dims.normal(n - 1), o) + 2 for n, o in pairs)

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        (x,) = inputs
        assert x is not None
        return x.numel


def _bins(b: Builder, x: Value, axis: int, size: int, count: int) -> list[Value]:
    """Means of the `count` bins along an axis of static size, each of size 1 there."""
    means = []
    for o in range(count):
        start, stop = o * size // count, -(-(o + 1) * size // count)
        part = b.slice(x, axis=axis, start=start, stop=stop)
        means.append(b.reduce_mean(part, axes=(axis,), keep=True))
    return means
