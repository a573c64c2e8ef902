"""Sliding windows over spatial axes: sizes, checks and slices that conv and pooling share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgec.ir import dims
from edgec.ir.dims import Dim, Shape
from edgec.ir.op import Op, require
from edgec.ir.types import TensorType

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value

Pads = tuple[tuple[int, int], ...]


def extent(kernel: int, dilation: int) -> int:
    """Elements from the first to the last that one window reads."""
    return dilation * (kernel - 1) + 1


def output_size(
    size: Dim, kernel: int, stride: int, pads: tuple[int, int], dilation: int, ceil: bool = False
) -> Dim:
    """Number of windows along one axis: floor((size + low + high - extent) / stride) + 1.

    `ceil` rounds up, but every window starts inside of the input or its low pad, as in torch.
    """
    low, high = pads
    reach = high - extent(kernel, dilation) + stride
    if ceil:
        return dims.floordiv(dims.normal(size + low + stride - 1 + min(0, reach)), stride)
    return dims.floordiv(dims.normal(size + low + reach), stride)


def output_sizes(
    sizes: Shape,
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Pads,
    dilation: Sequence[int],
    ceil: bool = False,
) -> Shape:
    """`output_size` of every spatial axis."""
    axes = zip(sizes, kernel, stride, pads, dilation, strict=True)
    return tuple(output_size(n, k, s, p, d, ceil) for n, k, s, p, d in axes)


def padded_pairs(pads: Pads, stride: Sequence[int], ceil: bool) -> Pads:
    """Pads with room for a last window that `ceil` adds."""
    pairs = zip(pads, stride, strict=True)
    return tuple((low, high + (s - 1 if ceil else 0)) for (low, high), s in pairs)


def torch_pads(pads: Pads) -> list[int]:
    """Pads in the order of torch.nn.functional.pad: last axis first."""
    return [p for pair in reversed(pads) for p in pair]


def op_pads(pads: Pads) -> tuple[tuple[int, int], ...]:
    """Pads for the op `pad` of [B, C, *S]."""
    return ((0, 0), (0, 0), *pads)


# ------------------------------------------------------------------ checks
def check_input(op: Op, x: TensorType, label: str, spatial: range = range(1, 4)) -> int:
    """x is [B, C, *S] with a number of spatial axes in `spatial`, which is returned."""
    axes = x.rank - 2
    need = f"[B, C, *S] of floats with {spatial[0]} .. {spatial[-1]} spatial axes"
    require(op, x.dtype.is_float and axes in spatial, label, f"x: {x}", need)
    return axes


def check_attributes(op: Op, label: str, axes: int, **given: Sequence[object]) -> None:
    """Every attribute has one entry per spatial axis."""
    for name, value in given.items():
        require(op, len(value) == axes, label, f"{name}={list(value)}", f"{axes} entries")


def check_positive(op: Op, label: str, **given: Sequence[int]) -> None:
    for name, value in given.items():
        good = all(v >= 1 for v in value)
        require(op, good, label, f"{name}={list(value)}", "numbers from 1")


def check_outputs(op: Op, label: str, x: TensorType, sizes: Shape) -> None:
    """At least one window fits along every axis, as far as that is known."""
    fits = all(not isinstance(n, int) or n >= 1 for n in sizes)
    require(op, fits, label, f"x: {x}", "room for at least one window along every axis")


# ------------------------------------------------------------------ nodes
def window_slices(
    b: Builder, x: Value, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int],
    outputs: Shape,
) -> list[Value]:  # fmt: skip
    """The elements of padded x at each place of the kernel, row-major: [B, C, *outputs] each."""
    found = []
    for place in itertools.product(*map(range, kernel)):
        part = x
        for i, (offset, step, spread) in enumerate(zip(place, stride, dilation, strict=True)):
            start = offset * spread
            stop = dims.normal((outputs[i] - 1) * step + start + 1)
            part = b.slice(part, axis=2 + i, start=start, stop=stop, step=step)
        found.append(part)
    return found


def fold(parts: Sequence[Value], combine: Callable[[Value, Value], Value]) -> Value:
    """combine(combine(p_0, p_1), p_2) ..."""
    total = parts[0]
    for part in parts[1:]:
        total = combine(total, part)
    return total


def stretch(b: Builder, x: Value, stride: Sequence[int]) -> Value:
    """[B, C, *S] with stride - 1 zeros between neighbours: [B, C, (S_i - 1) stride_i + 1]."""
    for i, step in enumerate(stride):
        if step == 1:
            continue
        axis, shape = 2 + i, x.type.shape
        before, size, behind = shape[:axis], shape[axis], shape[axis + 1 :]
        column = b.reshape(x, shape=(*before, size, 1, *behind))
        sides = ((0, 0),) * (axis + 1) + ((0, step - 1),) + ((0, 0),) * len(behind)
        wide = b.reshape(
            b.pad(column, pads=sides), shape=(*before, dims.normal(size * step), *behind)
        )
        x = b.slice(wide, axis=axis, stop=dims.normal((size - 1) * step + 1))
    return x


def surround(b: Builder, x: Value, pads: Pads, value: float = 0.0) -> Value:
    """x with spatial pads; nothing where all are 0, a slice where one is negative."""
    if any(p > 0 for pair in pads for p in pair):
        positive = tuple((max(low, 0), max(high, 0)) for low, high in pads)
        x = b.pad(x, pads=op_pads(positive), value=value)
    for i, (low, high) in enumerate(pads):
        if low < 0 or high < 0:
            stop = dims.normal(x.type.shape[2 + i] + min(high, 0))
            x = b.slice(x, axis=2 + i, start=max(-low, 0), stop=stop)
    return x


def volume(kernel: Sequence[int]) -> int:
    return math.prod(kernel)
