"""How weights lie in a file of native weights: specs of packed panels, for every encoding.

A weight is a matrix [N, K]: the first axis of its tensor, and all others. It is packed in panels of
32 rows n, which become the lanes of vectors: element (n, k) is at [n // 32][k][n % 32]. Rows behind
N are zeros. The layout is the same for all instruction sets.

    plane      codes of a few bits are cut into fields of 8, 4, 2 and 1 bits, each in a plane of its
               own: u8[P][ceil(K / q)][32] with q = 8 / width codes in a byte, where code k has the
               bits [(k % q) * width, ...) of byte k // q. 5 bits are a plane of 4 and one of 1 bit.
    grid       scales and zero points: [P][K / run][32], one for `run` neighbours of a row; run 0 is
               a whole row; `shared` grids are the same for all rows: [K / run]
    part       DEPTH neighbours along k of one panel, what is decoded at a time

`panel_packing.pack` makes them from an encoding, `panel_decoding.py` has the code that reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from edgec.kernels.kernel import Pointer

#: Length along k of a part: a multiple of 8 codes, of 12 weights of 2:4 masks, of short vectors.
DEPTH = 192

#: Bytes behind a table that code may read: palettes are loaded to vector registers.
BEHIND_TABLE = 64

#: TVM's storage type of the numbers that a weight is made of.
STORAGE = {"float32": "float32", "float16": "float16", "bfloat16": "uint16", "int8": "int8"}


def field_widths(bits: int) -> tuple[int, ...]:
    """Widths of the planes of codes of `bits` bits, lowest bits first: 7 -> (4, 2, 1)."""
    return tuple(width for width in (8, 4, 2, 1) if bits & width)


@dataclass(frozen=True)
class Grid:
    """Numbers that are shared by `run` neighbours along k (0: by a row), or by all rows too."""

    dtype: str
    run: int = 0
    shared: bool = False


@dataclass(frozen=True)
class Panels:
    """Base of the specs: what is known of a packed weight when a kernel is compiled."""

    def pointers(self) -> tuple[Pointer, ...]:
        """The kernel's parameters for the packed arrays, in order; names are those of `pack`."""
        raise NotImplementedError


@dataclass(frozen=True)
class DensePanels(Panels):
    """Values `w` T[P][K][32] as they are, T = dtype."""

    dtype: str = "float32"

    def pointers(self) -> tuple[Pointer, ...]:
        return (Pointer("w", STORAGE[self.dtype]),)


F32 = DensePanels()


def _planes(bits: int) -> tuple[Pointer, ...]:
    return tuple(Pointer(f"codes{width}", "uint8") for width in field_widths(bits))


@dataclass(frozen=True)
class AffinePanels(Panels):
    """w = scale * (code - 2^(bits-1) - zero): planes `codes8`, ..., grids `scale` and `zero`.

    zero   whether there are zero points, i8 in a grid like that of the scales
    """

    bits: int
    scale: Grid
    zero: bool = False

    def pointers(self) -> tuple[Pointer, ...]:
        zero = (Pointer("zero", "int8"),) if self.zero else ()
        return (*_planes(self.bits), Pointer("scale", STORAGE[self.scale.dtype]), *zero)


@dataclass(frozen=True)
class LutPanels(Panels):
    """w = scale * table[palette, code, i]: planes of codes, `table` T[R * C][entries][vector], and
    BEHIND_TABLE bytes of zeros behind it.

    vector     neighbours along k that one code stands for; planes have K / vector codes per row
    row_run    rows that share a palette (0: all), col_run codes of a row (0: all); palettes are
               numbered [R][C]
    columns    C
    scale      None = 1
    """

    bits: int
    entries: int
    vector: int
    dtype: str
    row_run: int = 0
    col_run: int = 0
    columns: int = 1
    scale: Grid | None = None

    def pointers(self) -> tuple[Pointer, ...]:
        table = Pointer("table", STORAGE[self.dtype])
        scale = (Pointer("scale", STORAGE[self.scale.dtype]),) if self.scale else ()
        return (*_planes(self.bits), table, *scale)


#: Specs whose elements are stored one by one.
Elements: TypeAlias = DensePanels | AffinePanels | LutPanels


@dataclass(frozen=True)
class MaskedPanels(Panels):
    """w = 0 but under a mask: `mask` u32[P][K], bit c for row c of the panel.

    `starts` i32[P][ceil(K / DEPTH)]: number of the first kept element of a part. Dense values and
    codes are streams in that order (by k, then by row): `w` T[kept], planes u8[ceil(kept / q)].
    """

    values: Elements

    def pointers(self) -> tuple[Pointer, ...]:
        own = (Pointer("mask", "uint32"), Pointer("starts", "int32"))
        return (*own, *self.values.pointers())


@dataclass(frozen=True)
class TwoFourPanels(Panels):
    """Two of four neighbours along k: `mask` u8[P][ceil(K / 12)][32], three choices of 6 in a byte.

    `values` is the matrix [N, K / 2] of what is kept, packed like any other; choices are numbered
    as in `edgec.ir.encodings.two_four`.
    """

    values: Elements

    def pointers(self) -> tuple[Pointer, ...]:
        return (Pointer("mask", "uint8"), *self.values.pointers())


@dataclass(frozen=True)
class OutlierPanels(Panels):
    """Elements that are kept aside replace those of `base`.

    `outlier_starts` i32[P * ceil(K / DEPTH) + 1]: the entries of a part; of each entry
    `outlier_places` u16: (k - first k of the part) * 32 + row, and `outliers` T.
    """

    base: Panels
    dtype: str

    def pointers(self) -> tuple[Pointer, ...]:
        starts = Pointer("outlier_starts", "int32")
        places = Pointer("outlier_places", "uint16")
        values = Pointer("outliers", STORAGE[self.dtype])
        return (*self.base.pointers(), starts, places, values)
