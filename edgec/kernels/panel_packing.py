"""From encodings to packed panels: exact, and close to the encoding's own number of bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from edgec.errors import UnsupportedError
from edgec.ir import Affine, Dense, Encoding, Lut, Outliers, Sparse
from edgec.ir.encodings.rows import from_rows, rows_shape
from edgec.ir.encodings.two_four import POWERS
from edgec.kernels.panels import (
    BEHIND_TABLE,
    DEPTH,
    AffinePanels,
    DensePanels,
    Elements,
    Grid,
    LutPanels,
    MaskedPanels,
    OutlierPanels,
    Panels,
    TwoFourPanels,
    field_widths,
)
from edgec.kernels.tiles import PANEL

Arrays = dict[str, np.ndarray]
NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
NAMES[torch.int8] = "int8"


def matrix_shape(encoding: Encoding) -> tuple[int, int]:
    """[N, K] of the packed matrix; the elements of a vector are rows, unless codes join them."""
    shape = tuple(int(d) for d in encoding.type.shape)
    if len(shape) > 1:
        return rows_shape(shape, 0)
    count = encoding.numel
    inner = encoding
    while isinstance(inner, Sparse | Outliers):
        inner = inner.values if isinstance(inner, Sparse) else inner.base
    joined = isinstance(inner, Lut) and inner.table.shape[3] > 1
    return (1, count) if joined else (count, 1)


@dataclass(frozen=True)
class _Region:
    """What of a matrix [N, K] is stored.

    kept     bool[N, K], None: everything
    halved   two of every four along k are kept, as a matrix [N, K / 2]; else they are a stream, in
             the order of `MaskedPanels`
    """

    shape: tuple[int, int]
    kept: Tensor | None = None
    halved: bool = False

    def matrix(self, tensor: Tensor) -> Tensor:
        """T[*S] -> T[N, K], or T[N, K / 2]."""
        matrix = tensor.reshape(self.shape)
        if self.halved:
            assert self.kept is not None
            return matrix[self.kept].view(self.shape[0], self.shape[1] // 2)
        return matrix

    def lying(self, matrix: Tensor) -> Tensor:
        """As panels T[P, K, 32], or as a stream T[1, kept, 1]."""
        if self.kept is None or self.halved:
            return panelled(matrix)
        return panelled(matrix)[panelled(self.kept)].view(1, -1, 1)


def pack(encoding: Encoding) -> tuple[Panels, Arrays]:
    """The spec that a kernel is compiled with, and the arrays by the names of its pointers.

    Raises UnsupportedError for a constant that is not f32 when decoded.
    """
    if encoding.type.dtype.torch_dtype is not torch.float32:
        raise UnsupportedError("kernels", f"a packed constant {encoding.type}", "one of f32")
    return _pack(encoding, _Region(matrix_shape(encoding)))


def transposed(encoding: Encoding) -> Encoding | None:
    """The encoding of w.T, with the same bytes, for w[K, N] of a matmul; None without one."""
    match encoding:
        case Dense() if encoding.values.dim() == 2:
            return replace(encoding, values=encoding.values.T.contiguous())
        case Affine(axis=1) if encoding.codes.dim() == 2:
            return replace(encoding, codes=encoding.codes.T.contiguous(), axis=0)
    return None


def conv_transposed(encoding: Encoding, groups: int) -> Encoding | None:
    """w[C, N / G, *kernel] of conv_transpose as w[N, C / G, taps], with the same bytes.

    None where there is no such form: `Dense(encoding.decode())` has one.
    """

    def turned(tensor: Tensor) -> Tensor:
        c, n = int(tensor.shape[0]), int(tensor.shape[1])
        split = tensor.reshape(groups, c // groups, n, -1).permute(0, 2, 1, 3)
        return split.reshape(groups * n, c // groups, -1).contiguous()

    match encoding:
        case Dense():
            return replace(encoding, values=turned(encoding.values))
        case Affine(group=0, axis=None):
            return replace(encoding, codes=turned(encoding.codes))
        case Affine(axis=0 | 1) if groups == 1:  # rows have the same order in both
            return replace(encoding, codes=turned(encoding.codes), axis=1 - (encoding.axis or 0))
    return None


def _pack(encoding: Encoding, region: _Region) -> tuple[Panels, Arrays]:
    match encoding:
        case Sparse(values=Outliers() as outliers):
            inside = replace(encoding, values=outliers.base)
            return _outliers(replace(outliers, base=inside), region.shape)
        case Sparse():
            return _sparse(encoding, region.shape)
        case Outliers():
            return _outliers(encoding, region.shape)
    return _elements(encoding, region)


def _elements(encoding: Encoding, region: _Region) -> tuple[Elements, Arrays]:
    match encoding:
        case Dense():
            lying = region.lying(region.matrix(encoding.values))
            return DensePanels(NAMES[encoding.values.dtype]), {"w": stored(lying)}
        case Affine():
            return _affine(encoding, region)
        case Lut():
            return _lut(encoding, region)
    raise UnsupportedError("kernels", encoding.describe(), "an encoding with a packed form")


# ------------------------------------------------------------------ layouts
def panelled(matrix: Tensor) -> Tensor:
    """T[N, K] -> T[P, K, 32], zeros behind row N."""
    n, k = matrix.shape
    count = -(-n // PANEL)
    padded = torch.zeros(count * PANEL, k, dtype=matrix.dtype)
    padded[:n] = matrix
    return padded.view(count, PANEL, k).permute(0, 2, 1).contiguous()


def stored(tensor: Tensor) -> np.ndarray:
    """As a numpy array; bfloat16 as its bits."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return np.asarray(tensor.numpy())


