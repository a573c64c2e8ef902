"""What windows over two axes read, as panels [k][PANEL], by way of staged rows.

As `patches.py`, for the same rows k and columns, but in vectors for strides too: each channel
is staged with its padding (`bands.py`), and a tap then reads neighbours for neighbouring places of
a row of the output. Vectors are stored over the end of such a row, where the next one follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgec.kernels.bands import Band, Bands, Columns, Stage
from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.patches import Windows
from edgec.kernels.tiles import PANEL
from edgec.kernels.vectors import load, store


def is_staged(windows: Windows) -> bool:
    """Whether windows are over two axes, and do not read neighbours for neighbouring places.

    Those that do are packed faster from where they are, as long as the output has the size of x.
    """
    flat = (windows.kernel[0], windows.stride[0], windows.low[0]) == (1, 1, 0)
    return flat and not windows.transposed and not windows.steady


def bands_of(windows: Windows) -> Bands:
    """Room for PANEL places, one row of them or several narrow ones."""
    reach = [Bands(windows, 0).reach(axis) for axis in (1, 2)]
    most = 0
    for wide in range(1, PANEL + 1):
        rows = 1 if wide == PANEL else (2 * PANEL + wide - 2) // wide
        most = max(most, (rows + reach[0]) * (wide + reach[1]))
    return Bands(windows, most)


@dataclass(frozen=True)
class _Piece:
    """Places of one block that are staged together: a part of a row, or narrow rows of a plane.

    band     their rows and columns; the first row is entered at column `enter` of it
    place    number of the first of them in the block, and `count` of them
    plane    where their plane begins in a channel of x
    """

    band: Band
    enter: Any
    place: Any
    count: Any
    plane: Any


@dataclass(frozen=True)
class StagedPatches:
    """Packs panels for one block of PANEL places of the output.

    out      flat view of the workspace, of rows of `width` elements
    staged   flat view of the workspace, of bands_of(windows).plane elements
    """

    body: Body
    lanes: int
    windows: Windows
    out: Any
    width: int
    staged: Any

    def block(self, first: Any) -> StagedBlock:
        return StagedBlock(self, first)


@dataclass(frozen=True)
class StagedBlock:
    """Places [first, first + PANEL), as far as there are so many."""

    patches: StagedPatches
    first: Any

    def pack(self, image: Any, first: Any, depth: Any) -> None:
        """out[i] = row first + i of the panel, for i < depth; `image` is where channel 0 begins."""
        body = self.patches.body
        high, wide = body["oh"], body["ow"]
        places = body.held(body["od"] * high * wide)
        end = body.held(T.min(self.first + PANEL, places))
        line, last = body.held(self.first // wide), body.held((end - 1) // wide)
        planes = body.held(last // high - line // high + 1)
        broad = wide >= PANEL
        count = body.held(T.if_then_else(broad, last - line + 1, planes))
        at = body.registers((1,), "int32")
        body.store(at, self.first, 0)
        with body.loop(0, count):
            piece = self._piece(body.held(at[0]), end, broad)
            body.store(at, self.first + piece.place + piece.count, 0)
            self._pack_piece(piece, image, first, depth)

    def _piece(self, place: Any, end: Any, broad: Any) -> _Piece:
        """The places from `place` on that lie in its row, or in narrow rows of its plane."""
        body, bands = self.patches.body, bands_of(self.patches.windows)
        high, wide = body["oh"], body["ow"]
        line = body.held(place // wide)
        x, z = body.held(place - line * wide), body.held(line // high)
        y = body.held(line - z * high)
        left = T.if_then_else(broad, wide, (high - y) * wide) - x
        count = body.held(T.min(end - place, left))
        enter = body.held(T.if_then_else(broad, body.i32(0), x))
        breadth = body.held(T.if_then_else(broad, count, wide))
        rows = body.held((enter + count + breadth - 1) // breadth)
        pitch = body.held(breadth + bands.reach(2))
        columns = Columns.of(body, bands, body.held(x - enter), breadth, pitch)
        plane = body.held(z * body["xh"] * body["xw"])
        band = Band.of(body, bands, y, rows, columns)
        return _Piece(band, enter, body.held(place - self.first), count, plane)

    def _pack_piece(self, piece: _Piece, image: Any, first: Any, depth: Any) -> None:
        """Channel by channel; the first and the last may have some of their taps only."""
        patches, body = self.patches, self.patches.body
        bands, taps = bands_of(patches.windows), patches.windows.taps
        stage = Stage(body, bands, patches.lanes, patches.staged)
        stage.clear(body.i32(0))
        aways = self._aways(bands, piece)
        area = body.held(body["xd"] * body["xh"] * body["xw"])
        begin = body.held(tir.truncdiv(first, body.i32(taps)))
        end = body.held(tir.truncdiv(first + depth + (taps - 1), body.i32(taps)))
        with body.loop(0, end - begin) as i:
            c = body.held(begin + i)
            stage.plane(body.i32(0), body.held(image + c * area + piece.plane), piece.band)
            k = body.held(c * taps - first)
            low, high = T.max(-k, body.i32(0)), T.min(depth - k, body.i32(taps))
            self._copy(piece, aways, k, body.held(low), body.held(high))

    def _aways(self, bands: Bands, piece: _Piece) -> Any:
        """i32[taps]: from a place to what it reads."""
        body, windows = self.patches.body, self.patches.windows
        aways = body.registers((windows.taps,), "int32")
        with body.loop(0, windows.kernel[1]) as i, body.loop(0, windows.kernel[2]) as j:
            away = bands.away((i, j), piece.band.columns.pitch)
            body.store(aways, away, i * windows.kernel[2] + j)
        return aways

    def _copy(self, piece: _Piece, aways: Any, k: Any, low: Any, high: Any) -> None:
        """Taps [low, high) of a channel, whose row 0 of the panel is k."""
        patches, body, lanes = self.patches, self.patches.body, self.patches.lanes
        wide, pitch = piece.band.columns.wide, piece.band.columns.pitch
        with body.loop(0, piece.band.rows) as row:
            start = body.held(T.max(row * wide, piece.enter))
            stop = body.held(T.min((row + 1) * wide, piece.enter + piece.count))
            to = body.held(k * patches.width + piece.place + start - piece.enter)
            source = body.held(row * (pitch - wide) + start)
            with body.loop(0, (stop - start + (lanes - 1)) // lanes) as v:
                with body.loop(0, high - low) as t:
                    tap = low + t
                    values = load(patches.staged, source + v * lanes + aways[tap], lanes)
                    store(patches.out, values, to + v * lanes + tap * patches.width, lanes)
