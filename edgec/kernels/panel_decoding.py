"""The code that decodes a part of a packed weight into f32 [k][PANEL] of the workspace.

Every value is bit for bit what the encoding's `decode` gives: products with scales are rounded
once, and nothing is added to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgec.kernels.body import Body, element_bytes
from edgec.kernels.deferred import T, tir
from edgec.kernels.elementwise import from_storage
from edgec.kernels.panels import (
    DEPTH,
    PERMUTED,
    STORAGE,
    AffinePanels,
    DensePanels,
    Elements,
    Grid,
    LutPanels,
    MaskedPanels,
    OutlierPanels,
    Panels,
    TwoFourPanels,
    field_widths,
)
from edgec.kernels.prefetch import LINE_BYTES, fetch
from edgec.kernels.tiles import PANEL
from edgec.kernels.vectors import load, spread, store

#: f32 of the workspace that decoding needs: the part, and the kept half of a 2:4 weight.
DECODED = DEPTH * PANEL
SCRATCH = DECODED + DECODED // 2

#: Instructions that pick elements of one register by the numbers in another.
PERMUTATIONS = {
    "x86_64_avx512": "llvm.x86.avx512.permvar.sf.512",
    "x86_64_avx2": "llvm.x86.avx2.permps",
}

#: Steps along k that are written out, so that shifts within a byte are constants.
OCTET = 8

#: codes in a byte -> (index of the byte, number of the code in it)
Place = Callable[[int], tuple[Any, Any]]


def permuted(body: Body, start: Any, codes: Any) -> Any:
    """table[start + code] for a vector of codes below PERMUTED."""
    name, lanes = PERMUTATIONS[body.isa.name], body.isa.lanes
    table = body.buffer("table")

    def part(number: int) -> Any:
        entries = load(table, start + number * lanes, lanes)
        which = T.llvm_lookup_intrinsic_id(name)
        return T.call_llvm_pure_intrin(which, entries, codes, dtype=f"float32x{lanes}")

    if lanes == PERMUTED:
        return part(0)
    low = codes < spread(body.i32(lanes), lanes)
    return tir.Select(low, part(0), part(1))  # the intrinsic takes the low bits of a code


def _bits(name: str, word: Any, *more: Any) -> Any:
    """The number of ones in a word, or of the zeros behind the last one."""
    return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(name), word, *more, dtype="int32")


def _over(number: Any, divisor: int) -> Any:
    """number // divisor of numbers from 0. TVM's simplifier overflows on some floor divisions."""
    return tir.truncdiv(number, tir.const(divisor, "int32"))


