"""Convolutions, and the windows of an image as columns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch.nn.functional as F
from torch import Tensor

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.op import Exactness, Op, op, require
from edgec.ir.types import TensorType
from edgec.ops import windows
from edgec.ops.activation_quantization import (
    Activations,
    check_quantizer,
    emit_quantized,
    quantized,
)
from edgec.ops.movement import same_shapes

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


def _check_weights(
    op: Op, axes: int, x: TensorType, w: TensorType, bias: TensorType | None
) -> tuple[int, ...]:
    """C2 and C3 of the convolutions; the kernel's sizes."""
    given = [x, w] if bias is None else [x, w, bias]
    got = ", ".join(map(str, given))
    require(op, all(t.dtype is x.dtype for t in given), "C2", got, "operands of one float dtype")
    static = w.rank == axes + 2 and all(isinstance(d, int) for d in w.shape)
    require(op, static, "C3", f"w: {w}", f"static, with {axes} spatial axes as x: {x}")
    return tuple(int(d) for d in w.shape[2:])


def _with_bias(b: Builder, y: Value, bias: Value | None) -> Value:
    if bias is None:
        return y
    shaped = b.reshape(bias, shape=(bias.type.shape[0], *[1] * (y.type.rank - 2)))
    result: Value = b.add(y, shaped)
    return result


