"""Entries of palettes for codes: within registers, or one load for each element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.element_types import dtype_of, from_storage
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.panel_elements import number_at
from edgec.kernels.panels import STORAGE, LutPanels
from edgec.kernels.scalars import bits, float_of
from edgec.kernels.tiles import PANEL
from edgec.kernels.vectors import load, spread

#: Palettes that change along k are loaded again for each vector: so many registers at most.
_CHANGING = 4


@dataclass(frozen=True)
class Permutation:
    """Instructions that pick elements of registers by the numbers in another one.

    dtype      of entries in registers, as TVM spells it
    lanes      entries of one register
    one, two   intrinsics that pick from one register, and from two; by the low bits of a number
    most       registers of a palette, a power of two; beyond, loads are faster
    """

    dtype: str
    lanes: int
    one: str
    two: str | None
    most: int


_AVX512 = "llvm.x86.avx512"
_WORDS = Permutation("uint16", 32, f"{_AVX512}.permvar.hi.512", f"{_AVX512}.vpermi2var.hi.512", 8)
_SINGLES = Permutation(
    "float32", 16, f"{_AVX512}.permvar.sf.512", f"{_AVX512}.vpermi2var.ps.512", 16
)
_PERMUTATIONS = {
    "x86_64_avx512": (_WORDS, _SINGLES),
    "x86_64_avx2": (Permutation("float32", 8, "llvm.x86.avx2.permps", None, 4),),
}


def permutation(spec: LutPanels, isa: InstructionSet) -> Permutation | None:
    """How to look up vectors of elements, where they have one palette that registers can hold."""
    if spec.vector > 1:
        return None
    for p in _PERMUTATIONS.get(isa.name, ()):
        fits = p.dtype == "float32" or spec.dtype in ("float16", "bfloat16")
        most = min(p.most, _CHANGING) if spec.col_run else p.most
        if fits and spec.row_run % p.lanes == 0 and spec.entries <= most * p.lanes:
            return p
    return None


@dataclass(frozen=True)
class HeldPalette:
    """A palette in registers: `entries` T[count * lanes]."""

    body: Body
    permutation: Permutation
    entries: Any
    count: int

    @staticmethod
    def of(body: Body, spec: LutPanels, permutation: Permutation, start: Any) -> HeldPalette:
        """The palette that begins with entry `start` of the table."""
        lanes = permutation.lanes
        filled = -(-spec.entries // lanes)
        count = 1 << (filled - 1).bit_length()
        entries = body.registers((count * lanes,), permutation.dtype)
        for i in range(count):
            first = start + min(i, filled - 1) * lanes
            with body.vector(lanes) as lane:
                if permutation.dtype == "float32":
                    value = number_at(body, "table", first + lane, spec.dtype)
                else:
                    value = T.reinterpret("uint16", body.buffer("table")[first + lane])
                body.store(entries, value, i * lanes + lane)
        return HeldPalette(body, permutation, entries, count)

    def pick(self, codes: Any) -> Any:
        """The entries of a vector of codes, integers as wide as entries."""
        return self._pick(codes, 0, self.count)

    def _pick(self, codes: Any, first: int, count: int) -> Any:
        """Of `count` registers: those of a half, as the highest bit says."""
        p = self.permutation
        if count == 1:
            return self._call(p.one, self._register(first), codes)
        if count == 2 and p.two:
            return self._call(p.two, self._register(first), codes, self._register(first + 1))
        half = count // 2
        low, high = self._pick(codes, first, half), self._pick(codes, first + half, half)
        bit = codes & spread(tir.const(half * p.lanes, self.code_dtype), p.lanes)
        none = spread(tir.const(0, self.code_dtype), p.lanes)
        return tir.Select(tir.EQ(bit, none), low, high)

    @property
    def code_dtype(self) -> str:
        return "uint16" if self.permutation.dtype == "uint16" else "int32"

    def _register(self, number: int) -> Any:
        return load(self.entries, number * self.permutation.lanes, self.permutation.lanes)

    def _call(self, name: str, *operands: Any) -> Any:
        dtype = f"{self.permutation.dtype}x{self.permutation.lanes}"
        return T.call_llvm_pure_intrin(dtype, name, *operands)


def look_up(body: Body, out: Any, depth: Any, dtype: str) -> None:
    """out[i, c] = bits of table[bits of out[i, c]] for i < depth: scalar loads and stores.

    Gathers take longer, and so does what LLVM makes of a vector of loads.
    """
    table = body.buffer("table")
    with body.loop(0, depth) as i:
        for c in range(PANEL):
            found = table[bits(out[i, c])]
            body.store(out, float_of(_widened(found, dtype)), i, c)


def _widened(value: Any, dtype: str) -> Any:
    """The bits of an entry, with 32 of them."""
    if dtype in ("float32", "float16"):
        value = T.reinterpret("uint32" if dtype == "float32" else "uint16", value)
    return T.cast(value, "int32" if dtype == "int8" else "uint32")


def entry(value: Any, dtype: str) -> Any:
    """The f32 that stands for what `look_up` left, or a palette of 16 bits gave."""
    if dtype == "float32":
        return value
    if dtype == "int8":
        return T.cast(bits(value), "float32")
    word = value if dtype_of(value) == "uint16" else T.cast(bits(value), "uint16")
    return from_storage(T.reinterpret(STORAGE[dtype], word), dtype)
