"""Where values live: storages, and strided views of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgec.ir import DType, TensorType, dims
from edgec.ir.dims import Dim, Shape

Kind = Literal["arena", "state", "weights", "input", "output"]


@dataclass(eq=False)
class Storage:
    """A piece of memory.

    kind     arena: planned, lives from its first use to its last; state: kept between calls;
             weights: read from the file; input, output: the caller's
    name     of the constant's part, the input, the output or the value it was made for
    nbytes   size; for the arena at the current values of the dims
    """

    kind: Kind
    name: str
    nbytes: Dim


@dataclass(frozen=True)
class Place:
    """An address: a storage and an offset in elements of what is pointed at."""

    storage: Storage
    offset: Dim = 0


@dataclass(frozen=True)
class View:
    """A tensor in a storage: element (i_0, ..) is at `offset + sum_a i_a strides[a]` elements."""

    storage: Storage
    type: TensorType
    strides: Shape
    offset: Dim = 0

    @staticmethod
    def whole(storage: Storage, type: TensorType) -> View:
        return View(storage, type, dense_strides(type.shape))

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def place(self) -> Place:
        """The address of its first element."""
        return Place(self.storage, self.offset)

    @property
    def is_dense(self) -> bool:
        """Row-major without gaps; strides along axes of size 1 do not matter."""
        wanted = dense_strides(self.shape)
        pairs = zip(self.shape, self.strides, wanted, strict=True)
        return all(n == 1 or dims.same(s, w) for n, s, w in pairs)

    def permuted(self, order: Sequence[int]) -> View:
        shape = tuple(self.shape[a] for a in order)
        strides = tuple(self.strides[a] for a in order)
        return dataclasses.replace(self, type=self.type.with_shape(*shape), strides=strides)

    def expanded(self, shape: Shape) -> View:
        """numpy's broadcasting: new and repeated axes have stride 0."""
        missing = len(shape) - len(self.shape)
        strides: list[Dim] = [0] * missing
        for old, new, stride in zip(self.shape, shape[missing:], self.strides, strict=True):
            strides.append(stride if dims.same(old, new) else 0)
        return dataclasses.replace(self, type=self.type.with_shape(*shape), strides=tuple(strides))

    def part(self, axis: int, start: Dim, length: Dim, step: int = 1) -> View:
        shape = (*self.shape[:axis], length, *self.shape[axis + 1 :])
        strides = list(self.strides)
        offset = dims.normal(self.offset + start * strides[axis])
        strides[axis] = dims.normal(strides[axis] * step)
        return View(self.storage, self.type.with_shape(*shape), tuple(strides), offset)

    def flipped(self, axis: int) -> View:
        last = dims.normal(self.shape[axis] - 1)
        strides = list(self.strides)
        offset = dims.normal(self.offset + last * strides[axis])
        strides[axis] = dims.normal(-strides[axis])
        return View(self.storage, self.type, tuple(strides), offset)

    def reshaped(self, shape: Shape) -> View | None:
        """The same elements in another shape; None where no strides express that."""
        if self.is_dense:
            type = self.type.with_shape(*shape)
            return View(self.storage, type, dense_strides(type.shape), self.offset)
        strides = _regrouped(self.shape, self.strides, shape)
        if strides is None:
            return None
        return dataclasses.replace(self, type=self.type.with_shape(*shape), strides=strides)

    def as_type(self, dtype: DType) -> View:
        return dataclasses.replace(self, type=self.type.with_dtype(dtype))


def dense_strides(shape: Shape) -> Shape:
    strides: list[Dim] = []
    running: Dim = 1
    for n in reversed(shape):
        strides.insert(0, running)
        running = dims.normal(running * n)
    return tuple(strides)


def _regrouped(shape: Shape, strides: Shape, new: Shape) -> Shape | None:
    """Strides of `new` over the same elements: each run of dense axes is split anew.

    None where an axis of `new` reaches across two runs.
    """
    result: list[Dim] = [0] * len(new)
    axis = len(new) - 1
    for size, stride in reversed(_runs(shape, strides)):
        have: Dim = 1
        while not dims.same(have, size):
            if axis < 0:
                return None
            result[axis] = dims.normal(have * stride)
            have = dims.normal(have * new[axis])
            axis -= 1
    return tuple(result) if all(n == 1 for n in new[: axis + 1]) else None


def _runs(shape: Shape, strides: Shape) -> list[tuple[Dim, Dim]]:
    """(extent, innermost stride) of axes merged where they are dense together."""
    runs: list[tuple[Dim, Dim]] = []
    for n, stride in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if runs and dims.same(runs[-1][1], dims.normal(n * stride)):
            n = dims.normal(n * runs.pop()[0])
        runs.append((n, stride))
    return runs
