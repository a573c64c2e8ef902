"""Tensors made from sizes and numbers."""

from __future__ import annotations

from typing import Any

import torch

from edgec.capture.aten.movement import filled
from edgec.capture.call import Call, Number
from edgec.capture.registry import aten
from edgec.ir.dims import Dim
from edgec.ir.graph import Value
from edgec.ir.types import DType


# ------------------------------------------------------------------ one value everywhere
@aten("zeros", "zeros_like", "new_zeros", "empty.memory_format", "empty_like", "new_empty")
@aten("empty_strided", "new_empty_strided", "empty_permuted")
def zeros(c: Call, *_: Any) -> Value:
    """Memory that torch leaves undefined counts as zeros: a correct model overwrites it."""
    return filled(c, 0)


@aten("ones", "ones_like", "new_ones")
def ones(c: Call, *_: Any) -> Value:
    return filled(c, 1)


@aten("full", "full_like", "new_full")
def full(c: Call, like: Any, value_or_size: Any, *rest: Any) -> Value:
    """full(size, value), full_like(x, value), new_full(x, size, value)."""
    value = rest[0] if isinstance(value_or_size, list) else value_or_size
    return filled(c, value)


@aten("scalar_tensor")
def scalar_tensor(c: Call, value: Number, *_: Any) -> Value:
    return c.number(value, c.dtype)


# ------------------------------------------------------------------ ranges
@aten("arange")
def arange(c: Call, end: Number, *_: Any) -> Value:
    return _range(c, 0, 1)


@aten("arange.start")
def arange_start(c: Call, start: Number, end: Number, *_: Any) -> Value:
    return _range(c, start, 1)


@aten("arange.start_step")
def arange_step(c: Call, start: Number, end: Number, step: Number, *_: Any) -> Value:
    return _range(c, start, step)


def _range(c: Call, start: Any, step: Any) -> Value:
    """start + i step; torch has counted the elements."""
    (size,) = c.shape
    numbers = all(isinstance(v, int | float) for v in (size, start, step))
    if numbers and not all(isinstance(v, int) for v in (start, step)):
        values = torch.arange(size, dtype=torch.float64) * step + start
        return c.const(values.to(c.dtype.torch_dtype), "arange")
    if isinstance(step, int) and isinstance(start, Dim) and not isinstance(start, bool):
        dtype = c.dtype if not c.dtype.is_float else DType.I64
        ramp = c.b.iota(size=size, dtype=dtype, start=start, step=step)
        return c.cast(ramp, c.dtype)
    ramp = c.cast(c.iota(size), c.dtype)
    return c.value(c.b.add(c.b.mul(ramp, c.number(step, c.dtype)), c.number(start, c.dtype)))


@aten("linspace")
def linspace(c: Call, start: Number, end: Number, *_: Any) -> Value:
    """start + i (end - start) / (steps - 1)."""
    (size,) = c.shape
    if not (isinstance(start, int | float) and isinstance(end, int | float)):
        c.fail("linspace between computed numbers; use arange")
    if isinstance(size, int):
        return c.const(torch.linspace(start, end, size, dtype=c.dtype.torch_dtype), "linspace")
    last = c.b.maximum(c.number(size - 1, DType.F32), c.number(1.0, DType.F32))
    step = c.b.div(c.number(float(end - start), DType.F32), last)
    ramp = c.b.mul(c.cast(c.iota(size), DType.F32), step)
    return c.cast(c.b.add(ramp, c.number(float(start), DType.F32)), c.dtype)


# ------------------------------------------------------------------ triangles
def triangle(c: Call, rows: Dim, columns: Dim, diagonal: Dim, lower: bool) -> Value:
    """bool [rows, columns]: True on and below (lower) or above the diagonal column = row +
    diagonal."""
    row = c.b.iota(size=rows, start=diagonal)
    left, right = c.reshape(c.iota(columns), [1, columns]), c.reshape(row, [rows, 1])
    return c.value(c.b.le(left, right) if lower else c.b.ge(left, right))


def _triangular(c: Call, x: Value, diagonal: Dim, lower: bool) -> Value:
    rows, columns = x.type.shape[-2:]
    kept = triangle(c, rows, columns, diagonal, lower)
    return c.value(c.b.where(kept, x, c.number(0, x.type.dtype)))


@aten("tril")
def tril(c: Call, x: Value, diagonal: Dim) -> Value:
    return _triangular(c, x, diagonal, True)


@aten("triu")
def triu(c: Call, x: Value, diagonal: Dim) -> Value:
    return _triangular(c, x, diagonal, False)


@aten("eye", "eye.m")
def eye(c: Call, *_: Any) -> Value:
    rows, columns = c.shape
    row = c.reshape(c.iota(rows), [rows, 1])
    return c.cast(c.b.eq(c.reshape(c.iota(columns), [1, columns]), row), c.dtype)


@aten("tril_indices", "triu_indices")
def triangle_indices(c: Call, rows: Dim, columns: Dim, offset: int, *_: Any) -> Value:
    if not (isinstance(rows, int) and isinstance(columns, int)):
        c.fail("indices of a triangle of symbolic size; use a mask, ones(...).tril()")
    make = torch.tril_indices if c.overload.startswith("aten.tril") else torch.triu_indices
    return c.const(make(rows, columns, offset).to(c.dtype.torch_dtype), "indices")


@aten("diag_embed")
def diag_embed(c: Call, x: Value, offset: int, a: int, b: int) -> Value:
    """The last axis of x on the diagonal of two new axes."""
    rank = c.type.rank
    if offset or (a % rank, b % rank) != (rank - 2, rank - 1):
        c.fail("diag_embed with an offset or other axes than the last two")
    size = x.type.shape[-1]
    index = c.iota(size)
    kept = c.b.eq(c.reshape(index, [size, 1]), c.reshape(index, [1, size]))
    zero = c.number(0, c.dtype)
    return c.value(c.b.where(kept, c.unsqueeze(x, -1), zero))


@aten("one_hot")
def one_hot(c: Call, x: Value, classes: Dim) -> Value:
    classes = c.shape[-1]
    return c.cast(c.b.eq(c.unsqueeze(x, -1), c.cast(c.iota(classes), x.type.dtype)), c.dtype)