@op("conv")
@dataclass(frozen=True)
class Conv(Op):
    """y[b, n, o] = bias[n] + sum_{c, i} q(x)[b, g C/G + c, o stride + i dilation - low] w[n, c, i].

    o and i are positions in 1 to 3 spatial axes, x is 0 outside, n is in group g of G = groups.

    Inputs       x : T[B, C, *S], w : T[N, C/G, *K], bias? : T[N]      T a float
    Outputs      y : T[B, N, *O],  O = floor((S + low + high - dilation (K - 1) - 1) / stride) + 1
    Attributes   stride, dilation : one int per spatial axis; padding : one pair (low, high) each
                 groups : int
                 activations, x_scale, x_zero : q, as in `linear`; a row is one x[b]
    Constraints  (C1) x is [B, C, *S] of floats, 1 to 3 spatial axes    (C2) one dtype
                 (C3) w is static, of as many axes    (C4) one entry per axis, stride and
                 dilation from 1, padding from 0    (C5) C = G w.shape[1], N a multiple of G
                 (C6) bias is [N]    (C7) O >= 1    (C8) x_scale and x_zero as in `linear`
    Exactness    ROUNDING, C/G numel(K) terms
    """

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    activations: Activations = "none"
    x_scale: float = 0.0
    x_zero: int = 0

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        check_quantizer(self, "C8")
        axes = windows.check_input(self, x, "C1")
        kernel = _check_weights(self, axes, x, w, bias)
        given = {"stride": self.stride, "dilation": self.dilation}
        windows.check_attributes(self, "C4", axes, padding=self.padding, **given)
        windows.check_positive(self, "C4", **given)
        proper = all(p >= 0 for pair in self.padding for p in pair)
        require(self, proper, "C4", f"padding={self.padding}", "numbers from 0")
        count, inner = int(w.shape[0]), int(w.shape[1])
        channels = self.groups >= 1 and dims.same(x.shape[1], inner * self.groups)
        got = f"x {x}, w {w}, groups={self.groups}"
        require(self, channels and count % self.groups == 0, "C5", got, "w [N, C / groups, *K]")
        fits = bias is None or same_shapes(bias.shape, (count,))
        require(self, fits, "C6", f"bias: {bias}", f"[{count}]")
        sizes = windows.output_sizes(x.shape[2:], kernel, self.stride, self.padding, self.dilation)
        windows.check_outputs(self, "C7", x, sizes)
        return x.with_shape(x.shape[0], count, *sizes)

    def evaluate(self, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        x = quantized(x, self, tuple(range(1, x.dim())))
        if all(low == high for low, high in self.padding):
            pads = [low for low, _ in self.padding]
        else:
            x, pads = F.pad(x, windows.torch_pads(self.padding)), [0] * len(self.padding)
        function = (F.conv1d, F.conv2d, F.conv3d)[len(pads) - 1]
        return function(x, w, bias, self.stride, pads, self.dilation, self.groups)

    def decompose(self, b: Builder, x: Value, w: Value, bias: Value | None = None) -> Value:
        """Quantized activations as nodes in front; else a product of windows for each group."""
        if self.activations != "none":
            x = emit_quantized(b, x, self, tuple(range(1, x.type.rank)))
            plain = Conv(self.stride, self.padding, self.dilation, self.groups)
            result: Value = b.emit(plain, x, w, bias)
            return result
        batch, g = x.type.shape[0], self.groups
        y_type = self.infer(x.type, w.type)
        count, inner, *kernel = (int(d) for d in w.type.shape)
        padded = windows.surround(b, x, self.padding)
        parts = windows.window_slices(
            b, padded, kernel, self.stride, self.dilation, y_type.shape[2:]
        )
        area = dims.product(y_type.shape[2:])
        columns = b.concat(*(b.reshape(p, shape=(batch, g, 1, inner, area)) for p in parts), axis=2)
        terms = windows.volume(kernel) * inner
        order = (0, *range(2, w.type.rank), 1)
        rows = b.reshape(b.permute(w, order=order), shape=(g, count // g, terms))
        y = b.matmul(rows, b.reshape(columns, shape=(batch, g, terms, area)))
        return _with_bias(b, b.reshape(y, shape=y_type.shape), bias)

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        w = inputs[1]
        assert w is not None
        return dims.product(w.shape[1:])

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        products = 2 * outputs[0].numel * self.reduction(inputs)
        has_bias = len(inputs) > 2 and inputs[2] is not None
        return dims.normal(products + (outputs[0].numel if has_bias else 0))


@op("conv_transpose")
@dataclass(frozen=True)
class ConvTranspose(Op):
    """The transpose of `conv` as a linear map: each element of x adds its kernel to y.

    y[b, n, o] = bias[n] + sum of x[b, g C/G + c, s] w[g C/G + c, n', i]
                 over c, s, i with o = s stride + i dilation - padding;   n = g N/G + n'

    Inputs       x : T[B, C, *S], w : T[C, N/G, *K], bias? : T[N]      T a float
    Outputs      y : T[B, N, *O],
                 O = (S - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1
    Attributes   stride, padding, output_padding, dilation : one int per spatial axis; groups : int
    Constraints  (C1) x is [B, C, *S] of floats, 1 to 3 spatial axes    (C2) one dtype
                 (C3) w is static, of as many axes    (C4) one entry per axis, stride and
                 dilation from 1, paddings from 0    (C5) w.shape[0] = C, a multiple of G
                 (C6) bias is [N]    (C7) O >= 1    (C8) output_padding < max(stride, dilation)
    Exactness    ROUNDING, C/G numel(K) terms
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        axes = windows.check_input(self, x, "C1")
        kernel = _check_weights(self, axes, x, w, bias)
        self._check_attributes(axes)
        rows = int(w.shape[0])
        channels = dims.same(x.shape[1], rows) and self.groups >= 1 and rows % self.groups == 0
        got = f"x {x}, w {w}, groups={self.groups}"
        require(self, channels, "C5", got, "w [C, N / groups, *K]")
        count = int(w.shape[1]) * self.groups
        fits = bias is None or same_shapes(bias.shape, (count,))
        require(self, fits, "C6", f"bias: {bias}", f"[{count}]")
        sizes = tuple(
            dims.normal((n - 1) * s - 2 * p + d * (k - 1) + extra + 1)
            for n, k, s, p, extra, d in zip(
                x.shape[2:], kernel, self.stride, self.padding, self.output_padding, self.dilation,
                strict=True,
            )
        )  # fmt: skip
        windows.check_outputs(self, "C7", x, sizes)
        return x.with_shape(x.shape[0], count, *sizes)

    def _check_attributes(self, axes: int) -> None:
        """C4 and C8."""
        steps = {"stride": self.stride, "dilation": self.dilation}
        pads = {"padding": self.padding, "output_padding": self.output_padding}
        windows.check_attributes(self, "C4", axes, **steps, **pads)
        windows.check_positive(self, "C4", **steps)
        for name, value in pads.items():
            proper = all(p >= 0 for p in value)
            require(self, proper, "C4", f"{name}={list(value)}", "numbers from 0")
        triples = zip(self.output_padding, self.stride, self.dilation, strict=True)
        small = all(extra < max(s, d) for extra, s, d in triples)
        got = f"output_padding={list(self.output_padding)}"
        require(self, small, "C8", got, "less than stride or dilation")

    def evaluate(self, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        axes = x.dim() - 2
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
        return function(
            x, w, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )

    def decompose(self, b: Builder, x: Value, w: Value, bias: Value | None = None) -> Value:
        """A conv of stride 1 over x with zeros between its elements; kernels flipped."""
        rows, columns, *kernel = (int(d) for d in w.type.shape)
        group = (self.groups, rows // self.groups, columns, *kernel)
        swapped = b.permute(b.reshape(w, shape=group), order=(0, 2, 1, *range(3, len(group))))
        shape = (columns * self.groups, rows // self.groups, *kernel)
        axes = len(kernel)
        flipped = b.flip(b.reshape(swapped, shape=shape), axes=tuple(range(-axes, 0)))
        pads = []
        for k, p, extra, d in zip(
            kernel, self.padding, self.output_padding, self.dilation, strict=True
        ):
            low = windows.extent(k, d) - 1 - p
            pads.append((low, low + extra))
        padded = windows.surround(b, windows.stretch(b, x, self.stride), tuple(pads))
        plain = Conv((1,) * axes, ((0, 0),) * axes, self.dilation, self.groups)
        result: Value = b.emit(plain, padded, flipped, bias)
        return result

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        w = inputs[1]
        assert w is not None
        return dims.floordiv(dims.product((w.shape[0], *w.shape[2:])), self.groups)

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        x, w = inputs[0], inputs[1]
        assert x is not None and w is not None
        has_bias = len(inputs) > 2 and inputs[2] is not None
        bias = outputs[0].numel if has_bias else 0
        return dims.normal(2 * x.numel * dims.product(w.shape[1:]) + bias)


# ------------------------------------------------------------------ windows as columns
@op("im2col")
@dataclass(frozen=True)
class Im2col(Op):
    """The windows of an image as columns (torch's unfold).

    y[b, (c k1 + i) k2 + j, l] = x at channel c, place (i, j) of the kernel [k1, k2], window l;
    0 outside of x

    Inputs       x : T[B, C, H, W]    T a float
    Outputs      y : T[B, C k1 k2, L],  L the number of windows, row-major
    Attributes   kernel, stride, padding (on both sides), dilation : two ints each
    Constraints  (C1) x is [B, C, H, W] of floats    (C2) two entries each, kernel, stride and
                 dilation from 1, padding from 0    (C3) at least one window
    Exactness    EXACT
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    exactness: ClassVar[Exactness] = Exactness.EXACT

    def infer(self, x: TensorType) -> TensorType:
        windows.check_input(self, x, "C1", range(2, 3))
        sizes = _column_sizes(self, self, x.shape[2:])
        windows.check_outputs(self, "C3", x, sizes)
        terms = dims.normal(x.shape[1] * windows.volume(self.kernel))
        return x.with_shape(x.shape[0], terms, dims.product(sizes))

    def evaluate(self, x: Tensor) -> Tensor:
        return F.unfold(x, self.kernel, self.dilation, self.padding, self.stride)

    def decompose(self, b: Builder, x: Value) -> Value:
        batch, channels, *sides = x.type.shape
        pads = tuple((p, p) for p in self.padding)
        sizes = windows.output_sizes(tuple(sides), self.kernel, self.stride, pads, self.dilation)
        padded = windows.surround(b, x, pads)
        parts = windows.window_slices(b, padded, self.kernel, self.stride, self.dilation, sizes)
        area = dims.product(sizes)
        listed = [b.reshape(p, shape=(batch, channels, 1, area)) for p in parts]
        y = b.concat(*listed, axis=2)
        shape = (batch, dims.normal(channels * windows.volume(self.kernel)), area)
        result: Value = b.reshape(y, shape=shape)
        return result


@op("col2im")
@dataclass(frozen=True)
class Col2im(Op):
    """The image whose windows are the columns, added up where they overlap (torch's fold).

    Inputs       x : T[B, C k1 k2, L]     T a float, L the number of windows in an image [*size]
    Outputs      y : T[B, C, *size]
    Attributes   size : two Dims; kernel, stride, padding, dilation : two ints each
    Constraints  (C1) x is [B, C k1 k2, L] of floats, C a number    (C2) two entries each, kernel,
                 stride and dilation from 1, padding from 0    (C3) L fits size
    Exactness    ROUNDING, k1 k2 terms
    """

    size: tuple[Dim, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        windows.check_attributes(self, "C2", 2, size=self.size)
        sizes = _column_sizes(self, self, self.size)
        count = windows.volume(self.kernel)
        proper = x.dtype.is_float and x.rank == 3 and isinstance(x.shape[1], int)
        got, need = f"x: {x}", f"[B, C*{count}, L] of floats"
        require(self, proper and x.shape[1] % count == 0, "C1", got, need)
        fits = dims.same(x.shape[2], dims.product(sizes))
        require(self, fits, "C3", got, f"{dims.show(dims.product(sizes))} windows")
        return x.with_shape(x.shape[0], dims.floordiv(x.shape[1], count), *self.size)

    def evaluate(self, x: Tensor) -> Tensor:
        size = tuple(d for d in self.size if isinstance(d, int))
        return F.fold(x, size, self.kernel, self.dilation, self.padding, self.stride)

    def decompose(self, b: Builder, x: Value) -> Value:
        batch, rows, _ = x.type.shape
        count = windows.volume(self.kernel)
        channels = dims.floordiv(rows, count)
        sizes = _column_sizes(self, self, self.size)
        parts = b.reshape(x, shape=(batch, channels, count, *sizes))
        placed = []
        for n, place in enumerate(itertools.product(*map(range, self.kernel))):
            part = b.slice(parts, axis=2, start=n, stop=n + 1)
            part = b.reshape(part, shape=(batch, channels, *sizes))
            part = windows.stretch(b, part, self.stride)
            pads = []
            for i, offset in enumerate(place):
                low = offset * self.dilation[i]
                whole = self.size[i] + 2 * self.padding[i]
                pads.append((low, dims.normal(whole - low - part.type.shape[2 + i])))
            placed.append(b.pad(part, pads=((0, 0), (0, 0), *pads)))
        y = windows.fold(placed, b.add)
        for i, p in enumerate(self.padding):
            if p:
                y = b.slice(y, axis=2 + i, start=p, stop=dims.normal(self.size[i] + p))
        return y

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        return windows.volume(self.kernel)


def _column_sizes(op: Op, spec: Im2col | Col2im, sides: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """C2, and the number of windows along both axes."""
    steps = {"kernel": spec.kernel, "stride": spec.stride, "dilation": spec.dilation}
    windows.check_attributes(op, "C2", 2, padding=spec.padding, **steps)
    windows.check_positive(op, "C2", **steps)
    proper = all(p >= 0 for p in spec.padding)
    require(op, proper, "C2", f"padding={list(spec.padding)}", "numbers from 0")
    pads = tuple((p, p) for p in spec.padding)
    return windows.output_sizes(sides, spec.kernel, spec.stride, pads, spec.dilation)
