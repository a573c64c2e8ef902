"""Outliers: a few values kept in 16 bits, everything else in another encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgec.ir.encoding import (
    Encoding,
    check_parts,
    encoding,
    nested,
    read_encoding,
    to_json,
)
from edgec.ir.encodings.rows import require
from edgec.ir.fields import Fields
from edgec.ir.packing import pack_wide, unpack_wide, wide_bytes
from edgec.ir.types import DType, TensorType


@encoding("outliers")
@dataclass(frozen=True, eq=False)
class Outliers(Encoding):
    """w = base, but w.flat[positions[i]] = values[i].

    base        encoding of the whole tensor; what it says at `positions` does not matter
    positions   i64[n], row-major indices, strictly ascending
    values      T[n], T in {f16, bf16}, finite

    File: the gaps between positions, all in as many bits as the widest needs. SpQR (Dettmers et
    al. 2023, arXiv:2306.03078) stores 16-bit columns and 32-bit row counts; at 1 % the gaps take 10
    to 12 bits and put no limit on the length of a row.
    """

    base: Encoding
    positions: Tensor
    values: Tensor

    def __post_init__(self) -> None:
        where, p = "outliers", self.positions
        got = f"positions {p.dtype}{list(p.shape)}"
        require(p.dtype == torch.int64 and p.dim() == 1, where, got, "int64[n]")
        got = f"values {self.values.dtype}{list(self.values.shape)}"
        kept16 = self.values.dtype in (torch.float16, torch.bfloat16)
        require(kept16 and self.values.shape == p.shape, where, got, f"f16 or bf16 [{p.numel()}]")
        require(self.base.type.dtype.is_float, where, f"base {self.base.type}", "floats")
        require(bool(self.values.isfinite().all()), where, "infinite or NaN values", "finite ones")
        if p.numel():
            rising = bool((p[1:] > p[:-1]).all()) and 0 <= int(p[0])
            inside = rising and int(p[-1]) < self.base.numel
            require(inside, where, "positions", f"ascending ones in [0, {self.base.numel})")

    @property
    def type(self) -> TensorType:
        return self.base.type

    def decode(self) -> Tensor:
        dense = self.base.decode()
        flat = dense.reshape(-1).scatter(0, self.positions, self.values.to(dense.dtype))
        return flat.reshape(dense.shape)

    def encode(self, w: Tensor) -> Outliers:
        """The positions stay; the base sees its own values there."""
        flat, own = w.reshape(-1), self.base.decode().reshape(-1).to(w.dtype)
        rest = flat.scatter(0, self.positions, own[self.positions]).reshape(w.shape)
        kept = flat[self.positions].to(self.values.dtype)
        return Outliers(self.base.encode(rest), self.positions, kept)

    def _gaps(self) -> Tensor:
        return torch.diff(self.positions, prepend=self.positions.new_tensor([-1])) - 1

    @property
    def gap_bits(self) -> int:
        """Bits that the widest gap needs, at least 1."""
        return max(1, int(self._gaps().max()).bit_length()) if self.positions.numel() else 1

    def stored_bytes(self, count: int) -> int:
        n = self.positions.numel()
        return self.base.stored_bytes(count) + wide_bytes(n, self.gap_bits) + 2 * n

    def parts(self, kept: Tensor | None = None) -> dict[str, Tensor]:
        inner = self.base.parts(kept)
        return {
            "gaps": pack_wide(self._gaps(), self.gap_bits),
            "values": self.values,
            **{f"base.{k}": v for k, v in inner.items()},
        }

    def attributes(self) -> dict[str, Any]:
        return {"gap_bits": self.gap_bits, "base": to_json(self.base)}

    @classmethod
    def from_parts(
        cls,
        parts: Mapping[str, Tensor],
        attributes: Mapping[str, Any],
        kept: Tensor | None = None,
    ) -> Outliers:
        inner = nested(parts, "base")
        check_parts("outliers", parts, {"gaps", "values"}, {f"base.{k}" for k in inner})
        fields = Fields(attributes, "outliers")
        bits, description = fields.integer("gap_bits", 1, 48), fields.mapping("base")
        fields.done()
        gaps = unpack_wide(parts["gaps"], bits, parts["values"].numel())
        positions = torch.cumsum(gaps + 1, 0) - 1
        made = cls(read_encoding(description, inner, kept), positions, parts["values"])
        need = f"gap_bits={made.gap_bits}, the least"
        require(made.gap_bits == bits, "outliers", f"gap_bits={bits}", need)
        return made

    def describe(self) -> str:
        kind = DType.of(self.values.dtype).value
        return f"outliers({self.values.numel()} x {kind}, {self.base.describe()})"
