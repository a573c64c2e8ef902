"""Reductions along axes."""

from __future__ import annotations

import math
from typing import Any

import torch

from edgec.capture.call import Call, Scalar
from edgec.capture.registry import aten
from edgec.ir import dims
from edgec.ir.graph import Value
from edgec.ir.types import DType


def reduced(c: Call, op: str, x: Value, axes: Any, keep: bool) -> Value:
    """`op` along axes; a rank-0 value reduces to itself."""
    if x.type.rank == 0:
        return x
    return c.value(getattr(c.b, op)(x, axes=c.axes(axes, x.type.rank), keep=keep))


# ------------------------------------------------------------------ sums and means
@aten("sum", "sum.dim_IntList")
def sum_(c: Call, x: Value, axes: Any = None, keep: Any = False, dtype: Any = None) -> Value:
    keep = keep is True
    return reduced(c, "reduce_sum", c.cast(x, c.dtype), _given(axes), keep)


def _given(axes: Any) -> Any:
    """The axes: in overloads without any, the next argument is a dtype."""
    return axes if isinstance(axes, int | list | tuple) else None


@aten("mean", "mean.dim")
def mean(c: Call, x: Value, axes: Any = None, keep: Any = False, dtype: Any = None) -> Value:
    return reduced(c, "reduce_mean", c.cast(x, c.dtype), _given(axes), keep is True)


@aten("nansum")
def nansum(c: Call, x: Value, axes: Any, keep: bool, dtype: Any) -> Value:
    x = c.cast(x, c.dtype)
    numbers = c.b.where(c.b.ne(x, x), c.number(0, c.dtype), x)
    return reduced(c, "reduce_sum", numbers, axes, keep)


@aten("prod")
def prod(c: Call, x: Value, dtype: Any) -> Value:
    return prod_dim(c, c.reshape(x, [x.type.numel]), 0, False, dtype)


@aten("prod.dim_int")
def prod_dim(c: Call, x: Value, axis: int, keep: bool, dtype: Any) -> Value:
    """A tree of products over halves of the axis."""
    x = c.cast(x, c.dtype)
    if x.type.rank == 0:
        return x
    axis %= x.type.rank
    size = c.require_static(x.type.shape[axis], "the axis of prod")
    if size == 0:
        return c.full(1, c.dtype, c.shape)
    while size > 1:
        half = size // 2
        pairs = c.b.mul(c.slice(x, axis, 0, half), c.slice(x, axis, half, 2 * half))
        rest = [c.slice(x, axis, 2 * half, size)] if size % 2 else []
        x = c.concat([pairs, *rest], axis)
        size = half + len(rest)
    return x if keep else c.squeeze(x, axis)


# ------------------------------------------------------------------ variance
def _deviation(c: Call, x: Value, axes: Any, correction: Scalar | None, keep: bool) -> Value:
    """sum (x - mean)^2 / max(n - correction, 0)."""
    which = c.axes(axes, x.type.rank)
    middle = c.b.reduce_mean(x, axes=which, keep=True)
    difference = c.b.sub(x, middle)
    correction = 1 if correction is None else correction
    squares = c.b.mul(difference, difference)
    if correction == 0:
        return c.value(c.b.reduce_mean(squares, axes=which, keep=keep))
    total = c.b.reduce_sum(squares, axes=which, keep=keep)
    count = dims.product(x.type.shape[a] for a in which)
    n = c.b.sub(c.number(count, x.type.dtype), c.operand(correction, x.type.dtype))
    return c.value(c.b.div(total, c.b.relu(n)))


@aten("var.correction")
def var(c: Call, x: Value, axes: Any, correction: Scalar | None, keep: bool) -> Value:
    return _deviation(c, x, axes, correction, keep)


@aten("var.dim", "var")
def var_dim(c: Call, x: Value, axes: Any, unbiased: bool = True, keep: bool = False) -> Value:
    if isinstance(axes, bool):  # var(x, unbiased)
        return _deviation(c, x, None, int(axes), False)
    return _deviation(c, x, axes, int(unbiased), keep)


@aten("std.correction")
def std(c: Call, x: Value, axes: Any, correction: Scalar | None, keep: bool) -> Value:
    return c.value(c.b.sqrt(_deviation(c, x, axes, correction, keep)))


@aten("std.dim", "std")
def std_dim(c: Call, x: Value, axes: Any, unbiased: bool = True, keep: bool = False) -> Value:
    return c.value(c.b.sqrt(var_dim(c, x, axes, unbiased, keep)))


@aten("var_mean.correction", "std_mean.correction")
def var_mean(
    c: Call, x: Value, axes: Any, correction: Scalar | None, keep: bool
) -> tuple[Value, Value]:
    spread = _deviation(c, x, axes, correction, keep)
    if c.overload.startswith("aten.std"):
        spread = c.b.sqrt(spread)
    return spread, reduced(c, "reduce_mean", x, axes, keep)


@aten("var_mean.dim", "var_mean", "std_mean.dim", "std_mean")
def var_mean_dim(
    c: Call, x: Value, axes: Any, unbiased: bool = True, keep: bool = False
) -> tuple[Value, Value]:
    if isinstance(axes, bool):
        axes, unbiased = None, axes
    return var_mean(c, x, axes, int(unbiased), keep)


