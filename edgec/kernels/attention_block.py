"""The inner code of attention over blocks: 64 queries of one head against blocks of keys.

Flash attention (Dao et al. 2022, arXiv:2205.14135, algorithm 1), laid out for vector units:

  1. S^T = K Q^T with queries in the lanes. K is read element by element as it lies, only Q is
     transposed, once for each block of queries. The running maximum is taken from the registers.
  2. P = 2^(S - max), lanes are still queries; log2(e) is part of the scale.
  3. O = diag(alpha) O + P V with the head dimension in the lanes; V is read as it lies.

Nothing is read or written beyond the last query and the last key: rows of queries behind the end
are copies of the last one whose results are not stored. Where a tile of keys reaches behind the
end it computes the last key again, which changes no maximum; P V stops at the last key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edgec.kernels.attention_scratch import Rows, Spans, Start
from edgec.kernels.attention_tiles import BLOCK, LOG2E, START
from edgec.kernels.attention_values import Values
from edgec.kernels.deferred import T
from edgec.kernels.scalars import exp2
from edgec.kernels.vectors import load, spread, store, transpose, widths


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


class QueryBlock(Values):
    """The steps for the queries of a block, in order."""

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
