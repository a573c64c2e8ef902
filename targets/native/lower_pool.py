"""Pools and resizing of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgec.ir import Node, dims
from edgec.ir.dims import Dim, Shape
from edgec.kernels.pool import AdaptivePool, Pool
from edgec.kernels.resize import Resize as ResizeKernel
from edgec.ops.pool import AvgPool, MaxPool
from edgec.ops.resize import Resize
from edgec.targets.native.lowering import given, lowers, result
from edgec.targets.native.spatial import sized
from edgec.targets.native.views import View
from edgec.targets.native.writer import TVM_TYPES, Writer


@lowers("max_pool", "avg_pool")
def pool(w: Writer, node: Node) -> View:
    op = node.op
    assert isinstance(op, MaxPool | AvgPool)
    x, to = w.dense(given(node, 0)), result(w, node)
    low, high = zip(*op.padding, strict=True)
    dilation = op.dilation if isinstance(op, MaxPool) else (1,) * len(op.kernel)
    sizes = _sizes(x, to) | sized("k", op.kernel) | sized("s", op.stride)
    sizes |= sized("g", dilation) | sized("l", low, 0) | sized("h", high, 0)
    dtype, unit = TVM_TYPES[x.type.dtype], op.stride[-1] == 1
    if isinstance(op, MaxPool):
        kernel = Pool(dtype, "max", unit)
    else:
        kernel = Pool(dtype, "mean" if op.count_include_pad else "mean_inside", unit)
    w.call(kernel, [x, to], **sizes)
    return to


@lowers("adaptive_avg_pool")
def adaptive_avg_pool(w: Writer, node: Node) -> View:
    x, to = w.dense(given(node, 0)), result(w, node)
    w.call(AdaptivePool(TVM_TYPES[x.type.dtype]), [x, to], **_sizes(x, to))
    return to


def _sizes(x: View, y: View) -> dict[str, Dim]:
    planes = dims.product(x.shape[:2])
    return {"planes": planes} | sized("n", x.shape[2:]) | sized("o", y.shape[2:])


@lowers("resize")
def resize(w: Writer, node: Node) -> View:
    """The two axes behind at once, and then, where there are three, the one ahead."""
    op = node.op
    assert isinstance(op, Resize)
    x, to = w.dense(given(node, 0)), result(w, node)
    kernel = ResizeKernel(op.mode, op.align_corners, TVM_TYPES[x.type.dtype])
    old, new = x.shape[2:], to.shape[2:]
    r = [ratio(op, i, old[i], new[i]) for i in range(len(old))]
    assert all(v is not None for v in r), "legal.py promised ratios that are known"
    ratios = [v for v in r if v is not None]
    if len(old) < 3:
        planes = dims.product(x.shape[:2])
        w.call(kernel, [x, to], **_plane(planes, old, new, ratios))
        return to
    between = w.temporary(x.type.with_shape(*x.shape[:3], *new[1:]), node.output.name)
    planes = dims.product(x.shape[:3])
    w.call(kernel, [x, between], **_plane(planes, old[1:], new[1:], ratios[1:]))
    row, planes = dims.product(new[1:]), dims.product(x.shape[:2])
    ahead = _plane(planes, (old[0], row), (new[0], row), [ratios[0], 1.0])
    w.call(kernel, [between, to], **ahead)
    return to


def _plane(
    planes: Dim, old: Shape, new: Shape, ratios: Sequence[float]
) -> Mapping[str, Dim | float]:
    """Sizes of one call; a single axis is w."""
    (nh, nw), (oh, ow) = ((1,) * (2 - len(s)) + tuple(s) for s in (old, new))
    rh, rw = [1.0] * (2 - len(ratios)) + list(ratios)
    return {"planes": planes, "nh": nh, "nw": nw, "oh": oh, "ow": ow, "rh": rh, "rw": rw}


def ratio(op: Resize, axis: int, old: Dim, new: Dim) -> float | None:
    """Elements of x per element of y along a spatial axis, None where it is known at run time."""
    if op.scale is not None and not op.align_corners:
        return 1 / op.scale[axis]
    if not isinstance(old, int) or not isinstance(new, int):
        return None
    if op.align_corners:
        return (old - 1) / (new - 1) if new > 1 else 0.0
    return old / new
