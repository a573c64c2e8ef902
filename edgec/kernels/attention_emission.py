"""One visit of a block of keys by a block of queries, whatever says which blocks are visited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgec.kernels.attention_block import QueryBlock
from edgec.kernels.attention_mask import MaskBlock, MaskType, hide_later
from edgec.kernels.attention_operands import Item, item_of
from edgec.kernels.attention_scratch import Spans, Start
from edgec.kernels.attention_tiles import BLOCK
from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
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
        order = buffer, body.let(tir.truncmod(item.head, period) * body["queries"])
    work = Work(body, item, block, order)
    q = body.buffer("q")
    block.begin(q, lambda i: work.row("q", item.first + i), item.rows, body["scale"])
    return work


def attend(work: Work, visit: Visit) -> None:
    """All of a visit: what is hidden, then the two products."""
    body, item, block = work.body, work.item, work.block
    base = body.let(visit.kb * BLOCK)
    keys = body.let(T.min(BLOCK, body["keys"] - base))
    if visit.mask:
        _attend_masked(work, visit, base, keys)
    elif visit.bias is not None:
        tile = Start(visit.bias, visit.tile * (BLOCK * BLOCK))
        with body.when(visit.tile >= 0):
            _products(work, base, keys, tile, block.find_spans(tile, keys))
        with body.when(visit.tile < 0):
            _products(work, base, keys)
    elif visit.causal:
        reaches = body.let(base + (BLOCK - 1) > item.first)
        with body.when(reaches):
            hide_later(body, block, base - item.first, keys, filled=False)
            hidden = Start(block.scores, 0)
            _products(work, base, keys, hidden, block.find_spans(hidden, keys))
        with body.when(tir.Not(reaches)):
            _products(work, base, keys)
    else:
        _products(work, base, keys)


def _attend_masked(work: Work, visit: Visit, base: Any, keys: Any) -> None:
    """The scores begin with the mask, and what is hidden otherwise is added to it."""
    body, item, block = work.body, work.item, work.block
    mask = MaskBlock(
        body.let(item.batch * body["m_batch"] + item.head * body["m_head"]),
        lambda i: work.position(item.first + i),
        lambda j: work.position(base + j),
        contiguous=work.order is None,
    )
    with body.when(mask.fill(body, block, visit.mask, keys)):
        if visit.causal:
            with body.when(base + (BLOCK - 1) > item.first):
                hide_later(body, block, base - item.first, keys, filled=True)
        if visit.bias is not None:
            with body.when(visit.tile >= 0):
                block.add_tile(Start(visit.bias, visit.tile * (BLOCK * BLOCK)), keys)
        _products(work, base, keys, Start(block.scores, 0))


def _products(
    work: Work, base: Any, keys: Any, start: Start | None = None, spans: Spans | None = None
) -> None:
    body, block = work.body, work.block
    block.weigh(body.buffer("k"), lambda j: work.row("k", base + j), keys, start, spans)
    block.gather(body.buffer("v"), lambda j: work.row("v", base + j), keys, spans)
