"""Block-sparse attention: one kernel for all patterns, driven by tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from edgec.ir.dims import Dim
from edgec.kernels.attention_mask import MaskType, mask_pointers, mask_sizes
from edgec.kernels.attention_operands import COUNTS, POINTERS, STRIDES, block_items
from edgec.kernels.attention_tiles import BLOCK, workspace_bytes
from edgec.kernels.body import Body
from edgec.kernels.deferred import tir
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size


@dataclass(frozen=True)
class SparseAttention(Kernel):
    """DenseAttention over the pairs that a block table names (block_table.py).

    head_dim   D of q and k
    value_dim  D of v and o
    ordered    the table's positions are those of the list `order` [period, queries] of tokens,
               where queries = keys: what is dense after a permutation of the tokens
    mask       of [batch, heads, queries, keys] by strides, beside the table

    Head h has table h % period: rows (h % period) * q_blocks + block of `row_ptr`.
    """

    family: ClassVar[str] = "sparse attention"

    head_dim: int
    value_dim: int
    ordered: bool = False
    mask: MaskType = ""

    def parameters(self) -> tuple[Pointer | Size, ...]:
        table = [Pointer(x, "int32") for x in ("row_ptr", "col_idx", "tile_id")]
        order = [Pointer("order", "int32")] if self.ordered else []
        pointers = (*POINTERS, *table, Pointer("bias"), *order, *mask_pointers(self.mask))
        return (*pointers, *COUNTS, Size("period"), *STRIDES, *mask_sizes(self.mask))

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return block_items(sizes)

    def workspace_bytes(self, isa: InstructionSet) -> int:
        return workspace_bytes(isa, self.head_dim, self.value_dim)

    def emit(self, body: Body, isa: InstructionSet) -> None:
        from edgec.kernels.attention_emission import Visit, attend, start_item

        row_ptr, col_idx, tile_id = (body.buffer(x) for x in ("row_ptr", "col_idx", "tile_id"))
        bias = body.buffer("bias")
        order = (body.buffer("order"), body["period"]) if self.ordered else None
        with body.items() as number:
            work = start_item(body, isa, number, self.head_dim, self.value_dim, order)
            blocks = (body["queries"] + (BLOCK - 1)) // BLOCK
            row = body.let(tir.truncmod(work.item.head, body["period"]) * blocks + work.item.block)
            with body.loop(row_ptr[row], row_ptr[row + 1]) as p:
                tile = body.let(tile_id[p])
                attend(work, Visit(body.let(col_idx[p]), mask=self.mask, bias=bias, tile=tile))
            work.finish()
