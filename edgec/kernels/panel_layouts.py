"""Matrices and streams in the layouts of `panels.py`: panels, planes of codes, grids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgec.kernels.panels import Grid, field_widths
from edgec.kernels.tiles import PANEL

Arrays = dict[str, np.ndarray]
NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
NAMES[torch.int8] = "int8"


@dataclass(frozen=True)
class Region:
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


def planes(codes: Tensor, bits: int) -> Arrays:
    """Codes u8[P, K, W] in planes u8[P, ceil(K / q), W]."""
    made, low = {}, 0
    for width in field_widths(bits):
        field = (codes.numpy() >> low) & (2**width - 1)
        low += width
        q = 8 // width
        padded = np.pad(field, ((0, 0), (0, -field.shape[1] % q), (0, 0)))
        cut = padded.reshape(padded.shape[0], -1, q, padded.shape[2])
        shifts = (np.arange(q) * width).astype("u1")[:, None]
        made[f"codes{width}"] = np.bitwise_or.reduce(cut << shifts, axis=2).astype("u1")
    return made


def grid_of(index: Tensor, values: Tensor) -> tuple[Grid, Tensor]:
    """The coarsest grid that gives element (n, k) the number values.view(-1)[index[n, k]].

    The second result is the index of the number at each place of the grid: i64[N or 1, K / run].
    """
    k = index.shape[1]
    shared = bool((index == index[:1]).all())
    index = index[:1] if shared else index
    run = next(r for r in range(k, 0, -1) if k % r == 0 and _constant(index, r))
    return Grid(NAMES[values.dtype], 0 if run == k else run, shared), index[:, ::run]


def _constant(index: Tensor, run: int) -> bool:
    blocks = index.reshape(index.shape[0], -1, run)
    return bool((blocks == blocks[..., :1]).all())


def grid_array(grid: Grid, places: Tensor, values: Tensor) -> np.ndarray:
    lying = values.reshape(-1)[places]
    return stored(lying if grid.shared else panelled(lying))


def block_numbers(count: tuple[int, ...], numel: int) -> Tensor:
    """i64[N, K] of the number of each element's block, for blocks [N, K / G] of a tensor."""
    blocks = torch.Size(count).numel()
    each = torch.arange(blocks).view(-1, 1).expand(blocks, numel // blocks)
    return each.reshape(count[0], -1)