# ------------------------------------------------------------------ extremes
@aten("amax", "amin", "max", "min")
def extreme(c: Call, x: Value, axes: Any = None, keep: bool = False) -> Value:
    name = "reduce_max" if "max" in c.overload else "reduce_min"
    return reduced(c, name, x, axes, keep)


@aten("max.dim", "min.dim")
def extreme_dim(c: Call, x: Value, axis: int, keep: bool) -> tuple[Value, Value]:
    largest = c.overload == "aten.max.dim"
    values = reduced(c, "reduce_max" if largest else "reduce_min", x, axis, keep)
    return values, arg_extreme(c, x, axis, keep, "argmax" if largest else "argmin")


@aten("aminmax")
def aminmax(c: Call, x: Value, axis: int | None, keep: bool) -> tuple[Value, Value]:
    return reduced(c, "reduce_min", x, axis, keep), reduced(c, "reduce_max", x, axis, keep)


@aten("argmax", "argmin")
def arg(c: Call, x: Value, axis: int | None, keep: bool) -> Value:
    return arg_extreme(c, x, axis, keep, c.overload.split(".")[1])


def arg_extreme(c: Call, x: Value, axis: int | None, keep: bool, op: str) -> Value:
    if x.type.rank == 0:
        return c.full(0, DType.I64, ())
    if x.type.dtype is DType.BOOL:
        x = c.cast(x, DType.I32)
    if axis is None:
        flat = getattr(c.b, op)(c.reshape(x, [x.type.numel]), axis=0)
        return c.reshape(flat, c.shape)
    return c.value(getattr(c.b, op)(x, axis=axis % x.type.rank, keep=keep))


@aten("any", "any.dim", "any.dims")
def any_(c: Call, x: Value, axes: Any = None, keep: bool = False) -> Value:
    return reduced(c, "reduce_max", c.cast(x, DType.BOOL), axes, keep)


@aten("all", "all.dim", "all.dims")
def all_(c: Call, x: Value, axes: Any = None, keep: bool = False) -> Value:
    return reduced(c, "reduce_min", c.cast(x, DType.BOOL), axes, keep)


@aten("count_nonzero", "count_nonzero.dim_IntList")
def count_nonzero(c: Call, x: Value, axes: Any = None) -> Value:
    counted = c.cast(c.cast(x, DType.BOOL), DType.I64)
    return reduced(c, "reduce_sum", counted, axes, False)


@aten("logsumexp", "special_logsumexp")
def logsumexp(c: Call, x: Value, axes: Any, keep: bool) -> Value:
    """m + log sum exp(x - m), m the maximum, 0 where that is infinite."""
    x = c.cast(x, c.dtype)
    if x.type.rank == 0:
        return x
    which = c.axes(axes, x.type.rank)
    peak = c.b.reduce_max(x, axes=which, keep=True)
    finite = c.b.lt(c.b.abs(peak), c.number(math.inf, c.dtype))
    peak = c.b.where(finite, peak, c.number(0.0, c.dtype))
    total = c.b.reduce_sum(c.b.exp(c.b.sub(x, peak)), axes=which, keep=keep)
    return c.value(c.b.add(c.b.log(total), c.reshape(peak, total.type.shape)))


# ------------------------------------------------------------------ norms
def vector_norm(c: Call, x: Value, order: float, axes: Any, keep: bool) -> Value:
    """(sum |x|^order)^(1 / order) and its limits."""
    if order == 2:
        return c.value(c.b.sqrt(reduced(c, "reduce_sum", c.b.mul(x, x), axes, keep)))
    size = c.b.abs(x)
    if math.isinf(order):
        return reduced(c, "reduce_max" if order > 0 else "reduce_min", size, axes, keep)
    if order == 1:
        return reduced(c, "reduce_sum", size, axes, keep)
    if order == 0:
        counted = c.cast(c.b.ne(x, c.number(0, x.type.dtype)), x.type.dtype)
        return reduced(c, "reduce_sum", counted, axes, keep)
    dtype = x.type.dtype
    total = reduced(c, "reduce_sum", c.b.pow(size, c.number(order, dtype)), axes, keep)
    return c.value(c.b.pow(total, c.number(1 / order, dtype)))


@aten("linalg_vector_norm")
def linalg_vector_norm(
    c: Call, x: Value, order: float, axes: Any, keep: bool, dtype: torch.dtype | None
) -> Value:
    return vector_norm(c, c.cast(x, c.dtype), order, axes, keep)


@aten("norm.ScalarOpt_dim", "norm.ScalarOpt_dim_dtype")
def norm_dim(c: Call, x: Value, order: Any, axes: Any, keep: bool, *_: Any) -> Value:
    return vector_norm(c, c.cast(x, c.dtype), 2 if order is None else order, axes, keep)


@aten("norm.Scalar", "norm.ScalarOpt_dtype")
def norm(c: Call, x: Value, order: Any, *_: Any) -> Value:
    return vector_norm(c, c.cast(x, c.dtype), 2 if order is None else order, None, False)


@aten("frobenius_norm.dim", "linalg_matrix_norm.str_ord")
def frobenius(c: Call, x: Value, *rest: Any) -> Value:
    if rest and isinstance(rest[0], str):
        kind, axes, keep = rest[0], rest[1], rest[2]
        if kind != "fro":
            c.fail(f"the matrix norm {kind}")
    else:
        axes, keep = rest[0], rest[1]
    return vector_norm(c, x, 2, axes, keep)
