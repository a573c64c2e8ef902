"""Weights that are computed when the program runs, as the panels that kernels of products read."""

from __future__ import annotations

from edgec.ir import TensorType, dims
from edgec.kernels.panels import F32
from edgec.kernels.tiles import PANEL
from edgec.targets.native.lower_elementwise import fill
from edgec.targets.native.views import View
from edgec.targets.native.weights import Packed
from edgec.targets.native.writer import Writer


def computed_panels(w: Writer, weight: View) -> Packed:
    """f32[N, *S] of static shape, row-major, in the layout of `kernels.panels`: it is transposed
    panel by panel, by copies; rows behind N are zeros."""
    n, k = int(weight.shape[0]), int(dims.product(weight.shape[1:]))
    rows = _reshaped(weight, n, k)
    whole, rest = divmod(n, PANEL)
    type = TensorType(weight.type.dtype, (whole + (rest > 0), k, PANEL))
    panels = w.temporary(type, f"{weight.storage.name}.panels")
    if whole:
        source = _reshaped(rows.part(0, 0, whole * PANEL), whole, PANEL, k)
        w.copy(source.permuted((0, 2, 1)), panels.part(0, 0, whole))
    if rest:
        last = panels.part(0, whole, 1)
        fill(w, last, 0.0)
        source = rows.part(0, whole * PANEL, rest)
        w.copy(source.permuted((1, 0)), _reshaped(last, k, PANEL).part(1, 0, rest))
    return F32, (panels,)


def turned(w: Writer, weight: View, groups: int) -> View:
    """The weight f32[C, N / G, *K] of conv_transpose, row-major, as f32[N, C / G, taps]."""
    c, n = int(weight.shape[0]), int(weight.shape[1])
    taps = int(dims.product(weight.shape[2:]))
    split = _reshaped(weight, groups, c // groups, n, taps)
    return _reshaped(w.row_major(split.permuted((0, 2, 1, 3))), groups * n, c // groups, taps)


def _reshaped(view: View, *shape: int) -> View:
    """A view without gaps in another shape."""
    made = view.reshaped(shape)
    assert made is not None, view
    return made
