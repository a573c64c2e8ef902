"""From encodings to packed panels: exact, and close to the encoding's own number of bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from edgec.errors import UnsupportedError
from edgec.ir import Affine, Dense, Encoding, Lut, Outliers, Sparse
from edgec.ir.encodings.rows import from_rows
from edgec.ir.encodings.two_four import POWERS
from edgec.kernels.panel_layouts import (
    NAMES,
    Arrays,
    Region,
    block_numbers,
    grid_array,
    grid_of,
    panelled,
    planes,
    stored,
)
from edgec.kernels.panels import (
    BEHIND_TABLE,
    DEPTH,
    AffinePanels,
    DensePanels,
    Elements,
    LutPanels,
    MaskedPanels,
    OutlierPanels,
    Panels,
    TwoFourPanels,
)
from edgec.kernels.tiles import PANEL
from edgec.kernels.weight_matrices import matrix_shape


def pack(encoding: Encoding) -> tuple[Panels, Arrays]:
    """The spec that a kernel is compiled with, and the arrays by the names of its pointers.

    Raises UnsupportedError for a constant that is not f32 when decoded.
    """
    if encoding.type.dtype.torch_dtype is not torch.float32:
        raise UnsupportedError("kernels", f"a packed constant {encoding.type}", "one of f32")
    return _pack(encoding, Region(matrix_shape(encoding)))


def _pack(encoding: Encoding, region: Region) -> tuple[Panels, Arrays]:
    match encoding:
        case Sparse(values=Outliers() as outliers):
            inside = replace(encoding, values=outliers.base)
            return _outliers(replace(outliers, base=inside), region.shape)
        case Sparse():
            return _sparse(encoding, region.shape)
        case Outliers():
            return _outliers(encoding, region.shape)
    return _elements(encoding, region)


def _elements(encoding: Encoding, region: Region) -> tuple[Elements, Arrays]:
    match encoding:
        case Dense():
            lying = region.lying(region.matrix(encoding.values))
            return DensePanels(NAMES[encoding.values.dtype]), {"w": stored(lying)}
        case Affine():
            return _affine(encoding, region)
        case Lut():
            return _lut(encoding, region)
    raise UnsupportedError("kernels", encoding.describe(), "an encoding with a packed form")


def _affine(w: Affine, region: Region) -> tuple[Elements, Arrays]:
    numbers = block_numbers(tuple(w.scale.shape), w.numel)
    index = region.matrix(from_rows(numbers, tuple(w.codes.shape), w.axis))
    grid, places = grid_of(index, w.scale)
    codes = region.matrix((w.codes.short() - w.low).to(torch.uint8))
    arrays = planes(region.lying(codes), w.bits)
    arrays["scale"] = grid_array(grid, places, w.scale)
    if w.zero is not None:
        arrays["zero"] = grid_array(grid, places, w.zero)
    return AffinePanels(w.bits, grid, w.zero is not None), arrays


def _lut(w: Lut, region: Region) -> tuple[Elements, Arrays]:
    runs_of_rows, runs_of_codes, entries, vector = w.table.shape
    n, length = region.shape[0], region.shape[1] // vector
    if w.codes.dim() == 1 and vector == 1:  # its one row [1, M] is packed as [M, 1]
        runs_of_rows, runs_of_codes = runs_of_codes, 1
    short = region if vector == 1 else Region((n, length))
    arrays = planes(short.lying(short.matrix(w.codes)), w.bits)
    behind = w.table.new_zeros(BEHIND_TABLE // w.table.element_size())
    arrays["table"] = stored(torch.cat([w.table.reshape(-1), behind]))
    grid = None
    if w.scale is not None:
        index = region.matrix(block_numbers(tuple(w.scale.shape), w.numel))
        grid, places = grid_of(index, w.scale)
        arrays["scale"] = grid_array(grid, places, w.scale)
    row_run = 0 if runs_of_rows == 1 else n // runs_of_rows
    col_run = 0 if runs_of_codes == 1 else length // runs_of_codes // (2 if region.halved else 1)
    dtype = NAMES[w.table.dtype]
    spec = LutPanels(w.bits, entries, vector, dtype, row_run, col_run, runs_of_codes, grid)
    return spec, arrays


def _sparse(w: Sparse, shape: tuple[int, int]) -> tuple[Panels, Arrays]:
    mask = w.mask.reshape(shape)
    if w.pattern == "two_four" and _halves(w.values, mask):
        inner, arrays = _elements(w.values, Region(shape, mask, halved=True))
        arrays["mask"] = stored(panelled(_choices(mask)))
        return TwoFourPanels(inner), arrays
    values, arrays = _elements(w.values, Region(shape, mask))
    lying = panelled(mask).numpy()
    bits = np.left_shift(np.uint32(1), np.arange(PANEL, dtype="u4"))
    counts = np.pad(lying.sum(2), ((0, 0), (0, -shape[1] % DEPTH)))
    parts = counts.reshape(len(counts), -1, DEPTH).sum(2).reshape(-1)
    arrays["mask"] = (lying * bits).sum(2, dtype="u4")
    arrays["starts"] = (np.cumsum(parts) - parts).astype("i4")
    return MaskedPanels(values), arrays


def _halves(values: Encoding, mask: Tensor) -> bool:
    """Whether two of four are kept along the rows here, and no palette ends inside of a four."""
    k = mask.shape[1]
    if k % 4 or bool((mask.reshape(-1, 4).sum(1) != 2).any()):
        return False
    return not isinstance(values, Lut) or (k // values.table.shape[1]) % 4 == 0


def _choices(mask: Tensor) -> Tensor:
    """u8[N, ceil(K / 12)]: the numbers of the pairs that are kept, as in `two_four.py`."""
    fours = mask.reshape(mask.shape[0], -1, 4).byte()
    first, second = fours.argmax(2), 3 - fours.flip(2).argmax(2)
    choice = first * (7 - first) // 2 + second - first - 1
    threes = torch.nn.functional.pad(choice, (0, -choice.shape[1] % 3)).unflatten(1, (-1, 3))
    packed: Tensor = (threes * POWERS).sum(2).to(torch.uint8)
    return packed


def _outliers(w: Outliers, shape: tuple[int, int]) -> tuple[Panels, Arrays]:
    base, arrays = _pack(w.base, Region(shape))
    n, k = w.positions // shape[1], w.positions % shape[1]
    parts = -(-shape[1] // DEPTH)
    part = n // PANEL * parts + k // DEPTH
    place = k % DEPTH * PANEL + n % PANEL
    order = torch.argsort(part * DEPTH * PANEL + place)
    count = torch.bincount(part, minlength=-(-shape[0] // PANEL) * parts)
    starts = torch.cat([count.new_zeros(1), count.cumsum(0)])
    arrays["outlier_starts"] = starts.numpy().astype("i4")
    arrays["outlier_places"] = place[order].numpy().astype("u2")
    arrays["outliers"] = stored(w.values[order])
    return OutlierPanels(base, NAMES[w.values.dtype]), arrays
