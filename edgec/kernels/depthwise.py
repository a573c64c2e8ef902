"""Depthwise convolution: each channel by itself, with vectors along rows of the output, f32.

The rows of x that an output row reads are staged in the workspace with their padding, and for a
stride s as s rows of every s-th element, so that all vectors are of neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir, tvm
from edgec.kernels.epilogues import PLAIN, Finish, full_names, result_pointer
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.patches import Windows
from edgec.kernels.steps import Epilogue
from edgec.kernels.tiles import PANEL
from edgec.kernels.vectors import load, store

#: Outputs of a row that are computed from one staging of its input.
_WIDE = 64

#: Room behind each staged row, which the last vector reads and nothing uses.
_SLACK = 16


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
    def reach(self) -> int:
        """Elements of a staged row that one output reads, beyond its own place."""
        return (self.windows.kernel[2] - 1) * self.windows.dilation[2] // self.windows.stride[2]

    @property
    def length(self) -> int:
        """Elements of a staged row, of one phase of the stride."""
        return _WIDE + self.reach + _SLACK

    @property
    def ring(self) -> int:
        """Rows of x from the first to the last that an output row reads."""
        return (self.windows.kernel[1] - 1) * self.windows.dilation[1] + 1

    def workspace_bytes(self, isa: InstructionSet) -> int:
        staged = self.windows.kernel[0] * self.ring * self.windows.stride[2] * self.length
        return 4 * (_WIDE + _SLACK + staged)

    def emit(self, body: Body, isa: InstructionSet) -> None:
        with body.items() as item:
            channel = body.held(item % body["n"])
            image = body.held(item // body["n"])
            source = body.held(channel // (body["n"] // body["c"]) + image * body["c"])
            plane = body.held(source * body["xd"] * body["xh"] * body["xw"])
            made = _Channel(self, body, isa, item, channel, plane)
            blocks = (body["ow"] + _WIDE - 1) // _WIDE
            with body.loop(0, body["od"]) as z, body.loop(0, blocks) as block:
                first = body.held(block * _WIDE)
                wide = body.held(T.min(body["ow"] - first, body.i32(_WIDE)))
                with body.loop(0, body["oh"]) as y:
                    made.stage(z, y, first, wide)
                    made.sum(y, wide)
                    made.finish(z, y, first, wide)


@dataclass(frozen=True)
class _Channel:
    """One channel of one image; `item` numbers both, `plane` is where its x begins."""

    kernel: Depthwise
    body: Body
    isa: InstructionSet
    item: Any
    channel: Any
    plane: Any

    def _staged(self) -> Any:
        return self.body.workspace((1 << 24,), at=_WIDE + _SLACK)

    def _row(self, depth: Any, line: Any) -> Any:
        """Where staged line `line` (counted with the padding) of depth tap `depth` lies."""
        kernel = self.kernel
        ring = kernel.ring
        slot = tir.truncmod(line, tir.const(ring, "int32")) + depth * ring
        return slot * (kernel.windows.stride[2] * kernel.length)

    def stage(self, z: Any, y: Any, first: Any, wide: Any) -> None:
        """The rows that output row (z, y) reads and the one before it did not."""
        body, windows = self.body, self.kernel.windows
        ring, step = self.kernel.ring, windows.stride[1]
        fresh = T.if_then_else(tir.EQ(y, 0), body.i32(ring), body.i32(min(ring, step)))
        fresh = body.held(fresh)
        with body.loop(0, windows.kernel[0]) as depth, body.loop(0, fresh) as i:
            line = body.held(y * step + ring - fresh + i)
            iz = body.held(z * windows.stride[0] - windows.low[0] + depth * windows.dilation[0])
            iy = body.held(line - windows.low[1])
            sides = (iz >= 0, iz < body["xd"], iy >= 0, iy < body["xh"])
            start = body.held(self.plane + (iz * body["xh"] + iy) * body["xw"])
            self._stage_row(body.held(self._row(depth, line)), start, tir.all(*sides), first, wide)

    def _stage_row(self, at: Any, start: Any, inside: Any, first: Any, wide: Any) -> None:
        """staged[at + phase * length + j] = x[start + begin + j s + phase], 0 beside the row."""
        body, stride = self.body, self.kernel.windows.stride[2]
        begin = body.held(first * stride - self.kernel.windows.low[2])
        length = body.held(wide + self.kernel.reach)
        limit = tir.const(stride, "int32")
        low = T.max(body.i32(0), tir.truncdiv(stride - 1 - begin, limit))
        low = body.held(T.min(low, length))
        high = tir.truncdiv(T.max(body["xw"] - begin, body.i32(0)), limit)
        high = body.held(T.max(T.min(high, length), low))
        high = body.held(T.if_then_else(inside, high, low))
        done = low
        widths = (self.isa.lanes, 4) if self.isa.lanes > 4 else (self.isa.lanes,)
        for width in widths if stride <= 2 else ():
            count = body.held((high - done) // width)
            with body.loop(0, count) as v:
                self._copy(at, start + begin, body.held(done + v * width), width)
            done = body.held(done + count * width)
        for begins, ends in ((body.i32(0), low), (done, length)):
            with body.loop(begins, ends) as j:
                self._scalars(at, start, begin, j, inside)

    def _copy(self, at: Any, start: Any, j: Any, width: int) -> None:
        """`width` places of a row from j on, all of them inside of x."""
        x, staged, stride = self.body.buffer("x"), self._staged(), self.kernel.windows.stride[2]
        if stride == 1:
            store(staged, load(x, start + j, width), at + j, width)
            return
        pair = [load(x, start + 2 * j, width), load(x, start + 2 * j + width, width)]
        for phase in range(2):
            lanes = [2 * i + phase for i in range(width)]
            phased = at + phase * self.kernel.length + j
            store(staged, tvm.tirx.Shuffle(pair, lanes), phased, width)

    def _scalars(self, at: Any, start: Any, begin: Any, j: Any, inside: Any) -> None:
        body, x, staged = self.body, self.body.buffer("x"), self._staged()
        stride = self.kernel.windows.stride[2]
        for phase in range(stride):
            ix = body.held(begin + j * stride + phase)
            valid = tir.all(inside, ix >= 0, ix < body["xw"])
            value = T.if_then_else(valid, x[start + ix], body.f32(0))
            body.store(staged, value, at + phase * self.kernel.length + j)

    def sum(self, y: Any, wide: Any) -> None:
        """The sums of one row, bias included, in front of the workspace."""
        body, windows, lanes = self.body, self.kernel.windows, self.isa.lanes
        kd, kh, kw = windows.kernel
        staged, sums = self._staged(), body.workspace((_WIDE + _SLACK,))
        w, panel = body.buffer("w"), self.channel // PANEL * windows.taps
        taps = body.held(panel * PANEL + self.channel % PANEL)
        bias = body.buffer("bias")[self.channel] if self.kernel.bias else body.f32(0)
        with body.loop(0, (wide + lanes - 1) // lanes) as v:
            total = body.registers((lanes,))
            with body.vector(lanes) as lane:
                body.store(total, bias, lane)
            with body.loop(0, kd) as depth, body.loop(0, kh) as i:
                line = y * windows.stride[1] + i * windows.dilation[1]
                row = body.held(self._row(depth, line) + v * lanes)
                tap = body.held(taps + (depth * kh + i) * (kw * PANEL))
                with body.unroll(kw) if kw <= 16 else body.loop(0, kw) as t:
                    away = t * windows.dilation[2]
                    stride = tir.const(windows.stride[2], "int32")
                    phase = tir.truncmod(away, stride) * self.kernel.length
                    place = phase + tir.truncdiv(away, stride)
                    with body.vector(lanes) as lane:
                        term = w[tap + t * PANEL] * staged[row + place + lane]
                        body.store(total, total[lane] + term, lane)
            with body.vector(lanes) as lane:
                body.store(sums, total[lane], v * lanes + lane)

    def finish(self, z: Any, y: Any, first: Any, wide: Any) -> None:
        """y from the sums."""
        body, epilogue = self.body, self.kernel.epilogue
        places = body.held(body["od"] * body["oh"] * body["ow"])
        strides = dict.fromkeys((*full_names(epilogue), "y"), places)
        finish = Finish.of(body, epilogue, strides)
        sums = body.workspace((_WIDE + _SLACK,))
        place = body.held((z * body["oh"] + y) * body["ow"] + first)

        def step(i: Any) -> None:
            finish.element(sums[i], self.item, place + i, self.channel)

        finish.rows(wide, self.isa.lanes, step)
