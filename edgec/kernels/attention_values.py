"""The second half of attention over blocks: O = P V, and the result."""

from __future__ import annotations

from typing import Any

from edgec.kernels.attention_scratch import Rows, Scratch, Spans
from edgec.kernels.attention_tiles import BLOCK
from edgec.kernels.deferred import T
from edgec.kernels.vectors import load, spread, store, widths


class Values(Scratch):
    """Step 3 of attention_block.py."""

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
