"""One visit of a block of keys by a block of queries, whatever says which blocks are visited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as T
from tvm.tirx import truncmod

from edgec.kernels.attention_block import QueryBlock, Start
from edgec.kernels.attention_mask import MaskBlock, MaskType, hide_later
from edgec.kernels.attention_operands import Item, item_of
from edgec.kernels.attention_tiles import BLOCK
from edgec.kernels.body import Body
from edgec.kernels.instruction_sets import InstructionSet


@dataclass(frozen=True)
class Work:
    """An item, its scratch, and the order of tokens: a buffer, and where the head's list starts."""

    body: Body
    item: Item
    block: QueryBlock
    order: tuple[Any, Any] | None

    def position(self, x: Any) -> Any:
        """Where in the sequence the x-th token is."""
        if self.order is None:
            return x
        buffer, at = self.order
        return buffer[at + x]

    def row(self, name: str, x: Any) -> Any:
        """Offset of the x-th token in q, k, v or o."""
        return self.item.offsets[name] + self.position(x) * self.body[f"{name}_row"]

    def finish(self) -> None:
        self.block.finish(self.body.buffer("o"), lambda i: self.row("o", self.item.first + i))


@dataclass(frozen=True)
class Visit:
    """Block number `kb` of keys; `tile` is the number of its tile in `bias`, -1 for none."""

    kb: Any
    causal: bool = False
    mask: MaskType = ""
    bias: Any = None
    tile: Any = None


def start_item(
    body: Body,
    isa: InstructionSet,
    number: Any,
    head_dim: int,
    value_dim: int,
    order: tuple[Any, Any] | None = None,
) -> Work:
    item = item_of(body, number)
    block = QueryBlock(body, isa, head_dim, value_dim)
    if order is not None:
        buffer, period = order
        order = buffer, body.let(truncmod(item.head, period) * body["queries"])
    work = Work(body, item, block, order)
    q = body.buffer("q")
    block.begin(q, lambda i: work.row("q", item.first + i), item.rows, body["scale"])
    return work


def attend(work: Work, visit: Visit) -> None:
    body, item, block = work.body, work.item, work.block
    base = body.let(visit.kb * BLOCK)
    keys = body.let(T.min(BLOCK, body["keys"] - base))
    start = None
    seen = None
    if visit.mask:
        at = item.batch * body["m_batch"] + item.head * body["m_head"]
        mask = MaskBlock(
            body.let(at),
            lambda i: work.position(item.first + i),
            lambda j: work.position(base + j),
            contiguous=work.order is None,
        )
        seen = mask.fill(body, block, visit.mask, keys)
        start = Start(block.scores, 0)
    if visit.causal:
        reaches = base + (BLOCK - 1) > item.first
        with body.when(reaches):
            hide_later(body, block, base - item.first, keys, filled=bool(visit.mask))
        start = start or Start(block.scores, 0, reaches)
    if visit.bias is not None:
        tile = Start(visit.bias, visit.tile * (BLOCK * BLOCK), visit.tile >= 0)
        if start is not None:
            with body.when(visit.tile >= 0):
                block.add_tile(tile, keys)
        else:
            start = tile

    def products() -> None:
        block.weigh(body.buffer("k"), lambda j: work.row("k", base + j), keys, start)
        block.gather(body.buffer("v"), lambda j: work.row("v", base + j), keys)

    if seen is None:
        products()
    else:
        with body.when(seen):
            products()
