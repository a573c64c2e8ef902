"""Depthwise convolution: each channel by itself, with vectors along places of the output, f32.

Bands of rows are staged in the workspace with their padding (`bands.py`), so that vectors run over
the ends of rows and have no borders: few lanes are lost where planes are small.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.bands import Band, Bands, Columns, Stage
from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.epilogues import PLAIN, Finish, full_names, result_pointer
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.patches import Windows
from edgec.kernels.steps import Epilogue
from edgec.kernels.tiles import PANEL
from edgec.kernels.vectors import by_width, covered, load, store

#: Places of a row in a band.
_WIDE = 128

#: f32 elements that are staged at a time, where a window needs no more: they stay in the L1 cache.
_STAGED = 4096

#: Vectors of sums that are computed together.
_TOGETHER = 4

#: Taps whose code is written out.
_UNROLLED = 64

#: Room behind sums that nothing uses.
_BEHIND = 32


@dataclass(frozen=True)
class Depthwise(Kernel):
    """y[b, n, o] = epilogue(bias[n] + sum over i of w[n, i] x[b, n c // N, o and i]).

    Pointers   x f32[batch, c, xd, xh, xw], w f32 panels [ceil(n/32)][taps][32] as `pack` makes
               them, bias f32[n] where `bias`, operands of the epilogue as in Conv,
               y [batch, n, od, oh, ow]
    Sizes      batch, c, xd, xh, xw, n (a multiple of c, the number of groups), od, oh, ow
    Items      batch * n
    """

    family: ClassVar[str] = "depthwise"

    windows: Windows
    bias: bool = True
    epilogue: Epilogue = PLAIN

    def parameters(self) -> tuple[Pointer | Size, ...]:
        bias = (Pointer("bias"),) if self.bias else ()
        operands = [Pointer(name) for name in self.epilogue.names()]
        names = ("batch", "c", "xd", "xh", "xw", "n", "od", "oh", "ow")
        sizes = [Size(s) for s in names]
        inputs = (Pointer("x"), Pointer("w"), *bias, *operands)
        return (*inputs, result_pointer(self.epilogue), *sizes)

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return dims.normal(sizes["batch"] * sizes["n"])

    @property
    def bands(self) -> Bands:
        phases = self.windows.kernel[0] * self.windows.stride[1] * self.windows.stride[2]
        least = Bands(self.windows, 0)
        row = (least.reach(1) + 1) * (_WIDE + least.reach(2))
        return Bands(self.windows, max(_STAGED // phases, row))

    @property
    def room(self) -> int:
        """f32 elements of the sums of a band."""
        return self.bands.room + _BEHIND

    def workspace_bytes(self, isa: InstructionSet) -> int:
        return 4 * (2 * self.room + self.windows.kernel[0] * self.bands.plane)

    def staged(self, body: Body) -> Any:
        return body.workspace((1 << 24,), at=2 * self.room)

    def stage(self, body: Body, isa: InstructionSet) -> Stage:
        return Stage(body, self.bands, isa.lanes, self.staged(body))

    def emit(self, body: Body, isa: InstructionSet) -> None:
        bands = self.bands
        most = body.held(T.min(body["ow"], body.i32(_WIDE)))
        pitch = body.held(most + bands.reach(2))
        high = body.held(T.min(bands.room // pitch - bands.reach(1), body["oh"]))
        count = body.held((body["oh"] + high - 1) // high)
        blocks = body.held((body["ow"] + _WIDE - 1) // _WIDE)
        each = body.held(body["n"] // body["c"])
        with body.loop(0, blocks) as block:
            first = body.held(block * _WIDE)
            wide = body.held(T.min(body["ow"] - first, body.i32(_WIDE)))
            columns = Columns.of(body, bands, first, wide, pitch)
            with body.loop(0, count) as number:
                y = body.held(number * high)
                band = Band.of(body, bands, y, body.held(T.min(body["oh"] - y, high)), columns)
                with body.loop(0, self.windows.kernel[0]) as depth:
                    self.stage(body, isa).clear(body.held(depth * bands.plane))
                with body.items() as item:
                    image = body.held(item // body["n"])
                    channel = body.held(item - image * body["n"])
                    source = body.held(channel // each + image * body["c"])
                    plane = body.held(source * body["xd"] * body["xh"] * body["xw"])
                    made = _Channel(self, body, isa, band, item, channel, plane)
                    with body.loop(0, body["od"]) as z:
                        made.emit(z)


@dataclass(frozen=True)
class _Channel:
    """One channel of one image; `item` numbers both, `plane` is where its x begins."""

    kernel: Depthwise
    body: Body
    isa: InstructionSet
    band: Band
    item: Any
    channel: Any
    plane: Any

    def emit(self, z: Any) -> None:
        """The band of plane z of the output."""
        self._stage(z)
        self._sum()
        self._pack()
        self._finish(z)

    def _stage(self, z: Any) -> None:
        body, kernel = self.body, self.kernel
        windows, stage = kernel.windows, self.kernel.stage(body, self.isa)
        if windows.kernel[0] == 1 and windows.low[0] == 0:
            start = self.plane + z * windows.stride[0] * body["xh"] * body["xw"]
            stage.plane(body.i32(0), body.held(start), self.band)
            return
        with body.loop(0, windows.kernel[0]) as depth:
            iz = body.held(z * windows.stride[0] - windows.low[0] + depth * windows.dilation[0])
            at = body.held(depth * kernel.bands.plane)
            with T.If(tir.all(iz >= 0, iz < body["xd"])):
                with T.Then():
                    start = body.held(self.plane + iz * body["xh"] * body["xw"])
                    stage.plane(at, start, self.band)
                with T.Else():
                    stage.clear(at)

    def _sum(self) -> None:
        """The sums of all places, bias included, as far apart as places are staged."""
        body, lanes = self.body, self.isa.lanes
        pitch = self.band.columns.pitch
        places = self.band.rows * pitch - self.kernel.bands.reach(2)
        count = body.held((places + lanes - 1) // lanes)
        groups = body.held(count // _TOGETHER)
        with body.loop(0, groups) as g:
            self._vectors(g * (_TOGETHER * lanes), _TOGETHER, pitch)
        with body.loop(0, count - groups * _TOGETHER) as v:
            self._vectors((groups * _TOGETHER + v) * lanes, 1, pitch)

    def _vectors(self, at: Any, count: int, pitch: Any) -> None:
        """`count` vectors of sums; those of one alone are added up in several chains."""
        body, lanes, taps = self.body, self.isa.lanes, self.kernel.windows.taps
        kd, kh, kw = self.kernel.windows.kernel
        chains = _TOGETHER // count if taps <= _UNROLLED else 1
        total = body.registers((chains * count * lanes,))
        for v in range(chains * count):
            with body.vector(lanes) as lane:
                start = self._bias() if v < count else body.f32(0)
                body.store(total, start, v * lanes + lane)
        if taps <= _UNROLLED:
            for t, tap in enumerate(itertools.product(range(kd), range(kh), range(kw))):
                self._add(total, t % chains * count, at, count, tap, pitch)
        else:
            with body.loop(0, kd) as depth, body.loop(0, kh) as i, body.loop(0, kw) as j:
                self._add(total, 0, at, count, (depth, i, j), pitch)
        for v in range(count):
            with body.vector(lanes) as lane:
                each = [total[(c * count + v) * lanes + lane] for c in range(chains)]
                body.store(self._sums(), sum(each[1:], each[0]), at + v * lanes + lane)

    def _add(
        self, total: Any, to: int, at: Any, count: int, tap: tuple[Any, Any, Any], pitch: Any
    ) -> None:
        """The term of one tap, to vectors `to` of the sums."""
        body, lanes, bands = self.body, self.isa.lanes, self.kernel.bands
        _, kh, kw = self.kernel.windows.kernel
        panel = self.channel // PANEL * (self.kernel.windows.taps * PANEL) + self.channel % PANEL
        number = (tap[0] * kh + tap[1]) * kw + tap[2]
        weight = body.let(body.buffer("w")[panel + number * PANEL])
        place = tap[0] * bands.plane + bands.away(tap[1:], pitch) + at
        staged = self.kernel.staged(body)
        for v in range(count):
            with body.vector(lanes) as lane:
                term = weight * staged[place + v * lanes + lane]
                old = total[(to + v) * lanes + lane]
                body.store(total, old + term, (to + v) * lanes + lane)

    def _bias(self) -> Any:
        return self.body.buffer("bias")[self.channel] if self.kernel.bias else self.body.f32(0)

    def _sums(self) -> Any:
        return self.body.workspace((self.kernel.room,))

    def _packed(self) -> Any:
        return self.body.workspace((self.kernel.room,), at=self.kernel.room)

    def _pack(self) -> None:
        """Row behind row, as y has them."""
        rows, columns = self.band.rows, self.band.columns
        body, sums, packed = self.body, self._sums(), self._packed()

        def lines(vector: int) -> None:
            with body.loop(0, rows) as row:
                source, to = body.held(row * columns.pitch), body.held(row * columns.wide)

                def copy(j: Any, width: int) -> None:
                    store(packed, load(sums, source + j, width), to + j, width)

                covered(body, columns.wide, vector, self.isa.lanes, copy)

        by_width(body, columns.wide, self.isa.lanes, lines)

    def _finish(self, z: Any) -> None:
        """y from the sums: at once where whole rows are there, else row by row."""
        rows, columns = self.band.rows, self.band.columns
        body, epilogue = self.body, self.kernel.epilogue
        places = body.held(body["od"] * body["oh"] * body["ow"])
        strides = dict.fromkeys((*full_names(epilogue), "y"), places)
        finish = Finish.of(body, epilogue, strides)
        packed, whole = self._packed(), tir.EQ(columns.wide, body["ow"])
        turns = body.held(T.if_then_else(whole, body.i32(1), rows))
        length = body.held(T.if_then_else(whole, rows * columns.wide, columns.wide))
        with body.loop(0, turns) as turn:
            line = (z * body["oh"] + self.band.y + turn) * body["ow"]
            place, source = body.held(line + columns.first), body.held(turn * columns.wide)

            def step(i: Any) -> None:
                finish.element(packed[source + i], self.item, place + i, self.channel)

            finish.rows(length, self.isa.lanes, step)
