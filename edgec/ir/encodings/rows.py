"""Rows of a weight: one per channel of an axis, the other axes flattened, in row-major order.

`w[N, C, kh, kw]` of a convolution has the rows `[N, C*kh*kw]` along axis 0, `w[K, N]` of a matmul
the rows `[N, K]` along axis 1. Groups and sparsity patterns run along the rows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgec.errors import VerifyError
from edgec.ir.types import DType

SCALE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def to_rows(tensor: Tensor, axis: int | None) -> Tensor:
    """T[*S] -> T[N, K] with N = S[axis]; axis None: one row of everything."""
    if axis is None:
        return tensor.reshape(1, tensor.numel())
    moved = tensor.movedim(axis, 0)
    return moved.reshape(moved.shape[0], -1)


def from_rows(rows: Tensor, shape: tuple[int, ...], axis: int | None) -> Tensor:
    """The inverse of `to_rows`, contiguous."""
    if axis is None or axis == 0:
        return rows.reshape(shape)
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return rows.reshape(moved).movedim(0, axis).contiguous()


def rows_shape(shape: tuple[int, ...], axis: int | None) -> tuple[int, int]:
    """[N, K] of `to_rows`."""
    count = math.prod(shape)
    rows = 1 if axis is None else shape[axis]
    return rows, count // rows


def require(holds: bool, where: str, got: str, need: str) -> None:
    """Raise VerifyError unless `holds`."""
    if not holds:
        raise VerifyError(where, got, need)


def require_axis(where: str, shape: tuple[int, ...], axis: int | None) -> None:
    """Raise VerifyError for an axis outside of [0, rank) and for a tensor without elements."""
    require(math.prod(shape) > 0, where, f"shape {list(shape)}", "at least one element")
    inside = axis is None or (type(axis) is int and 0 <= axis < len(shape))
    require(inside, where, f"axis={axis}", f"an axis of shape {list(shape)}, or None")


def require_scale(where: str, scale: Tensor) -> None:
    """Raise VerifyError unless all scales are finite and positive, of a dtype for scales."""
    names = ", ".join(DType.of(d).value for d in SCALE_DTYPES)
    require(scale.dtype in SCALE_DTYPES, where, f"scales of {scale.dtype}", f"one of {names}")
    good = bool((scale.isfinite() & (scale > 0)).all())
    require(good, where, "scales that are zero, negative, infinite or NaN", "finite scales > 0")


def require_dtype(where: str, dtype: DType) -> None:
    """Raise VerifyError unless `dtype`, of decoded values, is a float type."""
    require(dtype.is_float, where, f"dtype={dtype.value}", "a float dtype of the decoded values")
