"""Sparse: a mask, and an encoding of the values under it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

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
from edgec.ir.encodings.lut import Lut
from edgec.ir.encodings.outliers import Outliers
from edgec.ir.encodings.rows import from_rows, require, require_axis, rows_shape, to_rows
from edgec.ir.encodings.two_four import mask_bytes, pack_mask, unpack_mask
from edgec.ir.fields import Fields
from edgec.ir.packing import pack, packed_bytes, unpack_tensor
from edgec.ir.types import TensorType

Pattern = Literal["bitmask", "two_four"]


@encoding("sparse")
@dataclass(frozen=True, eq=False)
class Sparse(Encoding):
    """w = where(mask, values, 0).

    pattern   "bitmask": any mask. "two_four": exactly two of every four neighbours in the rows
              [N, K] of `axis` are kept, so at most two are not zero; K % 4 == 0.
    mask      bool[*S], True where a value is kept
    values    encoding of the dense shape S; only what is under the mask is stored, row-major
    axis      the axis whose channels are the rows, for two_four

    File: a bitmask takes one bit per weight, row-major. two_four takes a byte per twelve weights,
    which are counted along the rows, see `edgec.ir.encodings.two_four`.

    A bitmask pays off where the part r that is left out is greater than 1 / b, for values of b
    bits: 3 % of f32, 25 % of 4 bits, 50 % of 2 bits. two_four takes b / 2 + 2/3 bits per weight
    instead of b, which is less from 2 bits on.
    """

    pattern: Pattern
    mask: Tensor
    values: Encoding
    axis: int = 0

    def __post_init__(self) -> None:
        where, shape = "sparse", tuple(self.mask.shape)
        known = self.pattern in ("bitmask", "two_four")
        require(known, where, f"pattern={self.pattern}", "bitmask or two_four")
        require(self.mask.dtype == torch.bool, where, f"mask of {self.mask.dtype}", "bool")
        require_axis(where, shape, self.axis if self.mask.dim() else None)
        got = self.values.type
        require(got.shape == shape, where, f"values {got}", f"the mask's shape {list(shape)}")
        require(got.dtype.is_float, where, f"values {got}", "floats")
        why = elementwise(self.values)
        require(not why, where, self.values.describe(), f"an encoding per element: {why}")
        if isinstance(self.values, Outliers):
            covered = bool(self.mask.reshape(-1)[self.values.positions].all())
            require(covered, where, "outliers outside of the mask", "outliers under the mask")
        if self.pattern == "two_four":
            self._check_two_four(shape)

    def _check_two_four(self, shape: tuple[int, ...]) -> None:
        require(self.mask.dim() > 0, "sparse", "a rank-0 mask", "rows of a multiple of 4")
        length = rows_shape(shape, self.axis)[1]
        require(length % 4 == 0, "sparse", f"K={length}", "a multiple of 4 for two_four")
        kept = to_rows(self.mask, self.axis).unflatten(1, (-1, 4)).sum(-1)
        wrong = int((kept != 2).sum())
        require(wrong == 0, "sparse", f"{wrong} groups of four", "exactly two kept in each")

    @property
    def type(self) -> TensorType:
        return self.values.type

    @property
    def kept_count(self) -> int:
        """Number of elements under the mask."""
        return int(self.mask.sum())

    def decode(self) -> Tensor:
        values = self.values.decode()
        return torch.where(self.mask, values, torch.zeros((), dtype=values.dtype))

    def encode(self, w: Tensor) -> Sparse:
        return Sparse(self.pattern, self.mask, self.values.encode(w), self.axis)

    def stored_bytes(self, count: int) -> int:
        require(count == self.numel, "sparse", "a mask under a mask", "one mask, their conjunction")
        two_four = self.pattern == "two_four"
        mask = mask_bytes(self.numel) if two_four else packed_bytes(self.numel, 1)
        return mask + self.values.stored_bytes(self.kept_count)

    def parts(self, kept: Tensor | None = None) -> dict[str, Tensor]:
        require(kept is None, "sparse", "a mask under a mask", "one mask, their conjunction")
        inner = self.values.parts(self.mask)
        two_four = self.pattern == "two_four"
        mask = pack_mask(to_rows(self.mask, self.axis)) if two_four else pack(self.mask, 1)
        return {"mask": mask, **{f"values.{k}": v for k, v in inner.items()}}

    def attributes(self) -> dict[str, Any]:
        return {
            "pattern": self.pattern,
            "shape": list(self.mask.shape),
            "axis": self.axis,
            "values": to_json(self.values),
        }

    @classmethod
    def from_parts(
        cls,
        parts: Mapping[str, Tensor],
        attributes: Mapping[str, Any],
        kept: Tensor | None = None,
    ) -> Sparse:
        require(kept is None, "sparse", "a mask under a mask", "one mask, their conjunction")
        inner = nested(parts, "values")
        check_parts("sparse", parts, {"mask"}, {f"values.{k}" for k in inner})
        fields = Fields(attributes, "sparse")
        pattern = cast(Pattern, fields.choice("pattern", ("bitmask", "two_four")))
        shape, axis = fields.shape("shape"), fields.integer("axis", 0, 64)
        description = fields.mapping("values")
        fields.done()
        if pattern == "two_four":
            require_axis("sparse", shape, axis)
            rows = unpack_mask(parts["mask"], *rows_shape(shape, axis))
            mask = from_rows(rows, shape, axis)
        else:
            mask = unpack_tensor(parts["mask"], 1, shape).bool()
        return cls(pattern, mask, read_encoding(description, inner, mask), axis)

    def describe(self) -> str:
        return f"sparse({self.pattern}, {self.values.describe()})"


def elementwise(values: Encoding) -> str:
    """Why elements of `values` cannot be stored one by one under a mask; "" where they can."""
    match values:
        case Sparse():
            return "a mask under a mask is one mask, their conjunction"
        case Lut() if values.table.shape[3] > 1:
            return "an entry stands for several neighbours"
        case Outliers():
            return elementwise(values.base)
    return ""