def _stored(spec: Elements) -> list[tuple[str, int, int]]:
    """(array, numbers of the matrix in one of its elements, its elements in a cache line)."""
    if isinstance(spec, DensePanels):
        return [("w", 1, LINE_BYTES // element_bytes(STORAGE[spec.dtype]))]
    return [(f"codes{width}", 8 // width, LINE_BYTES) for width in field_widths(spec.bits)]


@dataclass(frozen=True)
class Decoder:
    """Decodes parts of a weight [n, k].

    out     view f32[DEPTH][PANEL] of the workspace; columns behind n are not defined
    half    the same of half the length, for 2:4 weights
    """

    body: Body
    lanes: int
    n: Any
    k: Any
    out: Any
    half: Any

    def part(self, spec: Panels, panel: Any, part: Any, depth: Any) -> None:
        """out[i, c] = w[32 panel + c, DEPTH part + i] for i < depth."""
        match spec:
            case OutlierPanels():
                self.part(spec.base, panel, part, depth)
                self._outliers(spec, panel, part)
            case MaskedPanels():
                self._masked(spec, panel, part, depth)
            case TwoFourPanels():
                start, length = part * (DEPTH // 2), self.body.let(self.k // 2)
                self._dense(spec.values, self.half, panel, start, depth // 2, length)
                self._spread(panel, part, depth)
            case DensePanels() | AffinePanels() | LutPanels():
                self._dense(spec, self.out, panel, part * DEPTH, depth, self.k)

    def _dense(
        self, spec: Elements, out: Any, panel: Any, start: Any, depth: Any, length: Any
    ) -> None:
        """A part whose elements are all stored; `length` of the rows of the matrix."""
        body, lanes = self.body, self.lanes

        def step(i: Any, column: Any) -> None:
            if isinstance(spec, LutPanels) and self._in_registers(spec):
                self._permuted(spec, out, panel, (i, start + i), column, length)
                return
            with body.vector(lanes) as lane:
                c = column + lane
                value = self._panel_value(spec, panel, start + i, c, length)
                body.store(out, value, i, c)

        with body.loop(0, PANEL // lanes) as v:
            with body.loop(0, depth // OCTET) as octet:
                for i in range(OCTET):
                    step(octet * OCTET + i, v * lanes)
                self._fetch(spec, panel, (start, depth, octet), v, length)
            with body.loop(depth // OCTET * OCTET, depth) as i:
                step(i, v * lanes)

    def _fetch(
        self, spec: Elements, panel: Any, part: tuple[Any, Any, Any], v: Any, length: Any
    ) -> None:
        """The share that vector v of an octet takes of what lies behind the part.

        part   its first k, its depth, the octet
        """
        start, depth, octet = part
        if isinstance(spec, LutPanels) and spec.vector > 1:
            return
        for name, q, line in _stored(spec):
            rows = (length + q - 1) // q
            at = (panel * rows + _over(start + depth, q)) * PANEL
            share = OCTET * self.lanes // q
            first = at + (octet * (PANEL // self.lanes) + v) * share
            for i in range(0, share, line):
                fetch(self.body.buffer(name)[first + i])

    def _panel_value(self, spec: Elements, panel: Any, k: Any, c: Any, length: Any) -> Any:
        """Element (panel, k, c) of a matrix in panels."""
        if isinstance(spec, DensePanels):
            return self._load("w", (panel * length + k) * PANEL + c, spec.dtype)
        code = self._panel_code(spec, panel, k, c, length)
        return self._coded_value(spec, code, panel, k, c, length)

    def _panel_code(
        self, spec: AffinePanels | LutPanels, panel: Any, k: Any, c: Any, length: Any
    ) -> Any:
        """The code i32 of element (panel, k, c)."""
        unit, count = k, length
        if isinstance(spec, LutPanels) and spec.vector > 1:
            unit, count = _over(k, spec.vector), _over(length, spec.vector)

        def place(q: int) -> tuple[Any, Any]:
            rows = (count + q - 1) // q
            return (panel * rows + unit // q) * PANEL + c, unit % q

        return self._code(spec.bits, place)

    def _in_registers(self, spec: LutPanels) -> bool:
        """Whether a vector of entries is one permutation of the palette."""
        one = not spec.row_run and spec.vector == 1 and spec.dtype == "float32"
        return one and spec.entries <= PERMUTED and self.body.isa.name in PERMUTATIONS

    def _permuted(
        self, spec: LutPanels, out: Any, panel: Any, at: tuple[Any, Any], column: Any, length: Any
    ) -> None:
        """A vector of row i, element k of the panel: at = (i, k)."""
        body, lanes, (i, k) = self.body, self.lanes, at
        codes, found = body.registers((lanes,), "int32"), body.registers((lanes,))
        with body.vector(lanes) as lane:
            body.store(codes, self._panel_code(spec, panel, k, column + lane, length), lane)
        palette = _over(k, spec.col_run) * spec.entries if spec.col_run else body.i32(0)
        store(found, permuted(body, palette, load(codes, 0, lanes)), 0, lanes)
        with body.vector(lanes) as lane:
            value = found[lane]
            if spec.scale is not None:
                value = value * self._number(spec.scale, panel, k, column + lane, length)
            body.store(out, value, i, column + lane)

    def _stream_value(self, spec: Elements, position: Any, panel: Any, k: Any, c: Any) -> Any:
        """The element at a position of a stream, which is at (panel, k, c)."""
        if isinstance(spec, DensePanels):
            return self._load("w", position, spec.dtype)
        code = self._code(spec.bits, lambda q: (position // q, position % q))
        return self._coded_value(spec, code, panel, k, c, self.k)

    def _code(self, bits: int, place: Place) -> Any:
        """The code i32 that its planes hold."""
        total, low = self.body.i32(0), 0
        for width in field_widths(bits):
            index, number = place(8 // width)
            field = T.cast(self.body.buffer(f"codes{width}")[index], "int32")
            if width < 8:
                field = (field >> (number * width)) & self.body.i32(2**width - 1)
            total = total + (field << self.body.i32(low))
            low += width
        return total

    def _coded_value(
        self, spec: AffinePanels | LutPanels, code: Any, panel: Any, k: Any, c: Any, length: Any
    ) -> Any:
        if isinstance(spec, LutPanels):
            value = self._entry(spec, code, panel, k, c)
            scale = spec.scale
            return value if scale is None else value * self._number(scale, panel, k, c, length)
        value = T.cast(code - self.body.i32(2 ** (spec.bits - 1)), "float32")
        if spec.zero:
            zero = Grid("int8", spec.scale.run, spec.scale.shared)
            value = value - self._number(zero, panel, k, c, length, "zero")
        return value * self._number(spec.scale, panel, k, c, length)

    def _entry(self, spec: LutPanels, code: Any, panel: Any, k: Any, c: Any) -> Any:
        """The table's number for a code."""
        palette = self.body.i32(0)
        if spec.row_run:
            row = T.min(panel * PANEL + c, self.n - 1)  # rows behind n have no palette
            palette = _over(row, spec.row_run) * spec.columns
        if spec.col_run:
            palette = palette + _over(_over(k, spec.vector), spec.col_run)
        index = (palette * spec.entries + code) * spec.vector
        return self._load("table", index + tir.truncmod(k, self.body.i32(spec.vector)), spec.dtype)

    def _number(
        self, grid: Grid, panel: Any, k: Any, c: Any, length: Any, name: str = "scale"
    ) -> Any:
        """The number of a grid for element (panel, k, c), as f32."""
        place = _over(k, grid.run) if grid.run else self.body.i32(0)
        if not grid.shared:
            count = _over(length, grid.run) if grid.run else self.body.i32(1)
            place = (panel * count + place) * PANEL + c
        return self._load(name, place, grid.dtype)

    def _load(self, name: str, index: Any, dtype: str) -> Any:
        value = self.body.buffer(name)[index]
        return T.cast(value, "float32") if dtype == "int8" else from_storage(value, dtype)

    def _masked(self, spec: MaskedPanels, panel: Any, part: Any, depth: Any) -> None:
        """Only the kept elements are visited: branches on bits of a mask cannot be predicted."""
        body = self.body
        mask, starts = body.buffer("mask"), body.buffer("starts")
        position, word = body.registers((1,), "int32"), body.registers((1,), "int32")
        body.store(position, starts[panel * self._parts() + part], 0)
        with body.loop(0, depth) as i:
            k = body.held(part * DEPTH + i)
            for v in range(0, PANEL, self.lanes):
                with body.vector(self.lanes) as lane:
                    body.store(self.out, body.f32(0), i, v + lane)
            body.store(word, T.reinterpret("int32", mask[panel * self.k + k]), 0)
            first = body.held(position[0])
            count = body.held(_bits("llvm.ctpop", word[0]))
            with body.loop(0, count) as j:
                c = body.held(_bits("llvm.cttz", word[0], tir.const(0, "bool")))
                value = self._stream_value(spec.values, first + j, panel, k, c)
                body.store(self.out, value, i, c)
                body.store(word, word[0] & (word[0] - 1), 0)
            body.store(position, first + count, 0)

    def _spread(self, panel: Any, part: Any, depth: Any) -> None:
        """out from half: three fours at a time, whose choices are one byte."""
        body, lanes = self.body, self.lanes
        mask, rows = body.buffer("mask"), (self.k + 11) // 12
        with body.loop(0, PANEL // lanes) as v, body.loop(0, (depth + 11) // 12) as three:
            byte = body.registers((3 * lanes,), "int32")
            at = (panel * rows + part * (DEPTH // 12) + three) * PANEL + v * lanes
            with body.vector(lanes) as lane:
                body.store(byte, T.cast(mask[at + lane], "int32"), lane)
            for i in (1, 2):  # x // 6 for x < 216
                with body.vector(lanes) as lane:
                    sixth = (byte[(i - 1) * lanes + lane] * 171) >> 10
                    body.store(byte, sixth, i * lanes + lane)
            for i in range(3):
                for j in range(4):
                    with body.vector(lanes) as lane:
                        choice = byte[i * lanes + lane]
                        if i < 2:
                            choice = choice - byte[(i + 1) * lanes + lane] * 6
                        row, column = three * 12 + i * 4 + j, v * lanes + lane
                        pair = (three * 6 + i * 2, column)
                        body.store(self.out, self._of_pair(choice, j, pair), row, column)

    def _of_pair(self, choice: Any, j: int, pair: tuple[Any, Any]) -> Any:
        """Neighbour j of a four of which two are kept: one of the two, or 0."""
        i32, row, column = self.body.i32, *pair
        first = tir.Select(choice < i32(3), i32(0), tir.Select(choice < i32(5), i32(1), i32(2)))
        second = tir.Select(tir.EQ(choice, i32(3)), i32(2), i32(3))
        second = tir.Select(choice < i32(3), choice + i32(1), second)
        rest = tir.Select(tir.EQ(second, i32(j)), self.half[row + 1, column], self.body.f32(0))
        return tir.Select(tir.EQ(first, i32(j)), self.half[row, column], rest)

    def _outliers(self, spec: OutlierPanels, panel: Any, part: Any) -> None:
        body = self.body
        starts, places = body.buffer("outlier_starts"), body.buffer("outlier_places")
        number = panel * self._parts() + part
        with body.loop(starts[number], starts[number + 1]) as entry:
            place = body.let(T.cast(places[entry], "int32"))
            value = self._load("outliers", entry, spec.dtype)
            body.store(self.out, value, place >> 5, place & body.i32(PANEL - 1))

    def _parts(self) -> Any:
        return (self.k + DEPTH - 1) // DEPTH
