"""The inner code of all matrix products: rows of one operand times a panel of the other.

A panel is [k][PANEL] in f32, so that vectors lie along its columns; of the other operand one
number at a time is spread over a vector. Sums are kept in `sums` [rows][PANEL] of the workspace
between the parts of k, and registers hold those of one tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgec.kernels.body import Body
from edgec.kernels.deferred import T
from edgec.kernels.prefetch import Ahead, Share
from edgec.kernels.tiles import PANEL, Blocking, Tile

#: (row, k) -> the number of the left operand; (k, column) -> of the panel.
Element = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Product:
    """sums[first + r, c] += sum over k < depth of left(r, k) * right(k, c), r < rows, c < PANEL.

    ahead   what to fetch meanwhile, as long as this depth
    start   (whether the sums begin here, what those of a row begin as)
    """

    body: Body
    blocking: Blocking
    lanes: int
    left: Element
    right: Element
    sums: Any
    first: Any = 0
    ahead: Ahead | None = None
    start: tuple[Any, Callable[[Any], Any]] | None = None

    def emit(self, rows: Any, depth: Any) -> None:
        """All row tiles, largest first."""
        body = self.body
        first = body.i32(0)
        for tile in self.blocking.tiles:
            count = body.held((rows - first) // tile.rows)
            with body.loop(0, PANEL // tile.cols) as column:
                with body.loop(0, count) as i:
                    row, number = first + i * tile.rows, column * count + i
                    self._tile(tile, row, column * tile.cols, depth, number)
            first = body.held(first + count * tile.rows)

    def _tile(self, tile: Tile, row: Any, column: Any, depth: Any, number: Any) -> None:
        body, unroll = self.body, self.blocking.unroll
        sums = body.registers((tile.split * tile.rows * tile.cols,))
        self._begin(sums, tile, row, column)
        share: Share | None = None
        if self.ahead is not None and tile is self.blocking.tiles[0]:
            share = self.ahead.share(number, depth // unroll, unroll)
        with body.loop(0, depth // unroll) as turn:
            for step in range(unroll):
                self._step(sums, tile, row, column, turn * unroll + step, step % tile.split)
            if share is not None:
                share.fetch(turn)
        with body.loop(0, depth % unroll) as rest:
            self._step(sums, tile, row, column, depth // unroll * unroll + rest, 0)
        self._store(sums, tile, row, column)

    def _begin(self, sums: Any, tile: Tile, row: Any, column: Any) -> None:
        if self.start is None:
            self._load(sums, tile, row, column)
            return
        fresh, value = self.start
        with T.If(fresh):
            with T.Then():
                self._fill(sums, tile, lambda r: value(self.first + row + r))
            with T.Else():
                self._load(sums, tile, row, column)

    def _fill(self, sums: Any, tile: Tile, value: Callable[[int], Any]) -> None:
        body, lanes = self.body, self.lanes
        for part in range(tile.split):
            for r in range(tile.rows):
                filled = body.let(body.f32(0) if part else value(r))
                for c in range(0, tile.cols, lanes):
                    at = (part * tile.rows + r) * tile.cols + c
                    with body.vector(lanes) as lane:
                        body.store(sums, filled, at + lane)

    def _load(self, sums: Any, tile: Tile, row: Any, column: Any) -> None:
        body, lanes = self.body, self.lanes
        for part in range(tile.split):
            for r in range(tile.rows):
                for c in range(0, tile.cols, lanes):
                    at = (part * tile.rows + r) * tile.cols + c
                    with body.vector(lanes) as lane:
                        old = self.sums[self.first + row + r, column + c + lane]
                        body.store(sums, body.f32(0) if part else old, at + lane)

    def _step(self, sums: Any, tile: Tile, row: Any, column: Any, k: Any, part: int) -> None:
        body, lanes = self.body, self.lanes
        for r in range(tile.rows):
            for c in range(0, tile.cols, lanes):
                at = (part * tile.rows + r) * tile.cols + c
                with body.vector(lanes) as lane:
                    product = self.left(row + r, k) * self.right(k, column + c + lane)
                    body.store(sums, sums[at + lane] + product, at + lane)

    def _store(self, sums: Any, tile: Tile, row: Any, column: Any) -> None:
        body, lanes = self.body, self.lanes
        for r in range(tile.rows):
            for c in range(0, tile.cols, lanes):
                at, part = r * tile.cols + c, tile.rows * tile.cols
                with body.vector(lanes) as lane:
                    total = sums[at + lane]
                    for other in range(1, tile.split):
                        total = total + sums[other * part + at + lane]
                    body.store(self.sums, total, self.first + row + r, column + c + lane)


def depth_parts(body: Body, k: Any, blocking: Blocking) -> tuple[Any, Any]:
    """(number of parts of k, length of each but the last): parts of equal length, a multiple of 4.

    Equal parts keep the last one from being so short that its sums are loaded for little. There is
    one at least: it may be empty, and is divided by.
    """
    count = body.held(T.max((k + blocking.depth - 1) // blocking.depth, body.i32(1)))
    each = body.held((k + count * 4 - 1) // (count * 4) * 4)
    return count, each
