"""Decoding a part of a masked weight: a stream of kept elements is spread over their places.

Nothing branches on the bits of a mask, which cannot be predicted: what is stored is read as it
lies, then a vector at a time goes to the places of ones, and others become 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgec.kernels import scalars
from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.panel_elements import Matrix, code_at, number_at
from edgec.kernels.panels import DEPTH, F32, AffinePanels, DensePanels, LutPanels, MaskedPanels
from edgec.kernels.prefetch import fetch
from edgec.kernels.stored_part import OCTET, StoredPart
from edgec.kernels.sweep import each
from edgec.kernels.tiles import PANEL
from edgec.kernels.vectors import load, spread

#: Rows whose kept elements are read together. With up to OCTET - 1 codes ahead of the first, they
#: fit into half a part.
ROWS_TOGETHER = DEPTH // 3

#: How far ahead f32 are fetched that are read where they are.
_AHEAD = 1024


@dataclass(frozen=True)
class MaskedPart:
    """out[i, c] = w[32 panel + c, DEPTH part + i] for i < depth.

    stream   view f32[DEPTH / 2 * PANEL] of the workspace: numbers, or codes in the bits of them
    """

    matrix: Matrix
    spec: MaskedPanels
    out: Any
    stream: Any
    panel: Any
    part: Any
    depth: Any

    def decode(self) -> None:
        values, start = self.spec.values, self.part * DEPTH
        self._expand()
        if not isinstance(values, DensePanels):
            StoredPart(
                self.matrix,
                values,
                self.out,
                self.panel,
                start,
                self.depth,
                codes=lambda i, c: scalars.bits(self.out[i, c]),
                kept=lambda i, c: _is_one(self._word(i), c),
            ).decode()

    @property
    def _body(self) -> Body:
        return self.matrix.body

    def _word(self, i: Any) -> Any:
        """The mask of row i of the part: bit c for column c."""
        mask = self._body.buffer("mask")
        at = self.panel * self.matrix.length + self.part * DEPTH + i
        return T.reinterpret("int32", mask[at])

    def _expand(self) -> None:
        """out = what the stream holds: the number of (i, c) or its code, 0 where there is none."""
        body = self._body
        parts = (self.matrix.length + DEPTH - 1) // DEPTH
        position = body.registers((1,), "int32")
        body.store(position, body.buffer("starts")[self.panel * parts + self.part], 0)
        if self.spec.values == F32 and _VECTORS.get(body.isa.name) is _expanded:  # reads no others
            self._spread(body.buffer("w"), position, 0, self.depth)
            return
        with body.loop(0, (self.depth + ROWS_TOGETHER - 1) // ROWS_TOGETHER) as group:
            first = body.held(group * ROWS_TOGETHER)
            count = body.held(T.min(self.depth - first, body.i32(ROWS_TOGETHER)))
            start, kept = body.held(position[0]), self._ones(first, count)
            at = body.registers((1,), "int32")
            body.store(at, self._read(start, kept), 0)
            self._spread(self.stream, at, first, count)
            body.store(position, start + kept, 0)

    def _ones(self, first: Any, count: Any) -> Any:
        """How many elements of some rows are kept."""
        body = self._body
        total = body.registers((1,), "int32")
        body.store(total, body.i32(0), 0)
        with body.loop(0, count) as i:
            body.store(total, total[0] + _ones(self._word(first + i)), 0)
        return body.held(total[0])

    def _read(self, start: Any, count: Any) -> Any:
        """Elements [start, start + count) to the stream. Returns how many others lie before them:
        codes are read by whole octets."""
        body, values = self._body, self.spec.values
        if isinstance(values, DensePanels):
            dtype = values.dtype
            each(body, count, lambda i: self._keep(i, number_at(body, "w", start + i, dtype)))
            return body.i32(0)
        first, last = body.held(start // OCTET), body.held((start + count) // OCTET)
        with body.loop(first, last) as octet:
            for i in range(OCTET):
                found = _code_of_octet(body, values, octet, i)
                self._keep((octet - first) * OCTET + i, scalars.float_of(found))
        with body.loop(last * OCTET, start + count) as i:
            found = code_at(body, values.bits, lambda q: (i // q, i % q))
            self._keep(i - first * OCTET, scalars.float_of(found))
        return start - first * OCTET

    def _keep(self, i: Any, value: Any) -> None:
        self._body.store(self.stream, value, i)

    def _spread(self, stream: Any, at: Any, first: Any, count: Any) -> None:
        """Rows [first, first + count) from element at[0] of a stream on, which moves on."""
        body = self._body
        if body.isa.name in _VECTORS:
            with body.loop(0, count) as row:
                self._row_of_vectors(stream, at, body.held(first + row))
            return
        # one loop over rows and octets: LLVM would write out a whole row, and run out of registers
        octets = PANEL // OCTET
        with body.loop(0, count * octets) as octet:
            i, column = body.held(first + octet // octets), body.held(octet % octets * OCTET)
            self._octet(stream, at, i, column)

    def _octet(self, stream: Any, at: Any, i: Any, column: Any) -> None:
        """Columns one by one. What is read for a 0 is cut off: a Select becomes a branch."""
        body = self._body
        bits = body.held(self._word(i) >> column)
        for c in range(OCTET):
            one = (bits >> c) & body.i32(1)
            value = scalars.float_of(scalars.bits(stream[at[0]]) & -one)
            body.store(self.out, value, i, column + c)
            body.store(at, at[0] + one, 0)

    def _row_of_vectors(self, stream: Any, at: Any, i: Any) -> None:
        body, lanes = self._body, self._body.isa.lanes
        word = body.held(self._word(i))
        if stream is not self.stream:
            fetch(stream[at[0] + _AHEAD])
        for column in range(0, PANEL, lanes):
            bits = (word >> column) & body.i32(2**lanes - 1)
            value = _VECTORS[body.isa.name](bits, stream, at[0])
            T.buffer_store(self.out, value, [i, T.ramp(column, 1, lanes)])
            body.store(at, at[0] + _ones(bits), 0)


def _expanded(bits: Any, stream: Any, at: Any) -> Any:
    """16 columns: elements from `at` on at the ones of `bits`, and zeros; no others are read."""
    one, none = (spread(tir.const(i, "int32"), 16) for i in (1, 0))
    ones = tir.NE((spread(bits, 16) >> T.ramp(tir.const(0, "int32"), 1, 16)) & one, none)
    zeros = spread(tir.const(0, "float32"), 16)
    name = "llvm.masked.expandload"
    return T.call_llvm_intrin("float32x16", name, T.address_of(stream[at]), ones, zeros)


def _deposited(bits: Any, stream: Any, at: Any) -> Any:
    """The same for 8 columns, out of the 8 elements from `at` on.

    The bits go to the bytes of a word, and numbers of elements to the bytes that have one.
    """
    low = tir.const(0x0101010101010101, "int64")
    deposit = "llvm.x86.bmi.pdep.64"
    ones = T.call_llvm_pure_intrin("int64", deposit, T.cast(bits, "int64"), low)
    numbers = tir.const(0x0706050403020100, "int64")
    places = T.call_llvm_pure_intrin("int64", deposit, numbers, ones * tir.const(255, "int64"))
    which = T.cast(T.reinterpret("uint8x8", places), "int32x8")
    eight = load(stream, at, 8)
    picked = T.call_llvm_pure_intrin("float32x8", "llvm.x86.avx2.permps", eight, which)
    kept = spread(tir.const(0, "int32"), 8) - T.cast(T.reinterpret("uint8x8", ones), "int32x8")
    return T.reinterpret("float32x8", T.reinterpret("int32x8", picked) & kept)


#: What spreads a vector: (bits, stream, its next element) -> f32 of `lanes` columns.
_VECTORS = {"x86_64_avx512": _expanded, "x86_64_avx2": _deposited}


def _code_of_octet(body: Body, spec: AffinePanels | LutPanels, octet: Any, i: int) -> Any:
    return code_at(body, spec.bits, lambda q: (octet * (OCTET // q) + i // q, i % q))


def _is_one(word: Any, c: Any) -> Any:
    return tir.NE((word >> c) & tir.const(1, "int32"), tir.const(0, "int32"))


def _ones(word: Any) -> Any:
    """The number of ones of an i32."""
    return T.call_llvm_pure_intrin("int32", "llvm.ctpop", word)
