"""Attention over all keys, or those up to the query, for 5 queries and more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from edgec.ir.dims import Dim
from edgec.kernels.attention_mask import MaskType, mask_pointers, mask_sizes
from edgec.kernels.attention_operands import COUNTS, POINTERS, STRIDES, block_items
from edgec.kernels.attention_tiles import BLOCK, workspace_bytes
from edgec.kernels.body import Body
from edgec.kernels.deferred import T
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size


@dataclass(frozen=True)
class DenseAttention(Kernel):
    """o[b, h, t] = sum_s softmax_s(scale q[b, h, t] . k[b, h // group, s] + mask) v[.., s], f32.

    head_dim   D of q and k
    value_dim  D of v and o
    causal     query t sees keys s <= t, counted from the start of both
    mask       of [batch, heads, queries, keys] by strides; rows that see nothing give zeros
    """

    family: ClassVar[str] = "attention"

    head_dim: int
    value_dim: int
    causal: bool = False
    mask: MaskType = ""

    def parameters(self) -> tuple[Pointer | Size, ...]:
        masks = mask_pointers(self.mask)
        return (*POINTERS, *masks, *COUNTS, *STRIDES, *mask_sizes(self.mask))

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return block_items(sizes)

    def workspace_bytes(self, isa: InstructionSet) -> int:
        return workspace_bytes(isa, self.head_dim, self.value_dim)

    def emit(self, body: Body, isa: InstructionSet) -> None:
        from edgec.kernels.attention_emission import Visit, attend, start_item

        with body.items() as number:
            work = start_item(body, isa, number, self.head_dim, self.value_dim)
            item = work.item
            blocks = (body["keys"] + (BLOCK - 1)) // BLOCK
            if self.causal:
                blocks = T.min(blocks, (item.first + item.rows + (BLOCK - 1)) // BLOCK)
            with body.loop(0, blocks) as kb:
                attend(work, Visit(kb, causal=self.causal, mask=self.mask))
            work.finish()
