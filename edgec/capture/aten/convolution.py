"""Convolutions, plain and transposed, and their matrix forms."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.capture.call import Call
from edgec.capture.registry import aten
from edgec.ir.graph import Value

Pairs = tuple[tuple[int, int], ...]


def each(numbers: Sequence[int] | int, rank: int) -> tuple[int, ...]:
    """One number for each spatial axis: torch repeats a single one."""
    listed = [numbers] if isinstance(numbers, int) else list(numbers)
    return tuple(listed * rank if len(listed) == 1 else listed)


def _convolve(
    c: Call,
    x: Value,
    w: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    groups: int,
) -> Value:
    spatial = w.type.rank - 2
    single = x.type.rank == spatial + 1  # an image without a batch axis
    y = c.b.conv(
        c.unsqueeze(x, 0) if single else x,
        w,
        bias,
        stride=each(stride, spatial),
        padding=padding,
        dilation=each(dilation, spatial),
        groups=groups,
    )
    return c.squeeze(y, 0) if single else c.value(y)


@aten("conv1d", "conv2d", "conv3d")
def conv(
    c: Call,
    x: Value,
    w: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Value:
    pads = tuple((p, p) for p in each(padding, w.type.rank - 2))
    return _convolve(c, x, w, bias, stride, pads, dilation, groups)


@aten("conv1d.padding", "conv2d.padding", "conv3d.padding")
def conv_named_padding(
    c: Call,
    x: Value,
    w: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: str,
    dilation: Sequence[int],
    groups: int,
) -> Value:
    """ "same" with stride 1: dilation (k - 1) elements, the odd one behind."""
    spatial = w.type.rank - 2
    totals = [0] * spatial
    if padding == "same":
        kernel = [c.require_static(k, "the kernel") for k in w.type.shape[2:]]
        totals = [d * (k - 1) for d, k in zip(each(dilation, spatial), kernel, strict=True)]
    pads = tuple((total // 2, total - total // 2) for total in totals)
    return _convolve(c, x, w, bias, stride, pads, dilation, groups)


@aten("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def conv_transpose(
    c: Call,
    x: Value,
    w: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> Value:
    spatial = w.type.rank - 2
    single = x.type.rank == spatial + 1
    y = c.b.conv_transpose(
        c.unsqueeze(x, 0) if single else x,
        w,
        bias,
        stride=each(stride, spatial),
        padding=each(padding, spatial),
        output_padding=each(output_padding, spatial),
        dilation=each(dilation, spatial),
        groups=groups,
    )
    return c.squeeze(y, 0) if single else c.value(y)


@aten("convolution", "_convolution", "convolution_overrideable")
def convolution(
    c: Call,
    x: Value,
    w: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *_: object,
) -> Value:
    if transposed:
        return conv_transpose(c, x, w, bias, stride, padding, output_padding, groups, dilation)
    return conv(c, x, w, bias, stride, padding, dilation, groups)


@aten("conv_tbc")
def conv_tbc(c: Call, x: Value, w: Value, bias: Value, pad: int) -> Value:
    """[T, B, C] with weight [K, C, N]."""
    y = c.b.conv(
        c.permute(x, [1, 2, 0]),
        c.permute(w, [2, 1, 0]),
        bias,
        stride=(1,),
        padding=((pad, pad),),
        dilation=(1,),
        groups=1,
    )
    return c.permute(y, [2, 0, 1])


@aten("im2col")
def im2col(
    c: Call,
    x: Value,
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Value:
    single = x.type.rank == 3
    y = c.b.im2col(
        c.unsqueeze(x, 0) if single else x,
        kernel=each(kernel, 2),
        stride=each(stride, 2),
        padding=each(padding, 2),
        dilation=each(dilation, 2),
    )
    return c.squeeze(y, 0) if single else c.value(y)


@aten("col2im")
def col2im(
    c: Call,
    x: Value,
    size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Value:
    single = x.type.rank == 2
    y = c.b.col2im(
        c.unsqueeze(x, 0) if single else x,
        size=tuple(size),
        kernel=each(kernel, 2),
        stride=each(stride, 2),
        padding=each(padding, 2),
        dilation=each(dilation, 2),
    )
    return c.squeeze(y, 0) if single else c.value(y)
