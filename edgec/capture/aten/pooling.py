"""Pooling over windows."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.capture.aten.convolution import each
from edgec.capture.call import Call
from edgec.capture.registry import aten
from edgec.ir.dims import Dim
from edgec.ir.graph import Value


def _batched(c: Call, x: Value, spatial: int) -> tuple[Value, bool]:
    """[B, C, *] from [C, *], and whether the batch axis was added."""
    single = x.type.rank == spatial + 1
    return (c.unsqueeze(x, 0) if single else x), single


def _pairs(padding: Sequence[int], spatial: int) -> tuple[tuple[int, int], ...]:
    return tuple((p, p) for p in each(padding, spatial))


# ------------------------------------------------------------------ maximum
@aten("max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(
    c: Call,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Value:
    spatial = int(c.overload.split("pool")[1][0])
    image, single = _batched(c, x, spatial)
    y = c.b.max_pool(
        image,
        kernel=each(kernel, spatial),
        stride=each(stride or kernel, spatial),
        padding=_pairs(padding, spatial),
        dilation=each(dilation, spatial),
        ceil_mode=ceil_mode,
    )
    return c.squeeze(y, 0) if single else c.value(y)


@aten("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices")
def max_pool_with_indices(
    c: Call,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> tuple[Value, None]:
    """The values; a model that reads the indices too is refused where it reads them."""
    return max_pool(c, x, kernel, stride, padding, dilation, ceil_mode), None


# ------------------------------------------------------------------ average
@aten("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(
    c: Call,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None = None,
) -> Value:
    spatial = int(c.overload.split("pool")[1][0])
    image, single = _batched(c, x, spatial)
    if divisor is not None and ceil_mode:
        c.fail("divisor_override together with ceil_mode")
    y = c.b.avg_pool(
        image,
        kernel=each(kernel, spatial),
        stride=each(stride or kernel, spatial),
        padding=_pairs(padding, spatial),
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad or divisor is not None,
    )
    if divisor is not None:
        size = 1
        for k in each(kernel, spatial):
            size *= k
        y = c.b.mul(y, c.number(size / divisor, c.dtype))
    return c.squeeze(y, 0) if single else c.value(y)


# ------------------------------------------------------------------ to a given size
@aten("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
@aten("_adaptive_avg_pool2d", "_adaptive_avg_pool3d")
def adaptive_avg_pool(c: Call, x: Value, size: Sequence[Dim]) -> Value:
    image, single = _batched(c, x, len(size))
    target = c.shape[-len(size) :]
    axes = tuple(range(-len(size), 0))
    if all(d == 1 for d in target):
        y = c.b.reduce_mean(image, axes=axes, keep=True)
        return c.squeeze(y, 0) if single else c.value(y)
    sizes = tuple(c.require_static(d, "the size of adaptive_avg_pool") for d in target)
    y = c.b.adaptive_avg_pool(image, size=sizes)
    return c.squeeze(y, 0) if single else c.value(y)


@aten("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(c: Call, x: Value, size: Sequence[Dim]) -> tuple[Value, None]:
    """Window i of n over S elements is [floor(i S / n), ceil((i + 1) S / n))."""
    for i in range(len(size)):
        axis = x.type.rank - len(size) + i
        x = _pool_axis(c, x, axis, c.shape[axis])
    return x, None


def _pool_axis(c: Call, x: Value, axis: int, target: Dim) -> Value:
    if target == 1:
        return c.value(c.b.reduce_max(x, axes=(axis,), keep=True))
    size = c.require_static(x.type.shape[axis], "the input of adaptive_max_pool")
    n = c.require_static(target, "the size of adaptive_max_pool")
    windows = [(i * size // n, -((i + 1) * size // -n)) for i in range(n)]
    parts = [
        c.b.reduce_max(c.slice(x, axis, start, stop), axes=(axis,), keep=True)
        for start, stop in windows
    ]
    return c.concat(parts, axis)
