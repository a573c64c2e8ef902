"""Interpolation and sampling of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from edgec.capture.aten.linear import matrix_product
from edgec.capture.call import Call
from edgec.capture.registry import aten
from edgec.ir.dims import Dim
from edgec.ir.graph import Value
from edgec.ir.types import DType

Scales = Sequence[float] | None


def resized(c: Call, x: Value, mode: str, scales: Scales, align_corners: bool = False) -> Value:
    """Spatial axes in the result's size. `scales` are the user's factors: they, and not the ratio
    of the sizes, place the samples."""
    given = None if scales is None or any(s is None for s in scales) else tuple(map(float, scales))
    size = c.shape[2:]
    return c.value(c.b.resize(x, size=size, mode=mode, align_corners=align_corners, scale=given))


@aten("upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec")
def nearest(c: Call, x: Value, size: Any, scales: Scales) -> Value:
    return resized(c, x, "nearest", scales)


@aten("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def nearest_sized(c: Call, x: Value, size: Any, *scales: Any) -> Value:
    return resized(c, x, "nearest", scales)


@aten("upsample_linear1d.vec", "upsample_bilinear2d.vec", "upsample_trilinear3d.vec")
def linear(c: Call, x: Value, size: Any, align_corners: bool, scales: Scales) -> Value:
    return resized(c, x, "linear", scales, align_corners)


@aten("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
def linear_sized(c: Call, x: Value, size: Any, align_corners: bool, *scales: Any) -> Value:
    return resized(c, x, "linear", scales, align_corners)


@aten("upsample_bicubic2d.vec")
def cubic(c: Call, x: Value, size: Any, align_corners: bool, scales: Scales) -> Value:
    return resized(c, x, "cubic", scales, align_corners)


@aten("upsample_bicubic2d")
def cubic_sized(c: Call, x: Value, size: Any, align_corners: bool, *scales: Any) -> Value:
    return resized(c, x, "cubic", scales, align_corners)


# ------------------------------------------------------------------ nearest-exact: by index
@aten("_upsample_nearest_exact1d.vec", "_upsample_nearest_exact2d.vec")
@aten("_upsample_nearest_exact3d.vec")
def nearest_exact(c: Call, x: Value, size: Any, scales: Scales) -> Value:
    """y[i] = x[floor((i + 0.5) ratio)], ratio = 1 / scale where given, else input / output."""
    for i, axis in enumerate(range(2, x.type.rank)):
        x = _pick(c, x, axis, c.shape[axis], None if scales is None else scales[i])
    return x


@aten("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d")
def nearest_exact_sized(c: Call, x: Value, size: Any, *scales: Any) -> Value:
    for i, axis in enumerate(range(2, x.type.rank)):
        x = _pick(c, x, axis, c.shape[axis], scales[i])
    return x


def _pick(c: Call, x: Value, axis: int, target: Dim, scale: float | None) -> Value:
    size = x.type.shape[axis]
    f32 = DType.F32
    if scale is not None:
        ratio = c.number(1 / scale, f32)
    else:
        ratio = c.b.div(c.number(size, f32), c.number(target, f32))
    centers = c.b.add(c.cast(c.iota(target), f32), c.number(0.5, f32))
    index = c.cast(c.b.floor(c.b.mul(centers, ratio)), DType.I64)
    last = c.number(size - 1, DType.I64)
    return c.value(c.b.gather(x, c.b.minimum(index, last), axis=axis))


# ------------------------------------------------------------------ antialiased: by matrices
@aten("_upsample_bilinear2d_aa.vec", "_upsample_bicubic2d_aa.vec")
def antialiased(c: Call, x: Value, size: Any, align_corners: bool, scales: Scales) -> Value:
    """The filter is linear and separable: one constant matrix per axis, read off at the unit
    vectors."""
    mode = "bilinear" if "bilinear" in c.overload else "bicubic"
    for axis in (3, 2):
        source = c.require_static(x.type.shape[axis], "an antialiased axis")
        target = c.require_static(c.shape[axis], "an antialiased axis")
        image = torch.eye(source).reshape(1, source, 1, source)
        matrix = F.interpolate(
            image, size=(1, target), mode=mode, align_corners=align_corners, antialias=True
        ).reshape(source, target)
        turned = c.swap(x, axis, 3)
        y = matrix_product(c, turned, c.const(matrix.to(x.type.dtype.torch_dtype), "filter"))
        x = c.swap(y, axis, 3)
    return x


@aten("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")
def antialiased_sized(c: Call, x: Value, size: Any, align_corners: bool, *scales: Any) -> Value:
    return antialiased(c, x, size, align_corners, None)


# ------------------------------------------------------------------ sampling
_INTERPOLATION = ("bilinear", "nearest", "bicubic")
_BORDER = ("zeros", "border", "reflection")


@aten("grid_sampler", "grid_sampler_2d")
def grid_sampler(
    c: Call, x: Value, grid: Value, mode: int, padding: int, align_corners: bool
) -> Value:
    if x.type.rank != 4 or mode == 2:
        c.fail(f"grid_sample of rank {x.type.rank} in mode {_INTERPOLATION[mode]}")
    sampled = c.b.grid_sample(
        x,
        grid,
        mode=_INTERPOLATION[mode],
        padding=_BORDER[padding],
        align_corners=align_corners,
    )
    return c.value(sampled)


@aten("affine_grid_generator")
def affine_grid(c: Call, theta: Value, size: Sequence[Dim], align_corners: bool) -> Value:
    """theta [B, r, r + 1] applied to the normalised coordinates of every pixel."""
    spatial = [c.require_static(d, "a side of the grid") for d in size[2:]]
    unit = torch.eye(len(spatial) + 1)[None, : len(spatial)]
    points = F.affine_grid(unit, [1, 1, *spatial], align_corners=align_corners)
    points = torch.cat([points, torch.ones(*points.shape[:-1], 1)], -1)
    flat = points.reshape(1, -1, len(spatial) + 1).to(theta.type.dtype.torch_dtype)
    moved = c.b.matmul(c.const(flat, "points"), c.swap(theta, -1, -2))
    return c.reshape(moved, c.shape)