def _planes(codes: Tensor, bits: int) -> Arrays:
    """Codes u8[P, K, W] in planes u8[P, ceil(K / q), W]."""
    planes, low = {}, 0
    for width in field_widths(bits):
        field = (codes.numpy() >> low) & (2**width - 1)
        low += width
        q = 8 // width
        padded = np.pad(field, ((0, 0), (0, -field.shape[1] % q), (0, 0)))
        cut = padded.reshape(padded.shape[0], -1, q, padded.shape[2])
        shifts = (np.arange(q) * width).astype("u1")[:, None]
        planes[f"codes{width}"] = np.bitwise_or.reduce(cut << shifts, axis=2).astype("u1")
    return planes


def _grid(index: Tensor, values: Tensor) -> tuple[Grid, Tensor]:
    """The coarsest grid that gives element (n, k) the number values.view(-1)[index[n, k]].

    The second result is the index of the number at each place of the grid: i64[N or 1, K / run].
    """
    k = index.shape[1]
    shared = bool((index == index[:1]).all())
    index = index[:1] if shared else index
    run = next(r for r in range(k, 0, -1) if k % r == 0 and _constant(index, r))
    grid = Grid(NAMES[values.dtype], 0 if run == k else run, shared)
    return grid, index[:, ::run]


def _constant(index: Tensor, run: int) -> bool:
    blocks = index.reshape(index.shape[0], -1, run)
    return bool((blocks == blocks[..., :1]).all())


def _grid_array(grid: Grid, places: Tensor, values: Tensor) -> np.ndarray:
    lying = values.reshape(-1)[places]
    return stored(lying if grid.shared else panelled(lying))


def _numbers(count: tuple[int, ...], numel: int) -> Tensor:
    """i64[N, K] of the number of each element's block, for blocks [N, K / G] of a tensor."""
    blocks = torch.Size(count).numel()
    each = torch.arange(blocks).view(-1, 1).expand(blocks, numel // blocks)
    return each.reshape(count[0], -1)


# ------------------------------------------------------------------ encodings
def _affine(w: Affine, region: _Region) -> tuple[Elements, Arrays]:
    numbers = _numbers(tuple(w.scale.shape), w.numel)
    index = region.matrix(from_rows(numbers, tuple(w.codes.shape), w.axis))
    grid, places = _grid(index, w.scale)
    codes = region.matrix((w.codes.short() - w.low).to(torch.uint8))
    arrays = _planes(region.lying(codes), w.bits)
    arrays["scale"] = _grid_array(grid, places, w.scale)
    if w.zero is not None:
        arrays["zero"] = _grid_array(grid, places, w.zero)
    return AffinePanels(w.bits, grid, w.zero is not None), arrays


def _lut(w: Lut, region: _Region) -> tuple[Elements, Arrays]:
    runs_of_rows, runs_of_codes, entries, vector = w.table.shape
    n, length = region.shape[0], region.shape[1] // vector
    if w.codes.dim() == 1 and vector == 1:  # its one row [1, M] is packed as [M, 1]
        runs_of_rows, runs_of_codes = runs_of_codes, 1
    short = region if vector == 1 else _Region((n, length))
    arrays = _planes(short.lying(short.matrix(w.codes)), w.bits)
    behind = w.table.new_zeros(BEHIND_TABLE // w.table.element_size())
    arrays["table"] = stored(torch.cat([w.table.reshape(-1), behind]))
    grid = None
    if w.scale is not None:
        index = region.matrix(_numbers(tuple(w.scale.shape), w.numel))
        grid, places = _grid(index, w.scale)
        arrays["scale"] = _grid_array(grid, places, w.scale)
    row_run = 0 if runs_of_rows == 1 else n // runs_of_rows
    col_run = 0 if runs_of_codes == 1 else length // runs_of_codes // (2 if region.halved else 1)
    dtype = NAMES[w.table.dtype]
    spec = LutPanels(w.bits, entries, vector, dtype, row_run, col_run, runs_of_codes, grid)
    return spec, arrays


def _sparse(w: Sparse, shape: tuple[int, int]) -> tuple[Panels, Arrays]:
    mask = w.mask.reshape(shape)
    if w.pattern == "two_four" and _halves(w.values, mask):
        inner, arrays = _elements(w.values, _Region(shape, mask, halved=True))
        arrays["mask"] = stored(panelled(_choices(mask)))
        return TwoFourPanels(inner), arrays
    values, arrays = _elements(w.values, _Region(shape, mask))
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
    base, arrays = _pack(w.base, _Region(shape))
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
