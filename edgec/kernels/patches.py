"""What the windows of a convolution read, as panels [k][PANEL]: columns are places of the output.

Row k = (c, tap) of a panel holds x at channel c and at the element of the kernel that `tap`
numbers, for 32 neighbouring places of the output, counted in row-major order; 0 where a window
reads beside x.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.tiles import PANEL
from edgec.kernels.vectors import by_width, covered, load, store

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Windows:
    """Windows over three spatial axes (leading ones of extent 1 where there are fewer).

    low          padding in front
    transposed   those of conv_transpose: the element at o of the output reads place
                 (o + low - tap * dilation) / stride of x, where that is whole
    """

    kernel: Triple
    stride: Triple = (1, 1, 1)
    low: Triple = (0, 0, 0)
    dilation: Triple = (1, 1, 1)
    transposed: bool = False

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1] * self.kernel[2]

    @property
    def steady(self) -> bool:
        """Whether neighbouring places of a row read neighbours, whatever the tap."""
        return self.stride == (1, 1, 1)

    @property
    def copied(self) -> bool:
        """Whether places read themselves, where the output is as large as x."""
        return self.steady and self.taps == 1 and self.low == (0, 0, 0)

    def start(self, axis: int, place: Any) -> Any:
        """What of the index in x does not depend on the tap (times the stride where transposed)."""
        if self.transposed:
            return place + self.low[axis]
        return place * self.stride[axis] - self.low[axis]

    def index(self, axis: int, start: Any, tap: Any) -> tuple[Any, Any]:
        """(index in x along an axis, whether a transposed window has an element there)."""
        if not self.transposed:
            return start + tap * self.dilation[axis], None
        scaled, stride = start - tap * self.dilation[axis], self.stride[axis]
        if stride == 1:
            return scaled, None
        divisor = tir.const(stride, "int32")
        return tir.truncdiv(scaled, divisor), tir.EQ(tir.truncmod(scaled, divisor), 0)


@dataclass(frozen=True)
class Patches:
    """Packs panels for one block of PANEL places of the output.

    x, total   all of x, flat, and its number of elements
    sides      extents of x: (d, h, w), and `places` of the output
    out        view f32[depth][PANEL] of the workspace, `flat` the same in one axis
    """

    body: Body
    lanes: int
    windows: Windows
    x: Any
    total: Any
    sides: tuple[Any, Any, Any]
    places: tuple[Any, Any, Any]
    out: Any
    flat: Any

    def block(self, first: Any) -> Block:
        """The coordinates of places [first, first + PANEL); those behind the end are valid too."""
        body = self.body
        starts = [body.registers((PANEL,), "int32") for _ in range(3)]
        apart = body.registers((1,), "int32")
        if self.windows.copied:
            with body.when(tir.Not(self.whole())):
                self._coordinates(first, starts, apart)
        else:
            self._coordinates(first, starts, apart)
        return Block(self, first, tuple(starts), apart)

    def whole(self) -> Any:
        """Whether the output has as many places as x."""
        sizes = [self.body.held(d * h * w) for d, h, w in (self.sides, self.places)]
        return tir.EQ(*sizes)

    def _coordinates(self, first: Any, starts: list[Any], apart: Any) -> None:
        body, windows = self.body, self.windows
        _, high, wide = self.places
        line = body.held(first // wide)
        plane = body.held(line // high)
        at = body.registers((3,), "int32")  # counted up: division takes longer than all else here
        for axis, index in enumerate((plane, line - plane * high, first - line * wide)):
            body.store(at, index, axis)
        with body.loop(0, PANEL) as p:
            for axis, start in enumerate(starts):
                body.store(start, windows.start(axis, at[axis]), p)
            carry = body.i32(1)
            for axis, extent in ((2, wide), (1, high)):
                after = body.held(at[axis] + carry)
                carry = body.held(tir.Select(tir.EQ(after, extent), body.i32(1), body.i32(0)))
                body.store(at, after - carry * extent, axis)
            body.store(at, at[0] + carry, 0)
        body.store(apart, 0, 0)
        if windows.steady:
            with body.loop(0, PANEL) as p:
                away = self._flat(starts, p) - self._flat(starts, 0) - p
                body.store(apart, apart[0] | away, 0)

    def _flat(self, starts: list[Any], p: Any) -> Any:
        _, h, w = self.sides
        return (starts[0][p] * h + starts[1][p]) * w + starts[2][p]


@dataclass(frozen=True)
class Block:
    """One block of places, from `first` on: the coordinates that their windows start from.

    apart   0 where all places read neighbours (of x or beside it)
    """

    patches: Patches
    first: Any
    starts: tuple[Any, ...]
    apart: Any

    def pack(self, image: Any, first: Any, depth: Any) -> None:
        """out[i] = row first + i of the panel, for i < depth; `image` is where channel 0 begins."""
        if not self.patches.windows.copied:
            self._pack_taps(image, first, depth)
            return
        with T.If(self.patches.whole()):
            with T.Then():
                self._pack_copies(image, first, depth)
            with T.Else():
                self._pack_taps(image, first, depth)

    def _pack_copies(self, image: Any, first: Any, depth: Any) -> None:
        """Rows of channels, as far as the block goes: what is behind does not count."""
        patches, body = self.patches, self.patches.body
        d, h, w = patches.sides
        area = body.held(d * h * w)
        start = body.held(image + first * area + self.first)
        count = body.held(area - self.first)

        def copy(i: Any, c: Any, width: int) -> None:
            value = load(patches.x, start + i * area + c, width)
            store(patches.flat, value, i * PANEL + c, width)

        def rows(widest: int) -> None:
            with body.loop(0, depth) as i:
                covered(body, count, widest, patches.lanes, partial(copy, i))

        with T.If(count >= PANEL):
            with T.Then():
                with body.loop(0, depth) as i:
                    for c in range(0, PANEL, patches.lanes):
                        copy(i, c, patches.lanes)
            with T.Else():
                by_width(body, count, patches.lanes, rows)

    def _pack_taps(self, image: Any, first: Any, depth: Any) -> None:
        patches, body = self.patches, self.patches.body
        windows = patches.windows
        taps, area = windows.taps, patches.sides[0] * patches.sides[1] * patches.sides[2]
        offset = body.registers((PANEL,), "int32")
        inside = body.registers((PANEL,), "int32")
        with body.loop(0, taps) as tap:
            self._offsets(tap, offset, inside)
            start = body.held(self._channels(first, tap))
            stop = body.held(self._channels(first + depth, tap))
            with body.loop(start, stop) as c:
                row = body.held(c * taps + tap - first)
                self._row(image + c * area, row, offset, inside)

    def _channels(self, k: Any, tap: Any) -> Any:
        """Number of channels whose row for `tap` lies in front of row k."""
        taps = self.patches.windows.taps
        return tir.truncdiv(k - tap + (taps - 1), tir.const(taps, "int32")) if taps > 1 else k

    def _offsets(self, tap: Any, offset: Any, inside: Any) -> None:
        """Where each place reads within a channel, and whether that is inside of x."""
        patches, body = self.patches, self.patches.body
        windows, lanes = patches.windows, patches.lanes
        _, kh, kw = windows.kernel
        taps = (tap // (kh * kw), tap // kw % kh, tap % kw)
        taps = tuple(body.held(t) for t in taps)
        for v in range(0, PANEL, lanes):
            with body.vector(lanes) as lane:
                good, flat = None, body.i32(0)
                for axis in range(3):
                    index, whole = windows.index(axis, self.starts[axis][v + lane], taps[axis])
                    flat = flat * patches.sides[axis] + index
                    fits = tir.all(index >= 0, index < patches.sides[axis])
                    if whole is not None:
                        scaled = self.starts[axis][v + lane] - taps[axis] * windows.dilation[axis]
                        fits = tir.all(fits, whole, scaled >= 0)
                    good = fits if good is None else tir.all(good, fits)
                body.store(offset, flat, v + lane)
                body.store(inside, tir.Select(good, body.i32(1), body.i32(0)), v + lane)

    def _row(self, channel: Any, row: Any, offset: Any, inside: Any) -> None:
        """One row: in vectors where its places are neighbours and no vector leaves x."""
        patches, body = self.patches, self.patches.body
        x, lanes = patches.x, patches.lanes
        if not patches.windows.steady:
            self._scalars(channel, row, offset, inside)
            return
        begin = body.held(channel + offset[0])
        within = tir.all(begin >= 0, begin + PANEL <= patches.total)
        with T.If(tir.all(tir.EQ(self.apart[0], 0), within)):
            with T.Then():
                for v in range(0, PANEL, lanes):
                    with body.vector(lanes) as lane:
                        c = v + lane
                        kept = tir.Select(inside[c] > 0, x[begin + c], body.f32(0))
                        body.store(patches.out, kept, row, c)
            with T.Else():
                self._scalars(channel, row, offset, inside)

    def _scalars(self, channel: Any, row: Any, offset: Any, inside: Any) -> None:
        patches, body = self.patches, self.patches.body
        with body.loop(0, PANEL) as c:
            valid = inside[c] > 0
            at = channel + tir.Select(valid, offset[c], body.i32(0))
            body.store(patches.out, tir.Select(valid, patches.x[at], body.f32(0)), row, c)
