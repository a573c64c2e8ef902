"""Images [B, C, *S] as kernels see them: always three spatial axes, missing ones stand ahead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from edgec.ir.dims import Dim
from edgec.kernels.pool import AXES

T = TypeVar("T")


def three(values: Sequence[T], missing: T) -> tuple[T, T, T]:
    """One value for each of the axes d, h, w."""
    d, h, w = [missing] * (len(AXES) - len(values)) + list(values)
    return d, h, w


def sized(name: str, values: Sequence[Dim], missing: Dim = 1) -> dict[str, Dim]:
    """The same as sizes of a call, called `name` and the axis."""
    return {name + axis: n for axis, n in zip(AXES, three(values, missing), strict=True)}
