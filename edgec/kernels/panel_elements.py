"""Elements of packed weights as expressions: codes from their planes, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.element_types import from_storage
from edgec.kernels.panels import AffinePanels, DensePanels, Grid, LutPanels, field_widths
from edgec.kernels.tiles import PANEL

#: codes in a byte -> (index of the byte, number of the code in it)
Place = Callable[[int], tuple[Any, Any]]


class At(NamedTuple):
    """Element k of row 32 panel + c."""

    panel: Any
    k: Any
    c: Any


def over(number: Any, divisor: int) -> Any:
    """number // divisor of numbers from 0. TVM's simplifier overflows on some floor divisions."""
    return tir.truncdiv(number, tir.const(divisor, "int32"))


def number_at(body: Body, name: str, index: Any, dtype: str) -> Any:
    """An element of an array of numbers, as f32."""
    value = body.buffer(name)[index]
    return T.cast(value, "float32") if dtype == "int8" else from_storage(value, dtype)


def code_at(body: Body, bits: int, place: Place) -> Any:
    """The code i32 that its planes hold."""
    total, low = body.i32(0), 0
    for width in field_widths(bits):
        index, position = place(8 // width)
        field = T.cast(body.buffer(f"codes{width}")[index], "int32")
        if width < 8:
            field = (field >> (position * width)) & body.i32(2**width - 1)
        total = total + (field << body.i32(low))
        low += width
    return total


@dataclass(frozen=True)
class Matrix:
    """A matrix [n, length] in panels."""

    body: Body
    n: Any
    length: Any

    def dense(self, spec: DensePanels, at: At) -> Any:
        index = (at.panel * self.length + at.k) * PANEL + at.c
        return number_at(self.body, "w", index, spec.dtype)

    def code(self, spec: AffinePanels | LutPanels, at: At) -> Any:
        """The code of an element, i32."""
        unit, count = at.k, self.length
        if isinstance(spec, LutPanels) and spec.vector > 1:
            unit, count = over(unit, spec.vector), over(count, spec.vector)

        def place(q: int) -> tuple[Any, Any]:
            rows = (count + q - 1) // q
            return (at.panel * rows + unit // q) * PANEL + at.c, unit % q

        return code_at(self.body, spec.bits, place)

    def affine(self, spec: AffinePanels, code: Any, at: At) -> Any:
        """What a code stands for."""
        value = T.cast(code - self.body.i32(2 ** (spec.bits - 1)), "float32")
        if spec.zero:
            zero = Grid("int8", spec.scale.run, spec.scale.shared)
            value = value - self._of_grid("zero", zero, at)
        return value * self._of_grid("scale", spec.scale, at)

    def palette(self, spec: LutPanels, at: At) -> Any:
        """Where in the table the palette of an element begins, in entries."""
        palette = self.body.i32(0)
        if spec.row_run:
            row = T.min(at.panel * PANEL + at.c, self.n - 1)  # rows behind n have no palette
            palette = over(row, spec.row_run) * spec.columns
        if spec.col_run:
            palette = palette + over(over(at.k, spec.vector), spec.col_run)
        return palette * spec.entries

    def index(self, spec: LutPanels, code: Any, at: At) -> Any:
        """Where in the table the number of an element is."""
        first = (self.palette(spec, at) + code) * spec.vector
        return first + tir.truncmod(at.k, self.body.i32(spec.vector))

    def scaled(self, spec: LutPanels, value: Any, at: At) -> Any:
        return value if spec.scale is None else value * self._of_grid("scale", spec.scale, at)

    def _of_grid(self, name: str, grid: Grid, at: At) -> Any:
        """The number of a grid for an element, as f32."""
        place = over(at.k, grid.run) if grid.run else self.body.i32(0)
        if not grid.shared:
            count = over(self.length, grid.run) if grid.run else self.body.i32(1)
            place = (at.panel * count + place) * PANEL + at.c
        return number_at(self.body, name, place, grid.dtype)
