"""Attention of a few queries over many keys: a step of a decoder over its cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.attention_mask import MaskType, mask_pointers, mask_sizes
from edgec.kernels.attention_operands import COUNTS, POINTERS, STRIDES
from edgec.kernels.attention_tiles import decode_scratch
from edgec.kernels.body import Body
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size


@dataclass(frozen=True)
class DecodeAttention(Kernel):
    """DenseAttention for 1 to 8 queries or so, with the head dimension in the lanes throughout.

    An item is one batch and one head of keys: all queries of the heads that share it are done
    together, so that the cache is read once. Keys and values are read by strides, so that a
    cache may have room for more of them than there are.
    """

    family: ClassVar[str] = "decode attention"

    head_dim: int
    value_dim: int
    mask: MaskType = ""

    def parameters(self) -> tuple[Pointer | Size, ...]:
        masks = mask_pointers(self.mask)
        return (*POINTERS, *masks, *COUNTS, *STRIDES, *mask_sizes(self.mask))

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return dims.product((sizes["batch"], dims.floordiv(sizes["heads"], sizes["group"])))

    def workspace_bytes(self, isa: InstructionSet) -> int:
        return 4 * sum(decode_scratch(isa, self.head_dim, self.value_dim))

    def emit(self, body: Body, isa: InstructionSet) -> None:
        from edgec.kernels.attention_rows import QueryRows

        QueryRows(body, isa, self.head_dim, self.value_dim, self.mask).emit()
