"""The scratch of one block of queries, and what may be hidden from them in a block of keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgec.kernels.attention_tiles import BLOCK, START, attention_tiles, scratch
from edgec.kernels.body import Body
from edgec.kernels.deferred import T
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.vectors import fold, load, spread, store

#: Offset in elements of row x of a block.
Rows = Callable[[Any], Any]


@dataclass(frozen=True)
class Start:
    """Where the accumulators of S^T begin, instead of at zero.

    buffer, at   [keys, BLOCK] floats from element `at` on
    """

    buffer: Any
    at: Any


@dataclass(frozen=True)
class Spans:
    """For each query the first key that it sees and the one behind the last: i32[BLOCK] each.

    What lies outside of them is left out: half of a block on the edge of a window.
    """

    first: Any
    last: Any
    keys: Any

    def of(self, body: Body, at: Any, count: int, step: int) -> tuple[Any, Any]:
        """The union of the spans of queries [at, at + count), as whole steps of keys."""
        first = body.let(fold(self.first, at, count, T.min) // step * step)
        last = (fold(self.last, at, count, T.max) + (step - 1)) // step * step
        return first, body.let(T.max(T.min(last, self.keys), first))


class Scratch:
    """Views of the workspace for the queries [0, rows) of a block.

    queries   Q^T [head_dim, BLOCK]
    scores    S^T and P^T [keys, BLOCK]
    out       O [BLOCK, row]
    highest, total, alpha   maximum, sum and factor of each query
    vectors   of queries that there are; vectors_row: of a whole block
    """

    rows: Any
    vectors: Any

    def __init__(self, body: Body, isa: InstructionSet, head_dim: int, value_dim: int) -> None:
        self.body, self.lanes = body, isa.lanes
        self.tiles = attention_tiles(isa)
        self.head_dim, self.value_dim = head_dim, value_dim
        self.vectors_row = BLOCK // isa.lanes
        sizes = scratch(isa, head_dim, value_dim)
        self.row = sizes[2] // BLOCK
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        views = [body.workspace((n,), at=at) for n, at in zip(sizes, starts, strict=True)]
        self.queries, self.scores, self.out, self.highest, self.total, self.alpha = views

    def clamp(self, i: Any) -> Any:
        """Row i, or the last one."""
        return T.min(i, self.rows - 1)

    def find_spans(self, start: Start, keys: Any) -> Spans:
        """Of the pairs that `start` does not hide."""
        body, lanes = self.body, self.lanes
        spans = Spans(body.registers((BLOCK,), "int32"), body.registers((BLOCK,), "int32"), keys)
        with body.loop(0, self.vectors) as w:
            first, last = (body.registers((lanes,), "int32") for _ in range(2))
            store(first, spread(keys, lanes), 0, lanes)
            store(last, spread(body.i32(0), lanes), 0, lanes)
            with body.loop(0, keys) as j:
                value = load(start.buffer, start.at + j * BLOCK + w * lanes, lanes)
                seen = value > spread(body.f32(START), lanes)
                least = T.min(load(first, 0, lanes), spread(j, lanes))
                store(first, T.Select(seen, least, load(first, 0, lanes)), 0, lanes)
                store(last, T.Select(seen, spread(j + 1, lanes), load(last, 0, lanes)), 0, lanes)
            store(spans.first, load(first, 0, lanes), w * lanes, lanes)
            store(spans.last, load(last, 0, lanes), w * lanes, lanes)
        return spans
