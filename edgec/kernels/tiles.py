"""Register tiles and cache blocks of matrix products: data for each instruction set.

All matrix kernels share one inner code (`products.py`); these numbers are all that differs.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Columns of a panel, the unit in which weights are packed: the same for every instruction set.
PANEL = 32

#: Rows of an item: a part of a panel is used for so many while it is in the L1 cache. The same for
#: every instruction set, because callers count items before one is chosen.
ROWS = 96


@dataclass(frozen=True)
class Tile:
    """One variant of the inner code.

    rows   rows of the left operand
    cols   columns of a panel, a divisor of PANEL and a multiple of the lanes
    split  partial sums of every element, over k modulo `split`: hides latency where there are few
    """

    rows: int
    cols: int
    split: int = 1


@dataclass(frozen=True)
class Blocking:
    """How a product is cut.

    tiles    by falling rows, the last with one row; rows are covered greedily
    depth    greatest length along k of the part of a panel that is used at a time, a multiple of 4
    unroll   steps along k in one turn of the innermost loop, a multiple of every `split`
    """

    tiles: tuple[Tile, ...]
    depth: int
    unroll: int = 4


AVX512 = Blocking((Tile(8, 32), Tile(4, 32), Tile(2, 32, 2), Tile(1, 32, 2)), 256, 2)
AVX2 = Blocking((Tile(6, 16), Tile(4, 16), Tile(2, 16, 2), Tile(1, 32, 2)), 256)
NEON = Blocking((Tile(6, 16), Tile(4, 16), Tile(2, 16), Tile(1, 32)), 256)
WASM = Blocking((Tile(4, 8), Tile(2, 8), Tile(1, 16)), 256)


def _choices(
    rows: tuple[Tile, ...], one: int, unrolls: tuple[int, ...], depths: tuple[int, ...] = (256,)
) -> tuple[Blocking, ...]:
    """For each largest tile: with halved ones down to a single row, unrolled and deep as listed."""
    made = []
    for top in rows:
        for unroll in unrolls:
            tiles, count = [top], 8
            while count > 1:
                if count < top.rows:
                    tiles.append(Tile(count, top.cols))
                count //= 2
            tiles.append(Tile(1, PANEL, min(one, unroll)))
            made += [Blocking(tuple(tiles), depth, unroll) for depth in depths]
    return tuple(made)


#: What a tuner tries, beside the blocking of BLOCKINGS.
CANDIDATES = {
    "x86_64_avx512": _choices((Tile(8, 32), Tile(12, 32), Tile(14, 32)), 4, (1, 2, 4), (256, 384)),
    "x86_64_avx2": _choices((Tile(6, 16), Tile(4, 16), Tile(3, 32)), 2, (1, 2, 4)),
    "aarch64": _choices((Tile(6, 16), Tile(8, 8), Tile(4, 16)), 1, (1, 2, 4)),
    "wasm32": _choices((Tile(4, 8), Tile(2, 16), Tile(6, 8)), 1, (1, 2, 4)),
}

BLOCKINGS = {"x86_64_avx512": AVX512, "x86_64_avx2": AVX2, "aarch64": NEON, "wasm32": WASM}
