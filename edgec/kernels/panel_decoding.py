"""The code that decodes a part of a packed weight into f32 [k][PANEL] of the workspace.

Every value is bit for bit what the encoding's `decode` gives: products with scales are rounded
once, and nothing is added to them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.masked_part import MaskedPart
from edgec.kernels.panel_elements import Matrix, number_at
from edgec.kernels.panels import (
    DEPTH,
    F32,
    AffinePanels,
    DensePanels,
    LutPanels,
    MaskedPanels,
    OutlierPanels,
    Panels,
    TwoFourPanels,
)
from edgec.kernels.stored_part import StoredPart
from edgec.kernels.tiles import PANEL

#: f32 of the workspace that decoding needs: the part, and half as many of what is kept of it.
DECODED = DEPTH * PANEL
SCRATCH = DECODED + DECODED // 2


def scratch(weight: Panels) -> int:
    """What of SCRATCH a product needs for its weight: f32 are read where they are."""
    return 0 if weight == F32 else SCRATCH


@dataclass(frozen=True)
class Decoder:
    """Decodes parts of a weight [n, k].

    out     view f32[DEPTH][PANEL] of the workspace; columns behind n are not defined
    half    the same of half the length, for what a mask keeps
    """

    body: Body
    lanes: int
    n: Any
    k: Any
    out: Any
    half: Any

    def part(self, spec: Panels, panel: Any, part: Any, depth: Any) -> None:
        """out[i, c] = w[32 panel + c, DEPTH part + i] for i < depth."""
        whole = Matrix(self.body, self.n, self.k)
        match spec:
            case OutlierPanels():
                self.part(spec.base, panel, part, depth)
                self._outliers(spec, panel, part)
            case MaskedPanels():
                stream = self._flat_half()
                MaskedPart(whole, spec, self.out, stream, panel, part, depth).decode()
            case TwoFourPanels():
                kept, start = replace(whole, length=self.body.let(self.k // 2)), part * (DEPTH // 2)
                StoredPart(kept, spec.values, self.half, panel, start, depth // 2).decode()
                self._spread(panel, part, depth)
            case DensePanels() | AffinePanels() | LutPanels():
                StoredPart(whole, spec, self.out, panel, part * DEPTH, depth).decode()

    def _flat_half(self) -> Any:
        """`half` without rows."""
        data, at = self.half.data, self.half.elem_offset
        return T.decl_buffer((DECODED // 2,), "float32", data=data, elem_offset=at, align=64)

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
            value = number_at(self.body, "outliers", entry, spec.dtype)
            body.store(self.out, value, place >> 5, place & body.i32(PANEL - 1))

    def _parts(self) -> Any:
        return (self.k + DEPTH - 1) // DEPTH
