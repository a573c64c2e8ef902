"""Affine: integer codes with scales, and zero points where asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgec.ir.encoding import Encoding, check_parts, encoding
from edgec.ir.encodings.rows import (
    from_rows,
    require,
    require_axis,
    require_dtype,
    require_scale,
    rows_shape,
    to_rows,
)
from edgec.ir.fields import Fields
from edgec.ir.packing import pack, packed_bytes, unpack, unpack_tensor
from edgec.ir.types import DType, TensorType


@encoding("affine")
@dataclass(frozen=True, eq=False)
class Affine(Encoding):
    """w[n, k] = scale[n, k // G] * (codes[n, k] - zero[n, k // G]) over the rows [N, K] of `axis`.

    codes   i8[*S] in [-2^(bits-1), 2^(bits-1) - 1], in the layout of the tensor
    scale   T[N, K/G] > 0, T in {f32, f16, bf16}
    zero    i8[N, K/G] in the range of the codes; None = 0 everywhere (symmetric)
    bits    2..8
    axis    the axis whose channels are the N rows; None: N = 1, one row of everything
    group   G, a divisor of K; 0: G = K, one scale per row
    dtype   of the decoded values. They are computed in f32, which is exact for 16-bit scales.

    File: codes and zero points are packed as code + 2^(bits-1), see `edgec.ir.packing`.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor | None = None
    bits: int = 8
    axis: int | None = 0
    group: int = 0
    dtype: DType = DType.F32

    def __post_init__(self) -> None:
        where, shape = "affine", tuple(self.codes.shape)
        require(2 <= self.bits <= 8, where, f"bits={self.bits}", "2 <= bits <= 8")
        require_axis(where, shape, self.axis)
        require_dtype(where, self.dtype)
        rows, length = rows_shape(shape, self.axis)
        fits = self.group >= 0 and length % (self.group or length) == 0
        require(fits, where, f"group={self.group}", f"a divisor of K={length}, or 0")
        blocks = [rows, length // (self.group or length)]
        require_scale(where, self.scale)
        got = list(self.scale.shape)
        require(got == blocks, where, f"scales {got}", f"{blocks} for codes {list(shape)}")
        self._check_range("codes", self.codes)
        if self.zero is not None:
            got = list(self.zero.shape)
            require(got == blocks, where, f"zero points {got}", f"{blocks} like the scales")
            self._check_range("zero points", self.zero)

    def _check_range(self, name: str, tensor: Tensor) -> None:
        require(tensor.dtype == torch.int8, "affine", f"{name} of {tensor.dtype}", "int8")
        low, high = int(tensor.min()), int(tensor.max())
        fits = self.low <= low and high <= self.high
        require(fits, "affine", f"{name} in [{low}, {high}]", f"[{self.low}, {self.high}]")

    @property
    def low(self) -> int:
        """The least code, -2^(bits-1)."""
        return -(1 << (self.bits - 1))

    @property
    def high(self) -> int:
        """The greatest code, 2^(bits-1) - 1."""
        return (1 << (self.bits - 1)) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, self.shape)

    def blocks(self, tensor: Tensor) -> Tensor:
        """T[*S] -> T[N, K/G, G]: the elements that share a scale stand on the last axis."""
        rows = to_rows(tensor, self.axis)
        return rows.reshape(*self.scale.shape, -1)

    def decode(self) -> Tensor:
        q = self.blocks(self.codes.float())
        if self.zero is not None:
            q = q - self.zero.float().unsqueeze(-1)
        rows = (q * self.scale.float().unsqueeze(-1)).flatten(1)
        return from_rows(rows, self.shape, self.axis).to(self.dtype.torch_dtype)

    def encode(self, w: Tensor) -> Affine:
        """Rounded half to even, clipped to [low, high]."""
        q = torch.round(self.blocks(w.float()) / self.scale.float().unsqueeze(-1))
        if self.zero is not None:
            q = q + self.zero.float().unsqueeze(-1)
        rows = q.clamp(self.low, self.high).to(torch.int8).flatten(1)
        codes = from_rows(rows, self.shape, self.axis)
        return Affine(codes, self.scale, self.zero, self.bits, self.axis, self.group, self.dtype)

    def stored_bytes(self, count: int) -> int:
        zeros = 0 if self.zero is None else packed_bytes(self.zero.numel(), self.bits)
        scales = self.scale.numel() * self.scale.element_size()
        return packed_bytes(count, self.bits) + scales + zeros

    def parts(self, kept: Tensor | None = None) -> dict[str, Tensor]:
        codes = self.codes if kept is None else self.codes[kept]
        parts = {"codes": pack(codes.short() - self.low, self.bits), "scale": self.scale}
        if self.zero is not None:
            parts["zero"] = pack(self.zero.short() - self.low, self.bits)
        return parts

    def attributes(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "shape": list(self.shape),
            "axis": self.axis,
            "group": self.group,
            "dtype": self.dtype.value,
        }

    @classmethod
    def from_parts(
        cls,
        parts: Mapping[str, Tensor],
        attributes: Mapping[str, Any],
        kept: Tensor | None = None,
    ) -> Affine:
        check_parts("affine", parts, {"codes", "scale"}, {"zero"})
        fields = Fields(attributes, "affine")
        bits, shape = fields.integer("bits", 2, 8), fields.shape("shape")
        axis = None if fields.raw("axis") is None else fields.integer("axis", 0, 64)
        group, dtype = fields.integer("group"), fields.dtype("dtype")
        fields.done()
        low = -(2 ** (bits - 1))
        codes = unpack_tensor(parts["codes"], bits, shape, kept, fill=-low).short() + low
        zero = None
        if "zero" in parts:
            unpacked = unpack(parts["zero"], bits, parts["scale"].numel())
            zero = (unpacked.short() + low).to(torch.int8).view(parts["scale"].shape)
        return cls(codes.to(torch.int8), parts["scale"], zero, bits, axis, group, dtype)

    def describe(self) -> str:
        shown = [f"bits={self.bits}"]
        shown += [f"axis={self.axis}"] if self.axis != 0 else []
        shown += [f"group={self.group}"] if self.group else []
        shown += ["zero points"] if self.zero is not None else []
        return f"affine({', '.join(shown)}, scale={DType.of(self.scale.dtype).value})"
