"""The inner code of attention over blocks: 64 queries of one head against blocks of keys.

Flash attention (Dao et al. 2022, arXiv:2205.14135, algorithm 1), laid out for vector units:

  1. S^T = K Q^T with queries in the lanes. K is read element by element as it lies, only Q is
     transposed, once for each block of queries. The running maximum is taken from the registers.
  2. P = 2^(S - max), lanes are still queries; log2(e) is part of the scale.
  3. O = diag(alpha) O + P V with the head dimension in the lanes; V is read as it lies.

Nothing is read or written beyond the last query and the last key: rows of queries behind the end
are copies of the last one whose results are not stored. Where a tile of keys reaches behind the
end it computes the last key again, which changes no maximum; P V stops at the last key.

Three magnitudes stand for what is not seen. HIDDEN marks a pair that the pattern, a bool mask or
minus infinity hides; a row that has seen nothing keeps START, so that HIDDEN gives 2^-1e38 = 0 and
the row zeros. LOWEST is the least value of a float mask: a row that is at it everywhere (masks of
finfo.min) is the mean of its values, as in torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm
from tvm.script.ir_builder import tirx as T

from edgec.kernels.attention_tiles import BLOCK, HIDDEN, attention_tiles, scratch
from edgec.kernels.body import Body
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.scalars import exp2
from edgec.kernels.vectors import fold, load, spread, store, transpose, widths

START, LOWEST = -2e38, -1e38
LOG2E = math.log2(math.e)

#: Offset in elements of row x of a block.
Rows = Callable[[Any], Any]


def mask_value(element: Any, dtype: str, lanes: int) -> Any:
    """What an element of a mask adds to a score in base 2."""
    if dtype == "uint8":
        seen = element != spread(tvm.tirx.const(0, "uint8"), lanes)
        return T.Select(seen, spread(Body.f32(0), lanes), spread(Body.f32(HIDDEN), lanes))
    scaled = T.max(element * spread(Body.f32(LOG2E), lanes), spread(Body.f32(LOWEST), lanes))
    finite = element >= spread(Body.f32(-3.4028234663852886e38), lanes)
    return T.Select(finite, scaled, spread(Body.f32(HIDDEN), lanes))


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


@dataclass(frozen=True)
class _Tile:
    """`keys` rows of S^T from `first` on, `vectors` vectors of queries from `column` on."""

    first: Any
    keys: int
    column: Any
    vectors: int

    def places(self, lanes: int) -> list[tuple[int, int, int]]:
        """(key, vector, where its accumulator is)."""
        pairs = [(r, w) for r in range(self.keys) for w in range(self.vectors)]
        return [(r, w, (r * self.vectors + w) * lanes) for r, w in pairs]


class QueryBlock:
    """Scratch and steps for the queries [0, rows) of a block; `emit` calls them in order."""

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

    def add_tile(self, tile: Start, keys: Any) -> None:
        """Add a tile to the scores, which hold a mask."""
        with self.body.loop(0, keys * self.vectors_row) as i:
            at = i * self.lanes
            both = load(self.scores, at, self.lanes) + load(tile.buffer, tile.at + at, self.lanes)
            store(self.scores, both, at, self.lanes)

    # ------------------------------------------------------------------ 0. queries
    def begin(self, q: Any, row: Rows, rows: Any, scale: Any) -> None:
        """Q^T times scale and log2(e); nothing seen yet. `row` is asked for rows < `rows` only."""
        body, lanes = self.body, self.lanes
        self.rows = rows
        self.vectors = body.let((rows + (lanes - 1)) // lanes)
        factor = body.let(scale * body.f32(LOG2E))
        with body.loop(0, self.vectors) as w:
            offsets = [body.let(row(self.clamp(w * lanes + r))) for r in range(lanes)]
            full = self.head_dim // lanes
            if full:
                with body.loop(0, full) as c:
                    self._transpose(q, offsets, c * lanes, w * lanes, lanes, factor)
            at = full * lanes
            for width in widths(self.head_dim % lanes, lanes):
                for part in range(0, lanes, width):
                    some = offsets[part : part + width]
                    self._transpose(q, some, at, w * lanes + part, width, factor)
                at += width
        zero, start = (spread(body.f32(x), lanes) for x in (0, START))
        with body.loop(0, self.vectors) as w:
            store(self.highest, start, w * lanes, lanes)
            store(self.total, zero, w * lanes, lanes)
        with body.loop(0, self.vectors * lanes * (self.row // lanes)) as i:
            store(self.out, zero, i * lanes, lanes)

    def _transpose(
        self, q: Any, offsets: list[Any], d: Any, column: Any, width: int, factor: Any
    ) -> None:
        loaded = [self.body.let(load(q, o + d, width) * spread(factor, width)) for o in offsets]
        for i, vector in enumerate(transpose(loaded)):
            store(self.queries, vector, (d + i) * BLOCK + column, width)

    # ------------------------------------------------------------------ 1. and 2. P
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

    def weigh(
        self,
        k: Any,
        row: Rows,
        keys: Any,
        start: Start | None = None,
        spans: Spans | None = None,
    ) -> None:
        """P of the keys [0, keys) of a block, or of `spans`; the new maxima, sums and alpha."""
        body, tiles = self.body, self.tiles
        if spans is not None:
            with body.loop(0, self.vectors) as w:
                seen = spans.of(body, w * self.lanes, self.lanes, tiles.unroll)
                self._panel(k, row, keys, start, w * self.lanes, 1, tiles.single_keys, seen)
            return
        several = tiles.query_vectors
        panels = body.let(self.vectors // several)
        with body.loop(0, panels) as p:
            self._panel(k, row, keys, start, p * (several * self.lanes), several, tiles.keys)
        if several > 1:
            with body.loop(panels * several, self.vectors) as w:
                self._panel(k, row, keys, start, w * self.lanes, 1, tiles.single_keys)

    def _panel(
        self,
        k: Any,
        row: Rows,
        keys: Any,
        start: Start | None,
        column: Any,
        count: int,
        step: int,
        span: tuple[Any, Any] | None = None,
    ) -> None:
        """`count` vectors of queries from `column` on, against `span` or all keys."""
        body, lanes = self.body, self.lanes
        first, last = span or (0, keys)
        highest = body.registers((count * lanes,))
        for w in range(count):
            store(highest, load(self.highest, column + w * lanes, lanes), w * lanes, lanes)
        with body.loop(first // step, (last + (step - 1)) // step) as t:
            tile = _Tile(t * step, step, column, count)
            self._scores(k, row, keys, start, tile, highest)
        self._softmax(first, last, column, count, highest)

    def _scores(
        self, k: Any, row: Rows, keys: Any, start: Start | None, tile: _Tile, highest: Any
    ) -> None:
        body, lanes, step, count = self.body, self.lanes, tile.keys, tile.vectors
        acc = body.registers((step * count * lanes,))
        existing = [body.let(T.min(tile.first + r, keys - 1)) for r in range(step)]
        offsets = [body.let(row(x)) for x in existing]
        self._start(acc, start, existing, tile)
        unroll = math.gcd(self.head_dim, self.tiles.unroll)
        with body.loop(0, self.head_dim // unroll) as outer:
            for inner in range(unroll):
                d = outer * unroll + inner
                at = d * BLOCK + tile.column
                q = [body.let(load(self.queries, at + w * lanes, lanes)) for w in range(count)]
                for r in range(step):
                    key = body.let(k[offsets[r] + d])
                    for w in range(count):
                        to = (r * count + w) * lanes
                        store(acc, load(acc, to, lanes) + spread(key, lanes) * q[w], to, lanes)
        for r, w, at in tile.places(lanes):
            to = (tile.first + r) * BLOCK + tile.column + w * lanes
            store(self.scores, load(acc, at, lanes), to, lanes)
        for w in range(count):
            terms = [load(acc, (r * count + w) * lanes, lanes) for r in range(step)]
            while len(terms) > 1:  # pairwise, so that few comparisons wait for each other
                rest = terms[len(terms) // 2 * 2 :]
                terms = [T.max(*terms[i : i + 2]) for i in range(0, len(terms) - 1, 2)] + rest
            store(highest, T.max(load(highest, w * lanes, lanes), terms[0]), w * lanes, lanes)

    def _start(self, acc: Any, start: Start | None, existing: list[Any], tile: _Tile) -> None:
        """What the accumulators begin with."""
        lanes = self.lanes
        for r, w, to in tile.places(lanes):
            value = spread(self.body.f32(0), lanes)
            if start is not None:
                at = start.at + existing[r] * BLOCK + tile.column + w * lanes
                value = load(start.buffer, at, lanes)
            store(acc, value, to, lanes)

    def _softmax(self, first: Any, last: Any, column: Any, count: int, highest: Any) -> None:
        body, lanes = self.body, self.lanes
        total = body.registers((count * lanes,))
        for w in range(count):
            with body.vector(lanes) as lane:
                at = w * lanes + lane
                old = self.highest[column + at]
                body.store(self.alpha, exp2(old - highest[at]), column + at)
            with body.vector(lanes) as lane:
                at = w * lanes + lane
                body.store(total, self.total[column + at] * self.alpha[column + at], at)
            with body.vector(lanes) as lane:
                at = w * lanes + lane
                body.store(self.highest, highest[at], column + at)
        with body.loop(first, last) as j:
            for w in range(count):
                weight = body.registers((lanes,))
                with body.vector(lanes) as lane:
                    at = w * lanes + lane
                    score = self.scores[j * BLOCK + column + at]
                    body.store(weight, exp2(score - highest[at]), lane)
                with body.vector(lanes) as lane:
                    at = w * lanes + lane
                    body.store(self.scores, weight[lane], j * BLOCK + column + at)
                with body.vector(lanes) as lane:
                    at = w * lanes + lane
                    body.store(total, total[at] + weight[lane], at)
        for w in range(count):
            store(self.total, load(total, w * lanes, lanes), column + w * lanes, lanes)

    # ------------------------------------------------------------------ 3. O
    def gather(self, v: Any, row: Rows, keys: Any, spans: Spans | None = None) -> None:
        """O = diag(alpha) O + P V over the keys [0, keys) of a block, or over `spans`."""
        body, lanes, most = self.body, self.lanes, self.tiles.value_vectors
        groups = self.value_dim // lanes // most
        if groups:
            with body.loop(0, groups) as g:
                self._values(v, row, keys, spans, g * (most * lanes), [lanes] * most)
        done = groups * most * lanes
        rest = widths(self.value_dim - done, lanes)
        while rest:
            cut, rest = rest[:most], rest[most:]
            self._values(v, row, keys, spans, done, cut)
            done += sum(cut)

    def _values(
        self, v: Any, row: Rows, keys: Any, spans: Spans | None, d: Any, cut: list[int]
    ) -> None:
        """Columns of V from d on, as vectors of the widths `cut`."""
        body, queries, unroll = self.body, self.tiles.queries, self.tiles.unroll
        starts = [sum(cut[:i]) for i in range(len(cut))]
        vectors = list(zip(starts, cut, strict=True))
        with body.loop(0, (self.rows + (queries - 1)) // queries) as tile:
            flat = [(r, i, at, n) for r in range(queries) for i, (at, n) in enumerate(vectors)]
            places = {(r, i): r * self.lanes * len(cut) + i * self.lanes for r, i, _, _ in flat}
            acc = body.registers((queries * self.lanes * len(cut),))
            for r in range(queries):
                alpha = body.let(self.alpha[tile * queries + r])
                for i, (at, n) in enumerate(vectors):
                    old = load(self.out, (tile * queries + r) * self.row + d + at, n)
                    store(acc, old * spread(alpha, n), places[r, i], n)

            def add(j: Any) -> None:
                value_row = body.let(row(j) + d)
                values = [body.let(load(v, value_row + at, n)) for at, n in vectors]
                for r in range(queries):
                    weight = body.let(self.scores[j * BLOCK + tile * queries + r])
                    for i, (_, n) in enumerate(vectors):
                        at = places[r, i]
                        store(acc, load(acc, at, n) + spread(weight, n) * values[i], at, n)

            first, last = spans.of(body, tile * queries, queries, unroll) if spans else (0, keys)
            whole = body.let((last - first) // unroll)
            with body.loop(0, whole) as outer:
                for inner in range(unroll):
                    add(first + outer * unroll + inner)
            with body.loop(first + whole * unroll, last) as j:
                add(j)
            for r, i, at, n in flat:
                to = (tile * queries + r) * self.row + d + at
                store(self.out, load(acc, places[r, i], n), to, n)

    def finish(self, o: Any, row: Rows) -> None:
        """Write O; the floor keeps rows that saw nothing at 0 instead of NaN."""
        body, lanes = self.body, self.lanes
        with body.loop(0, self.rows) as i:
            inverse = body.let(body.f32(1) / T.max(self.total[i], body.f32(1e-30)))
            to = body.let(row(i))
            full = self.value_dim // lanes
            if full:
                with body.loop(0, full) as c:
                    at = c * lanes
                    value = load(self.out, i * self.row + at, lanes) * spread(inverse, lanes)
                    store(o, value, to + at, lanes)
            at = full * lanes
            for width in widths(self.value_dim % lanes, lanes):
                value = load(self.out, i * self.row + at, width) * spread(inverse, width)
                store(o, value, to + at, width)
                at += width
