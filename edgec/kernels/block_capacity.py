"""How much room the block tables of a pattern take, for all numbers of tokens up to a maximum."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.kernels.attention_tiles import BLOCK
from edgec.kernels.block_table import is_ordered, pattern_table
from edgec.patterns import Dilated, Global, Pattern, RandomBlocks, Strided, Union
from edgec.patterns.pattern import Part


@dataclass(frozen=True)
class TableCapacity:
    """Elements of the arrays of `edgec_block_table`."""

    row_ptr: int
    blocks: int
    tiles: int
    order: int


def table_capacity(pattern: Pattern, longest: int) -> TableCapacity:
    """Room for 0..`longest` tokens.

    What a part sees does not depend on the number of tokens, so that the blocks and tiles of
    shorter inputs are among those of the longest. Three do depend on it and are bounded: the
    trailing tokens of `global`, `random`, and the places of tokens in the order of a permutation.
    """
    rows = -(-longest // BLOCK)
    period, ordered = pattern.head_period, is_ordered(pattern)
    blocks = tiles = 0
    if ordered and isinstance(pattern.parts[0], Strided):
        blocks = rows * _strided_row(pattern.parts[0], longest)
        tiles = _strided_tiles(pattern.parts[0], longest)
    elif fixed := _independent(pattern):
        table = pattern_table(fixed, rows * BLOCK, ordered)
        blocks, tiles = table.blocks, table.tiles
    for part in pattern.parts:
        more = _more(part, rows, ordered, pattern.past_only)
        blocks, tiles = blocks + period * more[0], tiles + period * more[1]
    most = period * rows * rows
    return TableCapacity(
        period * rows + 1,
        min(blocks, most),
        max(min(tiles, most), 1),
        period * longest if ordered else 0,
    )


def _independent(pattern: Pattern) -> Pattern | None:
    """The parts whose meaning does not depend on the number of tokens."""
    fixed: list[Part] = []
    for part in pattern.parts:
        if isinstance(part, Global) and part.last:
            if part.tokens:
                fixed.append(Global(part.tokens))
        elif not isinstance(part, RandomBlocks):
            fixed.append(part)
    return Union(tuple(fixed), pattern.past_only) if fixed else None


def _more(part: Pattern, rows: int, ordered: bool, past_only: bool) -> tuple[int, int]:
    """Blocks and tiles of one head that a part may add to those of `_independent`."""
    match part:
        case Global(_, last) if last:
            wide = _spans(last)
            # a tile where the first trailing token lies in a block, and on the diagonal
            return 2 * rows * wide, 2 * rows + wide
        case RandomBlocks(count, size):
            visited = rows * _spans(size, start=BLOCK) * count * _spans(BLOCK, start=size)
            # whole blocks are seen whole but for the diagonal of a causal pattern
            return visited, (1 if past_only else 0) if size % BLOCK == 0 else visited
        case Dilated(segment, rate) if ordered:
            # where the head's own tokens end, which are the first in the order
            return 0, 2 * (_spans(segment // rate) + 1)
    return 0, 0


def _spans(size: int, start: int = 1) -> int:
    """Most blocks that a range touches: `size` tokens anywhere against table blocks.

    With `start`: a block of `start` tokens at a multiple of `start` against blocks of `size`.
    """
    if start == 1:
        return (size + BLOCK - 2) // BLOCK + 1
    if start % size == 0:
        return start // size
    return 1 if size % start == 0 else (start + size - 2) // size + 1


def _strided_tiles(part: Strided, longest: int) -> int:
    """Most tiles where tokens are sorted by residue.

    Blocks of one class see each other whole, or in a causal pattern the same triangle. Others, and
    the last one, have a tile for each class on their other side, and with their neighbours.
    """
    classes = min(part.stride, -(-longest // part.size))
    mixed = min(classes, -(-longest // BLOCK)) + 1
    return 2 * (classes + mixed) + 3 * mixed + 1


def _strided_row(part: Strided, longest: int) -> int:
    """Most key blocks that one block of queries visits where tokens are sorted by residue."""
    periods = -(-longest // (part.stride * part.size))
    of_class = periods * part.size
    classes = (BLOCK - 2) // max(of_class - part.size, 1) + 2
    return (min(classes, part.stride) * of_class + BLOCK - 2) // BLOCK + 1
