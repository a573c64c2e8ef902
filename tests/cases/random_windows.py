"""Steps of random graphs over waves and images: convolutions, pools, unfolding, sampling."""

from __future__ import annotations

from edgec.ir import TensorType, Value
from tests.cases.random_operands import F32, L, channels, least, spatial, tamed
from tests.passes.random_programs import B, Writer


def convolution(w: Writer) -> Value:
    """Of waves and images: dense, grouped, depthwise, with strides."""
    axes = w.pick(1, 2)
    x = spatial(w, axes)
    c = channels(x)
    groups = w.pick(*(g for g in (1, 2, c) if c % g == 0))
    n, size = groups * w.pick(1, 2, 4), w.pick(1, 3)
    y = w.b.conv(
        x,
        w.constant(n, c // groups, *(size,) * axes),
        w.pick(None, w.constant(n)),
        stride=(w.pick(1, 1, 2),) * axes,
        padding=((size // 2, w.pick(0, size // 2)),) * axes,
        dilation=(1,) * axes,
        groups=groups,
    )
    return tamed(w, y)


def transposed(w: Writer) -> Value:
    axes = w.pick(1, 2)
    x = spatial(w, axes)
    weight, bias = w.constant(channels(x), 3, *(2,) * axes), w.pick(None, w.constant(3))
    zeros, ones = (0,) * axes, (1,) * axes
    form = {"stride": (w.pick(1, 2),) * axes, "padding": zeros, "output_padding": zeros}
    return tamed(w, w.b.conv_transpose(x, weight, bias, **form, dilation=ones))


def pooled(w: Writer) -> Value:
    axes = w.pick(1, 2)
    x = spatial(w, axes)
    twos, stride, pads = (2,) * axes, (w.pick(1, 2),) * axes, ((0, 1),) * axes
    return w.pick(
        lambda: w.b.max_pool(x, kernel=twos, stride=stride, padding=pads, dilation=(1,) * axes),
        lambda: w.b.avg_pool(x, kernel=twos, stride=stride, padding=pads),
        lambda: w.b.adaptive_avg_pool(x, size=(w.pick(1, 3),) * axes),
    )()


def unfolded(w: Writer) -> Value:
    """Windows of an image as columns, and often back into an image."""
    x = spatial(w, 2)
    form = {"kernel": (2, 3), "stride": (1, 2), "padding": (1, 1), "dilation": (1, 1)}
    y = w.b.im2col(x, **form)
    return w.b.col2im(y, size=x.type.shape[2:], **form) if w.coin() else y


def resized(w: Writer) -> Value:
    x = spatial(w, 2)
    size = tuple(w.pick(2, 3) * d for d in x.type.shape[2:])
    return w.b.resize(x, size=size, mode=w.pick("nearest", "linear", "cubic"))


def sampled(w: Writer) -> Value:
    x = w.value(
        fits=lambda v: (
            v.type.rank == 4 and v.type.shape[0] == B and min(least(v)) > 0 and least(v)[1] <= 16
        )
    )
    grid = w.b.tanh(w.value(fits=lambda v: v.type.same(TensorType(F32, (B, L, 8)))))
    padding = w.pick("zeros", "border", "reflection")
    return w.b.grid_sample(x, w.b.reshape(grid, shape=(B, L, 4, 2)), padding=padding)


def parametric(w: Writer) -> Value:
    x = spatial(w, w.pick(1, 2))
    return w.b.prelu(x, w.constant(channels(x), *(1,) * (x.type.rank - 2)))


def channel_normed(w: Writer) -> Value:
    x = spatial(w, w.pick(1, 2))
    n = channels(x)
    groups = w.pick(*(g for g in (1, 2, n) if n % g == 0))
    return w.b.group_norm(x, w.constant(n), w.pick(None, w.constant(n)), groups=groups, eps=0.01)


STEPS = (
    *(convolution, convolution, transposed, channel_normed, parametric),
    *(pooled, unfolded, resized, sampled),
)
