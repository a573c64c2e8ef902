"""Lut: indices into palettes of values or of short vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgec.ir.encoding import Encoding, check_parts, encoding
from edgec.ir.encodings.rows import require, require_dtype, require_scale
from edgec.ir.fields import Fields
from edgec.ir.packing import pack, packed_bytes, unpack_tensor
from edgec.ir.types import DType, TensorType

TABLE_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int8)
CHUNK = 2**16  # vectors whose distances to a table are held at once


@encoding("lut")
@dataclass(frozen=True, eq=False)
class Lut(Encoding):
    """w[n, c*v + i] = scale[n, (c*v + i) // B] * table[n // (N/R), c // (M/C), codes[n, c], i]

    over rows n < N = S[0] (N = 1 for rank 1) of M codes each; an entry stands for v neighbours.

    codes   u8[*S'], S' = S with the last axis divided by v; each below P
    table   T[R, C, P, v], T in {f32, f16, bf16, i8}: a palette for each of R equal runs of rows
            and C equal runs of codes in a row, 1 <= P <= 2^bits; [1, 1, P, 1] is one palette
    bits    1..8, of an index
    scale   f[N, K/B] > 0, K = M*v, in {f32, f16, bf16}: one per block of B neighbours; None = 1
    dtype   of the decoded values; the product is computed in f32
    """

    codes: Tensor
    table: Tensor
    bits: int
    scale: Tensor | None = None
    dtype: DType = DType.F32

    def __post_init__(self) -> None:
        where = "lut"
        require(1 <= self.bits <= 8, where, f"bits={self.bits}", "1 <= bits <= 8")
        require_dtype(where, self.dtype)
        codes, table = list(self.codes.shape), list(self.table.shape)
        some = self.codes.dim() > 0 and self.codes.numel() > 0
        require(some, where, f"codes {codes}", "rank >= 1 and at least one element")
        require(self.codes.dtype == torch.uint8, where, f"codes of {self.codes.dtype}", "uint8")
        known = self.table.dtype in TABLE_DTYPES
        require(known, where, f"table of {self.table.dtype}", "f32, f16, bf16 or i8")
        right = self.table.dim() == 4 and self.table.numel() > 0
        require(right, where, f"table {table}", "[R, C, P, v], all at least 1")
        finite = bool(self.table.float().isfinite().all())
        require(finite, where, "infinite or NaN entries", "finite entries")
        need = f"1 <= P <= {2**self.bits} for {self.bits} bits"
        require(table[2] <= 2**self.bits, where, f"P={table[2]} entries", need)
        highest = int(self.codes.max())
        require(highest < table[2], where, f"code {highest}", f"codes below P={table[2]}")
        rows, length = self._matrix()
        fits = rows % table[0] == 0 and length % table[1] == 0
        need = f"R that divides {rows} rows, C that divides {length} codes per row"
        require(fits, where, f"table {table}", need)
        if self.scale is not None:
            self._check_scale(self.scale, rows, length * table[3])

    def _check_scale(self, scale: Tensor, rows: int, length: int) -> None:
        got, vector = list(scale.shape), self.table.shape[3]
        right = scale.dim() == 2 and got[0] == rows and got[1] > 0 and length % got[1] == 0
        whole = right and (length // got[1]) % vector == 0
        need = f"[{rows}, {length}/B], B a multiple of v={vector}"
        require(whole, "lut", f"scales {got}", need)
        require_scale("lut", scale)

    def _matrix(self) -> tuple[int, int]:
        """(N, M): rows, and codes per row."""
        rows = self.codes.shape[0] if self.codes.dim() > 1 else 1
        return rows, self.codes.numel() // rows

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.codes.shape[:-1], self.codes.shape[-1] * self.table.shape[3])

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, self.shape)

    def _tiles(self, codes: Tensor) -> Tensor:
        """T[*S', ...] -> T[R, N/R, C, M/C, ...]: those that share a palette stand at [r, :, c]."""
        rows, length = self._matrix()
        r, c = self.table.shape[:2]
        return codes.reshape(r, rows // r, c, length // c, *codes.shape[self.codes.dim() :])

    def decode(self) -> Tensor:
        r, c, entries, vector = self.table.shape
        first = torch.arange(r * c).view(r, 1, c, 1) * entries
        index = (self._tiles(self.codes).long() + first).reshape(-1)
        values = self.table.float().reshape(-1, vector).index_select(0, index)
        if self.scale is not None:
            rows, blocks = self.scale.shape
            values = values.reshape(rows, blocks, -1) * self.scale.float().unsqueeze(-1)
        return values.reshape(self.shape).to(self.dtype.torch_dtype)

    def encode(self, w: Tensor) -> Lut:
        """The nearest entry (Euclidean) for each vector; block scales and tables stay."""
        vector = self.table.shape[3]
        values = w.float()
        if self.scale is not None:
            blocks = values.reshape(*self.scale.shape, -1)
            values = blocks / self.scale.float().unsqueeze(-1)
        tiles = self._tiles(values.reshape(*self.codes.shape, vector))
        codes = torch.empty(tiles.shape[:-1], dtype=torch.uint8)
        for r in range(tiles.shape[0]):
            for c in range(tiles.shape[2]):
                vectors = tiles[r, :, c].reshape(-1, vector)
                found = nearest(vectors, self.table[r, c].float())
                codes[r, :, c] = found.view(codes[r, :, c].shape)
        return Lut(codes.view(self.codes.shape), self.table, self.bits, self.scale, self.dtype)

    def stored_bytes(self, count: int) -> int:
        vector = self.table.shape[3]
        floats = [self.table] if self.scale is None else [self.table, self.scale]
        codes = packed_bytes(count // vector, self.bits)
        return codes + sum(t.numel() * t.element_size() for t in floats)

    def parts(self, kept: Tensor | None = None) -> dict[str, Tensor]:
        codes = self.codes if kept is None else self.codes[kept]
        parts = {"codes": pack(codes, self.bits), "table": self.table}
        return parts if self.scale is None else {**parts, "scale": self.scale}

    def attributes(self) -> dict[str, Any]:
        shape = list(self.codes.shape)
        return {"bits": self.bits, "codes_shape": shape, "dtype": self.dtype.value}

    @classmethod
    def from_parts(
        cls,
        parts: Mapping[str, Tensor],
        attributes: Mapping[str, Any],
        kept: Tensor | None = None,
    ) -> Lut:
        check_parts("lut", parts, {"codes", "table"}, {"scale"})
        fields = Fields(attributes, "lut")
        bits, shape = fields.integer("bits", 1, 8), fields.shape("codes_shape")
        dtype = fields.dtype("dtype")
        fields.done()
        codes = unpack_tensor(parts["codes"], bits, shape, kept)
        return cls(codes, parts["table"], bits, parts.get("scale"), dtype)

    def describe(self) -> str:
        r, c, entries, vector = self.table.shape
        shown = [f"bits={self.bits}"]
        shown += [f"entries={entries}"] if entries != 2**self.bits else []
        shown += [f"palettes={r}x{c}"] if r * c > 1 else []
        shown += [f"vector={vector}"] if vector > 1 else []
        shown.append(f"table={DType.of(self.table.dtype).value}")
        if self.scale is not None:
            block = self.numel // self.scale.numel()
            shown.append(f"block={block}, scale={DType.of(self.scale.dtype).value}")
        return f"lut({', '.join(shown)})"


def nearest(vectors: Tensor, table: Tensor) -> Tensor:
    """Index u8[n] of the entry of `table` f32[P, v] that is nearest to each of `vectors` f32[n, v].

    The lowest index of equally near ones for v > 1; for v = 1 the lesser value.
    """
    if table.shape[1] == 1:
        ordered, order = table[:, 0].sort(stable=True)
        between = (ordered[1:] + ordered[:-1]) / 2
        return order[torch.bucketize(vectors[:, 0].contiguous(), between)].to(torch.uint8)
    chunks = vectors.split(CHUNK)
    exact = "donot_use_mm_for_euclid_dist"
    found = [torch.cdist(part, table, compute_mode=exact).argmin(1) for part in chunks]
    return torch.cat(found).to(torch.uint8)
