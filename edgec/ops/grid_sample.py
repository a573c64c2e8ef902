"""Sampling an image at given places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F
from torch import Tensor

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.op import Op, op, require
from edgec.ir.types import DType, TensorType
from edgec.ops.indexing import size_value

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


@op("grid_sample")
@dataclass(frozen=True)
class GridSample(Op):
    """y[b, c, i, j] = x[b, c] at the place grid[b, i, j] = (g_x, g_y), -1 .. 1 from side to side.

    Jaderberg et al. 2015, arXiv:1506.02025, eq. 3, 5. Along an axis of S elements the place is
    ((g + 1) S - 1) / 2, with align_corners (g + 1) (S - 1) / 2. nearest rounds halves to the even
    index. Outside of x: zeros; border clips the place; reflection mirrors it at the outer edges
    (with align_corners at the outer elements).

    Inputs       x : T[B, C, H, W], grid : T[B, I, J, 2]     T a float
    Outputs      y : T[B, C, I, J]
    Attributes   mode, padding, align_corners
    Constraints  (C1) one float dtype    (C2) x [B, C, H, W], grid [B, I, J, 2]    (C3) equal B
    Exactness    ROUNDING, 4 terms; nearest is not continuous in the grid
    """

    mode: Literal["bilinear", "nearest"] = "bilinear"
    padding: Literal["zeros", "border", "reflection"] = "zeros"
    align_corners: bool = False

    def infer(self, x: TensorType, grid: TensorType) -> TensorType:
        got = f"x {x}, grid {grid}"
        one = x.dtype.is_float and x.dtype is grid.dtype
        require(self, one, "C1", got, "operands of one float dtype")
        ranks = x.rank == 4 and grid.rank == 4 and grid.shape[3] == 2
        require(self, ranks, "C2", got, "x [B, C, H, W], grid [B, I, J, 2]")
        require(self, dims.same(x.shape[0], grid.shape[0]), "C3", got, "equal B")
        return x.with_shape(*x.shape[:2], *grid.shape[1:3])

    def evaluate(self, x: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(x, grid, self.mode, self.padding, self.align_corners)

    def decompose(self, b: Builder, x: Value, grid: Value) -> Value:
        batch, _, height, width = x.type.shape
        rows, columns = grid.type.shape[1:3]
        places = []
        for axis, size in ((1, height), (0, width)):
            part = b.slice(grid, axis=3, start=axis, stop=axis + 1)
            places.append(self._place(b, b.reshape(part, shape=(batch, rows, columns)), size))
        image = b.permute(x, order=(0, 2, 3, 1))
        first = b.reshape(b.iota(size=batch), shape=(batch, 1, 1))
        sizes = (height, width)
        if self.mode == "nearest":
            y = _pick(b, image, first, [b.round(p) for p in places], sizes)
        else:
            y = _blend(b, image, first, places, sizes)
        result: Value = b.permute(y, order=(0, 3, 1, 2))
        return result

    def _place(self, b: Builder, g: Value, size: Dim) -> Value:
        """Where along an axis, in elements, before rounding."""
        dtype = g.type.dtype
        n, one, half = size_value(b, size, dtype), b.scalar(1, dtype), b.scalar(0.5, dtype)
        last = b.sub(n, one)
        if self.align_corners:
            place: Value = b.mul(b.mul(b.add(g, one), half), last)
        else:
            place = b.mul(b.sub(b.mul(b.add(g, one), n), one), half)
        if self.padding == "zeros":
            return place
        if self.padding == "reflection":
            place = self._reflected(b, place, n)
        clipped: Value = b.minimum(b.maximum(place, b.scalar(0, dtype)), last)
        return clipped

    def _reflected(self, b: Builder, place: Value, n: Value) -> Value:
        """The place mirrored into [low, low + span]: a triangle wave of period 2 span."""
        dtype = place.type.dtype
        one, two = b.scalar(1, dtype), b.scalar(2, dtype)
        low = b.scalar(0.0 if self.align_corners else -0.5, dtype)
        span = b.sub(n, one) if self.align_corners else n
        span = b.maximum(span, one)
        phase = b.mod(b.sub(place, low), b.mul(span, two))
        result: Value = b.add(b.sub(span, b.abs(b.sub(phase, span))), low)
        return result

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        return 4 if self.mode == "bilinear" else 1

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        return dims.normal(8 * outputs[0].numel)


def _pick(
    b: Builder, image: Value, first: Value, corner: Sequence[Value], sizes: Sequence[Dim]
) -> Value:
    """image [B, H, W, C] at whole-number places [B, I, J]; 0 outside."""
    dtype = image.type.dtype
    inside: Value | None = None
    ids = [first]
    for place, size in zip(corner, sizes, strict=True):
        zero = b.scalar(0, dtype)
        last = size_value(b, dims.normal(size - 1), dtype)
        valid = b.logical_and(b.ge(place, zero), b.le(place, last))
        inside = valid if inside is None else b.logical_and(inside, valid)
        ids.append(b.cast(b.minimum(b.maximum(place, zero), last), dtype=DType.I64))
    assert inside is not None
    mask = b.reshape(inside, shape=(*inside.type.shape, 1))
    result: Value = b.where(mask, b.gather_nd(image, *ids), b.scalar(0, dtype))
    return result


def _blend(
    b: Builder, image: Value, first: Value, places: Sequence[Value], sizes: Sequence[Dim]
) -> Value:
    """The four neighbours of each place, weighted by nearness."""
    one = b.scalar(1, image.type.dtype)
    low = [b.floor(p) for p in places]
    t = [b.sub(p, q) for p, q in zip(places, low, strict=True)]
    total: Value | None = None
    for down in (0, 1):
        for right in (0, 1):
            corner = [b.add(q, one) if s else q for q, s in zip(low, (down, right), strict=True)]
            sides = [w if s else b.sub(one, w) for w, s in zip(t, (down, right), strict=True)]
            weight = b.mul(*sides)
            weight = b.reshape(weight, shape=(*weight.type.shape, 1))
            term = b.mul(_pick(b, image, first, corner, sizes), weight)
            total = term if total is None else b.add(total, term)
    assert total is not None
    return total
