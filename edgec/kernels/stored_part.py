"""Decoding a part of a matrix whose elements are all stored, as numbers or as codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgec.kernels.body import Body, element_bytes
from edgec.kernels.deferred import T, tir
from edgec.kernels.palette_lookup import (
    HeldPalette,
    Permutation,
    entry,
    look_up,
    permutation,
)
from edgec.kernels.panel_elements import At, Matrix, over
from edgec.kernels.panels import (
    STORAGE,
    AffinePanels,
    DensePanels,
    Elements,
    LutPanels,
    field_widths,
)
from edgec.kernels.prefetch import LINE_BYTES, fetch
from edgec.kernels.scalars import float_of
from edgec.kernels.tiles import PANEL
from edgec.kernels.vectors import load, store

#: Steps along k that are written out, so that shifts within a byte are constants.
OCTET = 8

#: (i, c) -> an expression for row i of the part and column c of the panel.
Expression = Callable[[Any, Any], Any]

#: column -> (i -> None): what writes the vector of row i from a column on.
Writer = Callable[[Any], Callable[[Any], None]]

#: (value, i, c) -> None
Put = Callable[[Any, Any, Any], None]


@dataclass(frozen=True)
class StoredPart:
    """out[i, c] = w[32 panel + c, start + i] for i < depth.

    codes   the code of (i, c), where it is not in a plane of panels
    kept    whether (i, c) is not 0, where some are
    """

    matrix: Matrix
    spec: Elements
    out: Any
    panel: Any
    start: Any
    depth: Any
    codes: Expression | None = None
    kept: Expression | None = None

    def decode(self) -> None:
        spec = self.spec
        if isinstance(spec, DensePanels):
            self._rows(self._each(lambda i, c: self.matrix.dense(spec, self._at(i, c))))
        elif isinstance(spec, AffinePanels):
            self._affine(spec)
        elif how := permutation(spec, self._body.isa):
            self._rows(lambda column: self._permuted(spec, how, column), how.lanes)
        else:
            self._looked_up(spec)

    @property
    def _body(self) -> Body:
        return self.matrix.body

    def _at(self, i: Any, c: Any) -> At:
        return At(self.panel, self.start + i, c)

    def _code(self, spec: AffinePanels | LutPanels, i: Any, c: Any) -> Any:
        return self.codes(i, c) if self.codes else self.matrix.code(spec, self._at(i, c))

    def _affine(self, spec: AffinePanels) -> None:
        def value(i: Any, c: Any) -> Any:
            return self.matrix.affine(spec, self._code(spec, i, c), self._at(i, c))

        self._rows(self._each(value))

    def _permuted(self, spec: LutPanels, how: Permutation, column: Any) -> Callable[[Any], None]:
        """With the palette in registers: read once, where it is the same for all k."""
        body, lanes, matrix = self._body, how.lanes, self.matrix

        def palette(i: Any) -> HeldPalette:
            return HeldPalette.of(body, spec, how, matrix.palette(spec, self._at(i, column)))

        constant = None if spec.col_run else palette(0)

        def step(i: Any) -> None:
            held = constant or palette(i)
            codes = body.registers((lanes,), held.code_dtype)
            found = body.registers((lanes,), how.dtype)
            with body.vector(lanes) as lane:
                code = self._code(spec, i, column + lane)
                body.store(codes, T.cast(code, held.code_dtype), lane)
            store(found, held.pick(load(codes, 0, lanes)), 0, lanes)
            with body.vector(lanes) as lane:
                c = column + lane
                value = found[lane] if how.dtype == "float32" else entry(found[lane], spec.dtype)
                self._store(matrix.scaled(spec, value, self._at(i, c)), i, c)

        return step

    def _looked_up(self, spec: LutPanels) -> None:
        """Places in the table, then what is there, then what that stands for, one after the other
        for the whole part: a vector that was just stored by elements cannot be read at once."""
        matrix, out = self.matrix, self.out

        def place(i: Any, c: Any) -> Any:
            return float_of(matrix.index(spec, self._code(spec, i, c), self._at(i, c)))

        def value(i: Any, c: Any) -> Any:
            return matrix.scaled(spec, entry(out[i, c], spec.dtype), self._at(i, c))

        self._rows(self._each(place, self._put))
        look_up(self._body, out, self.depth, spec.dtype)
        if spec.dtype != "float32" or spec.scale is not None or self.kept is not None:
            self._rows(self._each(value), ahead=False)

    def _each(self, value: Expression, put: Put | None = None) -> Writer:
        put = put or self._store

        def row(column: Any) -> Callable[[Any], None]:
            def step(i: Any) -> None:
                with self._body.vector(self._body.isa.lanes) as lane:
                    put(value(i, column + lane), i, column + lane)

            return step

        return row

    def _put(self, value: Any, i: Any, c: Any) -> None:
        self._body.store(self.out, value, i, c)

    def _store(self, value: Any, i: Any, c: Any) -> None:
        if self.kept is not None:
            value = tir.Select(self.kept(i, c), value, self._body.f32(0))
        self._put(value, i, c)

    def _rows(self, writer: Writer, lanes: int = 0, ahead: bool = True) -> None:
        """All vectors; with `ahead`, what lies behind the part is fetched meanwhile."""
        body, depth, lanes = self._body, self.depth, lanes or self._body.isa.lanes
        with body.loop(0, PANEL // lanes) as v:
            step = writer(v * lanes)
            with body.loop(0, depth // OCTET) as octet:
                for i in range(OCTET):
                    step(octet * OCTET + i)
                if ahead and self.codes is None:
                    self._fetch(octet, v, lanes)
            with body.loop(depth // OCTET * OCTET, depth) as i:
                step(i)

    def _fetch(self, octet: Any, v: Any, lanes: int) -> None:
        """The share that vector v of an octet takes of what lies behind the part."""
        body = self._body
        if isinstance(self.spec, LutPanels) and self.spec.vector > 1:
            return
        for name, q, line in _arrays(self.spec):
            rows = (self.matrix.length + q - 1) // q
            at = (self.panel * rows + over(self.start + self.depth, q)) * PANEL
            share = OCTET * lanes // q
            first = at + (octet * (PANEL // lanes) + v) * share
            for i in range(0, share, line):
                fetch(body.buffer(name)[first + i])


def _arrays(spec: Elements) -> list[tuple[str, int, int]]:
    """(array, numbers of the matrix in one of its elements, its elements in a cache line)."""
    if isinstance(spec, DensePanels):
        return [("w", 1, LINE_BYTES // element_bytes(STORAGE[spec.dtype]))]
    return [(f"codes{width}", 8 // width, LINE_BYTES) for width in field_widths(spec.bits)]
