"""The inner code of DecodeAttention: one query at a time against blocks of keys in the L1 cache.

Scores of w keys are w sums of products over the head dimension, reduced together by shuffles; w
is the greatest power of two that divides the head dimension, at most a vector. Softmax is online
as in attention_block.py.
"""

from __future__ import annotations

from typing import Any

from edgec.kernels.attention_mask import MaskType, mask_value
from edgec.kernels.attention_tiles import BLOCK, DECODE_ROWS, HIDDEN, LOG2E, START, decode_scratch
from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.scalars import exp2
from edgec.kernels.vectors import fold, load, row_sums, spread, store, widths

#: Vectors of values that one query sums at a time, for even and for odd keys.
_VALUE_VECTORS = 4


class QueryRows:
    """Scratch and steps; `emit` writes the whole kernel."""

    def __init__(
        self, body: Body, isa: InstructionSet, head_dim: int, value_dim: int, mask: MaskType
    ) -> None:
        self.body, self.lanes, self.mask = body, isa.lanes, mask
        self.head_dim, self.value_dim = head_dim, value_dim
        sizes = decode_scratch(isa, head_dim, value_dim)
        self.wide, self.tall = sizes[0] // DECODE_ROWS, sizes[2] // DECODE_ROWS
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self._views = list(zip(sizes, starts, strict=True))

    def emit(self) -> None:
        body = self.body
        few = body.let(tir.truncdiv(body["heads"], body["group"]))
        rows = body.let(body["group"] * body["queries"])
        self.factor = body.let(body["scale"] * body.f32(LOG2E))
        with body.items() as item:
            views = [body.workspace((n,), at=at) for n, at in self._views]
            self.queries, self.scores, self.out, self.highest, self.total = views
            self.batch = body.let(tir.truncdiv(item, few))
            self.few = body.let(tir.truncmod(item, few))
            with body.loop(0, (rows + (DECODE_ROWS - 1)) // DECODE_ROWS) as part:
                first = body.let(part * DECODE_ROWS)
                count = body.let(T.min(DECODE_ROWS, rows - first))
                with body.loop(0, count) as r:
                    self._begin(r, first + r)
                with body.loop(0, (body["keys"] + (BLOCK - 1)) // BLOCK) as kb:
                    base = body.let(kb * BLOCK)
                    keys = body.let(T.min(BLOCK, body["keys"] - base))
                    with body.loop(0, count) as r:
                        self._visit(r, first + r, base, keys)
                with body.loop(0, count) as r:
                    self._finish(r, first + r)

    def _head_and_position(self, row: Any) -> tuple[Any, Any]:
        body = self.body
        head = self.few * body["group"] + tir.truncdiv(row, body["queries"])
        return body.let(head), body.let(tir.truncmod(row, body["queries"]))

    def _offset(self, name: str, row: Any) -> Any:
        """Of a query in q or o."""
        body = self.body
        head, position = self._head_and_position(row)
        batch = self.batch * body[f"{name}_batch"]
        return body.let(batch + head * body[f"{name}_head"] + position * body[f"{name}_row"])

    def _keys(self, name: str, base: Any) -> Any:
        """Offset of the first key of a block in k or v."""
        body = self.body
        head = self.batch * body[f"{name}_batch"] + self.few * body[f"{name}_head"]
        return body.let(head + base * body[f"{name}_row"])

    def _begin(self, r: Any, row: Any) -> None:
        body, q = self.body, self.body.buffer("q")
        at: Any = 0
        offset = self._offset("q", row)
        for width in widths(self.head_dim, self.lanes):
            value = load(q, offset + at, width) * spread(self.factor, width)
            store(self.queries, value, r * self.wide + at, width)
            at += width
        for at in range(0, self.tall, self.lanes):
            store(self.out, spread(body.f32(0), self.lanes), r * self.tall + at, self.lanes)
        body.store(self.highest, body.f32(START), r)
        body.store(self.total, body.f32(0), r)

    def _visit(self, r: Any, row: Any, base: Any, keys: Any) -> None:
        """Query r of the scratch, which is number `row` of the item, against one block."""
        body, lanes = self.body, self.lanes
        vectors = body.let((keys + (lanes - 1)) // lanes)
        self._score(r, base, keys, vectors)
        if self.mask:
            self._add_mask(row, base, keys)
        most = body.registers((lanes,))
        store(most, spread(self.highest[r], lanes), 0, lanes)
        with body.loop(0, vectors) as c:
            store(most, T.max(load(most, 0, lanes), self._existing(c, keys)), 0, lanes)
        highest = body.let(fold(most, 0, lanes, T.max))
        alpha = body.let(exp2(self.highest[r] - highest))
        weights = body.registers((lanes,))
        total = body.registers((lanes,))
        store(total, spread(body.f32(0), lanes), 0, lanes)
        with body.loop(0, vectors) as c:
            store(weights, self._existing(c, keys), 0, lanes)
            with body.vector(lanes) as lane:
                body.store(self.scores, exp2(weights[lane] - highest), c * lanes + lane)
            summed = load(total, 0, lanes) + load(self.scores, c * lanes, lanes)
            store(total, summed, 0, lanes)
        summed = fold(total, 0, lanes, lambda a, b: a + b)
        body.store(self.total, self.total[r] * alpha + summed, r)
        self._gather(r, base, keys, alpha)
        body.store(self.highest, highest, r)

    def _existing(self, c: Any, keys: Any) -> Any:
        """Vector c of the scores, HIDDEN behind the last key."""
        at = c * self.lanes
        there = T.ramp(at, 1, self.lanes) < spread(keys, self.lanes)
        hidden = spread(self.body.f32(HIDDEN), self.lanes)
        return T.Select(there, load(self.scores, at, self.lanes), hidden)

    def _score(self, r: Any, base: Any, keys: Any, vectors: Any) -> None:
        body, k = self.body, self.body.buffer("k")
        width = 1
        while width < self.lanes and self.head_dim % (2 * width) == 0:
            width *= 2
        start = self._keys("k", base)
        with body.loop(0, vectors * (self.lanes // width)) as group:
            rows = [
                body.let(start + T.min(group * width + i, keys - 1) * body["k_row"])
                for i in range(width)
            ]
            acc = body.registers((width * width,))
            for i in range(width):
                store(acc, spread(body.f32(0), width), i * width, width)
            with body.loop(0, self.head_dim // width) as d:
                q = body.let(load(self.queries, r * self.wide + d * width, width))
                for i in range(width):
                    key = load(k, rows[i] + d * width, width)
                    at = i * width
                    store(acc, load(acc, at, width) + q * key, at, width)
            sums = row_sums([load(acc, i * width, width) for i in range(width)])
            store(self.scores, sums, group * width, width)

    def _add_mask(self, row: Any, base: Any, keys: Any) -> None:
        body, mask, lanes = self.body, self.body.buffer("mask"), self.lanes
        kind = "uint8" if self.mask == "bool" else self.mask
        head, position = self._head_and_position(row)
        at = self.batch * body["m_batch"] + head * body["m_head"] + position * body["m_row"]
        at = body.let(at + base * body["m_key"])
        done = body.let(T.Select(body["m_key"] == 1, keys // lanes, 0))
        with body.loop(0, done) as c:
            value = mask_value(load(mask, at + c * lanes, lanes), kind, lanes)
            store(self.scores, load(self.scores, c * lanes, lanes) + value, c * lanes, lanes)
        with body.loop(done * lanes, keys) as j:
            value = mask_value(mask[at + j * body["m_key"]], kind, 1)
            body.store(self.scores, self.scores[j] + value, j)

    def _gather(self, r: Any, base: Any, keys: Any, alpha: Any) -> None:
        """O = alpha O + P V."""
        start, row = self._keys("v", base), r * self.tall
        rest, done = widths(self.value_dim, self.lanes), 0
        while rest:
            cut, rest = rest[:_VALUE_VECTORS], rest[_VALUE_VECTORS:]
            self._values(start + done, row + done, cut, keys, alpha)
            done += sum(cut)

    def _values(self, start: Any, out: Any, cut: list[int], keys: Any, alpha: Any) -> None:
        body, v, lanes = self.body, self.body.buffer("v"), self.lanes
        starts = [sum(cut[:i]) for i in range(len(cut))]
        parts = [(i, at, n) for i, (at, n) in enumerate(zip(starts, cut, strict=True))]
        acc = body.registers((2 * len(cut) * lanes,))
        for i, at, n in parts:
            store(acc, load(self.out, out + at, n) * spread(alpha, n), i * lanes, n)
            store(acc, spread(body.f32(0), n), (len(cut) + i) * lanes, n)

        def add(j: Any, half: int) -> None:
            weight = body.let(self.scores[j])
            row = body.let(start + j * body["v_row"])
            for i, at, n in parts:
                to = (half * len(cut) + i) * lanes
                value = spread(weight, n) * load(v, row + at, n)
                store(acc, load(acc, to, n) + value, to, n)

        with body.loop(0, keys // 2) as j:
            add(j * 2, 0)
            add(j * 2 + 1, 1)
        with body.loop(keys // 2 * 2, keys) as j:
            add(j, 0)
        for i, at, n in parts:
            both = load(acc, i * lanes, n) + load(acc, (len(cut) + i) * lanes, n)
            store(self.out, both, out + at, n)

    def _finish(self, r: Any, row: Any) -> None:
        body, o, at = self.body, self.body.buffer("o"), 0
        offset = self._offset("o", row)
        inverse = body.let(body.f32(1) / T.max(self.total[r], body.f32(1e-30)))
        for width in widths(self.value_dim, self.lanes):
            value = load(self.out, r * self.tall + at, width) * spread(inverse, width)
            store(o, value, offset + at, width)
            at += width
