"""Index arithmetic that decompositions share: sizes as values, running indices, flat positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgec.ir import dims
from edgec.ir.dims import Dim, Shape
from edgec.ir.types import DType

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


def size_value(b: Builder, dim: Dim, dtype: DType) -> Value:
    """A dimension as a rank-0 value: a constant where it is a number."""
    if isinstance(dim, int):
        return b.scalar(dim, dtype)
    if dtype is DType.I64:
        value: Value = b.dim_value(dim=dim)
        return value
    cast: Value = b.cast(b.dim_value(dim=dim), dtype=dtype)
    return cast


def along(b: Builder, index: Value, axis: int, rank: int) -> Value:
    """[n] -> [1, .., n, .., 1] of `rank` axes, n at `axis`: broadcasts along all other axes."""
    shape: list[Dim] = [1] * rank
    shape[axis] = index.type.shape[0]
    value: Value = b.reshape(index, shape=tuple(shape))
    return value


def flat_index(b: Builder, ids: Sequence[Value], sizes: Shape) -> Value:
    """Row-major position of the element at `ids` in a tensor whose axes have `sizes`; i64."""
    total: Value | None = None
    for i, index in enumerate(ids):
        if index.type.dtype is not DType.I64:
            index = b.cast(index, dtype=DType.I64)
        step = dims.product(sizes[i + 1 :])
        if step != 1:
            index = b.mul(index, size_value(b, step, DType.I64))
        total = index if total is None else b.add(total, index)
    assert total is not None
    return total
