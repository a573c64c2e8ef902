"""Bands of output rows: what their windows read of one channel, with its padding, in the workspace.

A row is staged as `stride` rows of every stride-th element, and so are the rows of a plane: phases.
Place (y, x) of a band then reads element (y + i dilation // stride, x + j dilation // stride) of
the phase (i dilation % stride, j dilation % stride) for tap (i, j). All phases have one pitch, so
places are numbered by it over the ends of rows: what a tap reads lies as far from every place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir, tvm
from edgec.kernels.patches import Windows
from edgec.kernels.vectors import by_width, covered, load, store

#: Room behind what is staged of a phase: read for lanes behind the last place, which do not count.
_BEHIND = 32


@dataclass(frozen=True)
class Bands:
    """How the bands of a plane lie in the workspace.

    room    f32 elements of all rows of a phase, those that windows reach included
    """

    windows: Windows
    room: int

    def reach(self, axis: int) -> int:
        """Elements of a phase behind its own that a place reads."""
        windows = self.windows
        return (windows.kernel[axis] - 1) * windows.dilation[axis] // windows.stride[axis]

    @property
    def phase(self) -> int:
        """f32 elements from one phase to the next."""
        return -(-(self.room + _BEHIND) // 16) * 16

    @property
    def plane(self) -> int:
        """f32 elements of a plane, all of its phases."""
        return self.windows.stride[1] * self.windows.stride[2] * self.phase

    def idle(self, neighbour: int) -> bool:
        """Whether no tap reads the phase of this neighbour of the first element that is staged.

        Known where the row has no padding in front, so that the first element is of phase 0.
        """
        windows = self.windows
        taps = range(windows.kernel[2])
        read = {tap * windows.dilation[2] % windows.stride[2] for tap in taps}
        return windows.low[2] == 0 and neighbour not in read

    def away(self, tap: tuple[Any, Any], pitch: Any) -> Any:
        """From a place to what it reads for tap (i, j) along h and w."""
        phases, lines = zip(*(self._split(axis + 1, t) for axis, t in enumerate(tap)), strict=True)
        phase = phases[0] * self.windows.stride[2] + phases[1]
        return phase * self.phase + lines[0] * pitch + lines[1]

    def _split(self, axis: int, tap: Any) -> tuple[Any, Any]:
        """(phase, element of the phase) that a tap reads along an axis."""
        away, stride = tap * self.windows.dilation[axis], self.windows.stride[axis]
        if isinstance(away, int):
            return away % stride, away // stride
        divisor = tir.const(stride, "int32")
        return tir.truncmod(away, divisor), tir.truncdiv(away, divisor)


@dataclass(frozen=True)
class Columns:
    """Columns [first, first + wide) of the output, and what they read of a row of x.

    begin    the first element of x that is read
    each     elements that are read of every phase; `rest` phases have one more
    fronts   for each of `stride` neighbours of x, from `begin` on: where the phase that has it
             begins, and how many places of it lie in front
    pitch    elements of a staged row
    """

    first: Any
    wide: Any
    begin: Any
    each: Any
    rest: Any
    fronts: tuple[tuple[Any, Any], ...]
    pitch: Any

    @classmethod
    def of(cls, body: Body, bands: Bands, first: Any, wide: Any, pitch: Any) -> Columns:
        windows = bands.windows
        stride, reach = windows.stride[2], (windows.kernel[2] - 1) * windows.dilation[2]
        start = body.held(first * stride - windows.low[2])
        begin = body.held(T.max(start, body.i32(0)))
        end = body.held(T.min(start + (wide - 1) * stride + reach + 1, body["xw"]))
        count = body.held(T.max(end - begin, body.i32(0)))
        left, divisor, fronts = body.held(begin - start), body.i32(stride), []
        for i in range(stride):
            phase = body.held(tir.truncmod(left + i, divisor) * bands.phase)
            fronts.append((phase, body.held(tir.truncdiv(left + i, divisor))))
        each = body.held(tir.truncdiv(count, divisor))
        rest = body.held(count - each * stride)
        return cls(first, wide, begin, each, rest, tuple(fronts), pitch)


@dataclass(frozen=True)
class _Phase:
    """Rows of one phase along h: those from `low` on, `count` of them, are in x.

    to       where the phase begins in a staged plane
    source   where row `low` begins in a plane of x
    """

    to: int
    low: Any
    count: Any
    source: Any


@dataclass(frozen=True)
class Band:
    """Rows [y, y + rows) of some columns of the output: what all channels have in common."""

    y: Any
    rows: Any
    columns: Columns
    phases: tuple[_Phase, ...]

    @classmethod
    def of(cls, body: Body, bands: Bands, y: Any, rows: Any, columns: Columns) -> Band:
        windows = bands.windows
        stride, reach = windows.stride[1], {}
        for tap in range(windows.kernel[1]):
            line, phase = divmod(tap * windows.dilation[1], stride)
            reach[phase] = line  # of the last tap
        made = []
        for phase in sorted(reach):
            lines = body.held(rows + reach[phase])
            top = body.held(y * stride + phase - windows.low[1])  # the row of x of line 0
            low = body.held(T.min(_lines(body, -top, stride), lines))
            high = T.max(T.min(_lines(body, body["xh"] - top, stride), lines), low)
            source = body.held((top + low * stride) * body["xw"] + columns.begin)
            to = phase * windows.stride[2] * bands.phase
            made.append(_Phase(to, low, body.held(high - low), source))
        return cls(y, rows, columns, tuple(made))


def _lines(body: Body, rows: Any, stride: int) -> Any:
    """Lines of a phase that begin in front of row `rows`."""
    return tir.truncdiv(T.max(rows, body.i32(0)) + (stride - 1), body.i32(stride))


@dataclass(frozen=True)
class Stage:
    """Writes planes of bands to `staged`, flat f32 of the workspace."""

    body: Body
    bands: Bands
    lanes: int
    staged: Any

    def clear(self, at: Any) -> None:
        """Zeros in a plane: those of its padding stay, because all planes of a band have it."""
        with self.body.loop(0, self.bands.plane // 16) as v, self.body.vector(16) as lane:
            self.body.store(self.staged, self.body.f32(0), at + v * 16 + lane)

    def plane(self, at: Any, start: Any, band: Band) -> None:
        """What a band reads of the plane of x that begins at x[start], to staged[at ..]."""
        body, stride, columns = self.body, self.bands.windows.stride, band.columns

        def lines(phase: _Phase, width: int) -> None:
            to = [body.held(at + phase.to + begin + front) for begin, front in columns.fronts]
            with body.loop(0, phase.count) as line:
                row = body.held(start + phase.source + line * (stride[1] * body["xw"]))
                place = body.held((phase.low + line) * columns.pitch)
                self._row([place + front for front in to], row, columns, width)

        for phase in band.phases:
            most = self.lanes if stride[2] <= 2 else 1
            by_width(body, columns.each, most, partial(lines, phase))

    def _row(self, starts: list[Any], row: Any, columns: Columns, width: int) -> None:
        each, stride = columns.each, len(starts)
        covered(self.body, each, width, self.lanes, lambda j, n: self._copy(starts, row, j, n))
        for i, start in enumerate(starts[:-1]):
            with self.body.when(columns.rest > i):
                store(self.staged, self._x(row + each * stride + i, 1), start + each, 1)

    def _x(self, at: Any, width: int) -> Any:
        return load(self.body.buffer("x"), at, width)

    def _copy(self, starts: list[Any], source: Any, j: Any, width: int) -> None:
        """`width` elements of each phase, from element j of it on."""
        if len(starts) != 2 or width == 1:
            for i, start in enumerate(starts):
                at = source + j * len(starts) + i
                store(self.staged, self._x(at, width), start + j, width)
            return
        pair = [self._x(source + 2 * j + i * width, width) for i in range(2)]
        for i, start in enumerate(starts):
            if not self.bands.idle(i):
                lanes = [2 * k + i for k in range(width)]
                store(self.staged, tvm.tirx.Shuffle(pair, lanes), start + j, width)
