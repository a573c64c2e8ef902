"""The C builder of block tables, compiled and called through ctypes."""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from edgec.kernels.attention_tiles import BLOCK
from edgec.kernels.block_capacity import TableCapacity
from edgec.kernels.block_table import BlockTable, is_ordered
from edgec.patterns import Pattern

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"
SOURCES = ("block_table.c", "status.c", "format.c")
MISFIT = 8


class _Pattern(ctypes.Structure):
    _fields_ = [
        ("parts", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("n_parts", "causal", "period", "ordered")),
    ]


class _Table(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_void_p) for n in ("row_ptr", "col_idx", "tile_id", "order", "bias")),
        ("hashes", ctypes.c_void_p),
        *((n, ctypes.c_int32) for n in ("max_length", "max_blocks", "max_tiles")),
        *((n, ctypes.c_int32) for n in ("blocks", "tiles")),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.so"
        flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        sources = [str(RUNTIME / "src" / name) for name in SOURCES]
        include = f"-I{RUNTIME / 'include'}"
        subprocess.run(["cc", *flags, include, "-o", str(path), *sources], check=True)
        return ctypes.CDLL(str(path))


class Room:
    """Arrays of a capacity, which `build` writes again and again."""

    def __init__(self, capacity: TableCapacity, longest: int) -> None:
        # what is not written shows
        self.row_ptr = np.full(capacity.row_ptr, -7, "i4")
        self.col_idx = np.full(capacity.blocks, -7, "i4")
        self.tile_id = np.full(capacity.blocks, -7, "i4")
        self.order = np.full(max(capacity.order, 1), -7, "i4")
        self.bias = np.full((capacity.tiles, BLOCK, BLOCK), 7, "f4")
        self.hashes = np.zeros(capacity.tiles, "u8")
        self.capacity, self.longest = capacity, longest

    def build(
        self, pattern: Pattern, length: int, parts: np.ndarray | None = None
    ) -> tuple[int, str, BlockTable]:
        """Status, text, and what was written; `parts` instead of those of the pattern."""
        rows = np.array(pattern.parameters(), "i4") if parts is None else parts
        ordered, period = is_ordered(pattern), pattern.head_period
        given = _Pattern(rows.ctypes.data, len(rows), pattern.past_only, period, ordered)
        arrays = (self.row_ptr, self.col_idx, self.tile_id, self.order, self.bias, self.hashes)
        table = _Table(
            *(a.ctypes.data for a in arrays),
            self.longest,
            self.capacity.blocks,
            self.capacity.tiles,
        )
        text = ctypes.create_string_buffer(256)
        build = library().edgec_build_block_table
        status = build(ctypes.byref(given), length, ctypes.byref(table), text)
        heads = period * -(-length // BLOCK)
        order = self.order[: period * length].reshape(period, length) if ordered else None
        return (
            status,
            text.value.decode(),
            BlockTable(
                self.row_ptr[: heads + 1],
                self.col_idx[: table.blocks],
                self.tile_id[: table.blocks],
                self.bias[: max(table.tiles, 1)],
                order,
                period,
                table.tiles,
            ),
        )
