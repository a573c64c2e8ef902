"""Running reductions and sorting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from edgec.capture.call import Call
from edgec.capture.registry import aten
from edgec.ir.graph import Value
from edgec.ir.types import DType


@aten("cumsum")
def cumsum(c: Call, x: Value, axis: int, dtype: Any) -> Value:
    x = c.cast(x, c.dtype)
    return x if x.type.rank == 0 else c.value(c.b.cumsum(x, axis=axis % x.type.rank))


def scanned(c: Call, x: Value, axis: int, join: Callable[[Any, Any], Any], neutral: float) -> Value:
    """y_i = x_0 . x_1 ... . x_i by doubling: log2(n) rounds, each joins with what lies 2^k before.

    Source: Hillis, Steele 1986, "Data parallel algorithms".
    """
    if x.type.rank == 0:
        return x
    axis %= x.type.rank
    size = c.require_static(x.type.shape[axis], f"the axis of {c.overload}")
    shift = 1
    while shift < size:
        shape = list(x.type.shape)
        shape[axis] = shift
        before = c.full(neutral, x.type.dtype, shape)
        x = join(x, c.concat([before, c.slice(x, axis, 0, size - shift)], axis))
        shift *= 2
    return x


@aten("cumprod")
def cumprod(c: Call, x: Value, axis: int, dtype: Any) -> Value:
    one = 1.0 if c.dtype.is_float else 1
    return scanned(c, c.cast(x, c.dtype), axis, c.b.mul, one)


@aten("cummax", "cummin")
def cumulative_extreme(c: Call, x: Value, axis: int) -> tuple[Value, None]:
    """Values only: torch's indices have no use in inference that is known."""
    limits: Any = torch.finfo if x.type.dtype.is_float else torch.iinfo
    bound = limits(x.type.dtype.torch_dtype)
    if c.overload.startswith("aten.cummax"):
        least = -float("inf") if x.type.dtype.is_float else bound.min
        return scanned(c, x, axis, c.b.maximum, least), None
    most = float("inf") if x.type.dtype.is_float else bound.max
    return scanned(c, x, axis, c.b.minimum, most), None


@aten("logcumsumexp")
def logcumsumexp(c: Call, x: Value, axis: int) -> Value:
    """log of the running sum of exponentials, shifted by the maximum of the whole axis."""
    axis = c.axis(axis, x.type.rank)
    peak = c.b.reduce_max(x, axes=(axis,), keep=True)
    total = c.b.cumsum(c.b.exp(c.b.sub(x, peak)), axis=axis)
    return c.value(c.b.add(c.b.log(total), peak))


@aten("diff")
def diff(c: Call, x: Value, n: int, axis: int, prepend: Any, append: Any) -> Value:
    parts = [p for p in (prepend, x, append) if p is not None]
    axis %= x.type.rank
    x = c.concat(parts, axis)
    for _ in range(n):
        size = x.type.shape[axis]
        x = c.b.sub(c.slice(x, axis, 1, size), c.slice(x, axis, 0, size - 1))
    return x


# ------------------------------------------------------------------ order
@aten("topk")
def topk(
    c: Call, x: Value, k: Any, axis: int, largest: bool, in_order: bool
) -> tuple[Value, Value]:
    k = c.require_static(k, "k of topk")
    values, ids = c.b.topk(x, k=k, axis=axis % x.type.rank, largest=largest)
    return values, ids


@aten("sort")
def sort(c: Call, x: Value, axis: int, descending: bool) -> tuple[Value, Value]:
    axis %= x.type.rank
    size = c.require_static(x.type.shape[axis], "the sorted axis")
    values, ids = c.b.topk(_numbers(c, x), k=size, axis=axis, largest=descending)
    return c.cast(values, x.type.dtype), ids


@aten("sort.stable")
def sort_stable(
    c: Call, x: Value, stable: bool | None, axis: int, descending: bool
) -> tuple[Value, Value]:
    return sort(c, x, axis, descending)


@aten("argsort")
def argsort(c: Call, x: Value, axis: int, descending: bool) -> Value:
    return sort(c, x, axis, descending)[1]


@aten("argsort.stable")
def argsort_stable(c: Call, x: Value, stable: bool, axis: int, descending: bool) -> Value:
    return sort(c, x, axis, descending)[1]


@aten("msort")
def msort(c: Call, x: Value) -> Value:
    return sort(c, x, 0, False)[0]


@aten("kthvalue")
def kthvalue(c: Call, x: Value, k: int, axis: int, keep: bool) -> tuple[Value, Value]:
    axis %= x.type.rank
    values, ids = c.b.topk(x, k=k, axis=axis, largest=False)
    parts = [c.slice(v, axis, k - 1, k) for v in (values, ids)]
    kept = parts if keep else [c.squeeze(p, axis) for p in parts]
    return kept[0], kept[1]


@aten("median.dim")
def median(c: Call, x: Value, axis: int, keep: bool) -> tuple[Value, Value]:
    size = c.require_static(x.type.shape[axis], "the axis of median")
    return kthvalue(c, x, (size + 1) // 2, axis, keep)


@aten("median")
def median_of_all(c: Call, x: Value) -> Value:
    return median(c, c.reshape(x, [x.type.numel]), 0, False)[0]


def _numbers(c: Call, x: Value) -> Value:
    return c.cast(x, DType.I32) if x.type.dtype is DType.BOOL else x
