"""Block tables: which blocks of keys a block of queries visits, and which pairs of them count.

A table is rows over blocks (`row_ptr`, `col_idx`), and for each visited block -1 where all pairs
are seen, or the number of a tile of what is added to the scores. Equal tiles are stored once: a
window needs two or three for any number of tokens. `edgec/block_table.h` builds the same table on
the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgec.kernels.attention_tiles import BLOCK, HIDDEN
from edgec.kernels.block_ranges import EVERY, NONE, Ranges, classify
from edgec.patterns import Dilated, Global, Pattern, RandomBlocks, Strided

Ints = npt.NDArray[np.int32]
Seen = npt.NDArray[np.bool_]


_BATCH = 512  # blocks whose pairs are evaluated at a time: 2 million


@dataclass(frozen=True)
class BlockTable:
    """What SparseAttention reads.

    row_ptr   i32[period * q_blocks + 1]; head h has the rows from (h % period) * q_blocks on
    col_idx   i32[blocks] numbers of key blocks, ascending in each row
    tile_id   i32[blocks] number of a tile, -1 where all pairs are seen
    bias      f32[max(tiles, 1), BLOCK, BLOCK]: [key, query], 0 or HIDDEN. Pairs behind the last
              query or key have any value
    order     i32[period, tokens]: the tokens in the order of the table's positions, or None
    tiles     number of tiles
    """

    row_ptr: Ints
    col_idx: Ints
    tile_id: Ints
    bias: npt.NDArray[np.float32]
    order: Ints | None
    period: int
    tiles: int

    @property
    def blocks(self) -> int:
        """Visited blocks, of all heads of a period."""
        return len(self.col_idx)


def is_ordered(pattern: Pattern) -> bool:
    """Whether a permutation of the tokens makes the pattern dense blocks, so that it is worth it.

    A single dilated part of rate r has 1/r^2 of its pairs, spread over all; a strided part whose
    blocks are no multiple of the table's touches every block.
    """
    if len(pattern.parts) != 1:
        return False
    part = pattern.parts[0]
    if isinstance(part, Dilated):
        return part.rate > 1
    return isinstance(part, Strided) and part.stride > 1 and part.size % BLOCK != 0


def token_order(pattern: Pattern, length: int, head: int) -> npt.NDArray[np.int64]:
    """Tokens sorted by what they see: those of the head's rate first, or by residue of blocks."""
    tokens = np.arange(length)
    part = pattern.parts[0]
    if isinstance(part, Dilated):
        return np.argsort(tokens % part.rate != head % part.rate, kind="stable")
    classes = token_classes(pattern, tokens)
    assert classes is not None
    return np.argsort(classes, kind="stable")


def token_classes(pattern: Pattern, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
    """Of a strided pattern the residue of each token's block: it sees those with its own."""
    part = pattern.parts[0]
    return tokens // part.size % part.stride if isinstance(part, Strided) else None


def pattern_table(pattern: Pattern, length: int, ordered: bool | None = None) -> BlockTable:
    """The table of a pattern over `length` tokens; `ordered` where is_ordered says so."""
    ordered, period = is_ordered(pattern) if ordered is None else ordered, pattern.head_period
    writer = _Writer()
    orders = []
    for head in range(period):
        order = token_order(pattern, length, head) if ordered else np.arange(length)
        orders.append(order)
        classes = token_classes(pattern, order) if ordered else None
        known = classify(pattern, Ranges.of(order, classes), length)
        writer.add(known, _tiles(pattern, order, known, length, head))
    return writer.table(np.stack(orders).astype("i4") if ordered else None, period)


def mask_table(seen: Seen) -> BlockTable:
    """The table of any visibility, bool[period, queries, keys]."""
    writer = _Writer()
    for one in seen:
        rows, columns = (-(-n // BLOCK) for n in one.shape)
        padded = np.zeros((rows * BLOCK, columns * BLOCK), np.bool_)
        exists = padded.copy()
        padded[: one.shape[0], : one.shape[1]] = one
        exists[: one.shape[0], : one.shape[1]] = True
        cut = [
            x.reshape(rows, BLOCK, columns, BLOCK).transpose(0, 2, 1, 3) for x in (padded, exists)
        ]
        known = np.where((cut[0] | ~cut[1]).all((2, 3)), EVERY, 0).astype(np.int8)
        known[~cut[0].any((2, 3))] = NONE
        partial = np.argwhere(known == 0)
        writer.add(known, ((r, c, cut[0][r, c]) for r, c in partial))
    return writer.table(None, len(seen))


def _tiles(
    pattern: Pattern,
    order: npt.NDArray[np.int64],
    known: npt.NDArray[np.int8],
    length: int,
    head: int,
) -> Iterator[tuple[int, int, Seen]]:
    """(query block, key block, bool[query, key]) of the blocks that ranges could not decide.

    Settles `known` for each as it goes. Positions behind the end are those of longer inputs, so
    that the last blocks have the tiles of the others.
    """
    undecided = np.argwhere(known == 0)
    padded = np.concatenate([order, np.arange(length, -(-length // BLOCK) * BLOCK)])
    exists = (np.arange(len(padded)) < length).reshape(-1, BLOCK)
    tokens = padded.reshape(-1, BLOCK)
    for start in range(0, len(undecided), _BATCH):
        some = undecided[start : start + _BATCH]
        rows, columns = some.T
        seen = _seen(pattern, tokens[rows][:, :, None], tokens[columns][:, None, :], length, head)
        there = exists[rows][:, :, None] & exists[columns][:, None, :]
        found, whole = (seen & there).any((1, 2)), (seen | ~there).all((1, 2))
        known[rows[~found], columns[~found]] = NONE
        known[rows[whole], columns[whole]] = EVERY
        for k in np.nonzero(found & ~whole)[0]:
            yield int(rows[k]), int(columns[k]), seen[k]


def _seen(
    pattern: Pattern,
    i: npt.NDArray[np.int64],
    j: npt.NDArray[np.int64],
    length: int,
    head: int,
) -> Seen:
    """`pattern.visible`, where positions may lie behind the last token."""
    seen: Seen = np.zeros(np.broadcast_shapes(i.shape, j.shape), np.bool_)
    for part in pattern.parts:
        if isinstance(part, RandomBlocks):  # it has no blocks behind the last
            last = length - 1
            seen |= part.visible(np.minimum(i, last), np.minimum(j, last), length, head)
        else:
            end = 2**62 if isinstance(part, Global) and not part.last else length
            seen |= part.visible(i, j, end, head)
    return seen & (j <= i) if pattern.past_only else seen


class _Writer:
    """Collects the rows of all heads, and tiles by content in the order of first use."""

    def __init__(self) -> None:
        self._counts: list[npt.NDArray[np.int64]] = []
        self._columns: list[npt.NDArray[np.int64]] = []
        self._ids: list[npt.NDArray[np.int32]] = []
        self._numbers: dict[bytes, int] = {}
        self._tiles: list[Seen] = []

    def add(self, known: npt.NDArray[np.int8], tiles: Iterator[tuple[int, int, Seen]]) -> None:
        """One head: `known` of every block, and the tiles of the partial ones in row order."""
        ids = np.full(known.shape, -1, np.int32)
        for row, column, seen in tiles:
            bits = np.packbits(seen).tobytes()
            if bits not in self._numbers:
                self._numbers[bits] = len(self._tiles)
                self._tiles.append(seen)
            ids[row, column] = self._numbers[bits]
        rows, columns = np.nonzero(known != NONE)
        self._counts.append(np.bincount(rows, minlength=len(known)))
        self._columns.append(columns)
        self._ids.append(ids[rows, columns])

    def table(self, order: Ints | None, period: int) -> BlockTable:
        counts = np.concatenate(self._counts)
        bias = np.zeros((max(len(self._tiles), 1), BLOCK, BLOCK), np.float32)
        for i, seen in enumerate(self._tiles):
            bias[i] = np.where(seen.T, np.float32(0), np.float32(HIDDEN))
        return BlockTable(
            np.concatenate([[0], np.cumsum(counts)]).astype("i4"),
            np.concatenate(self._columns).astype("i4"),
            np.concatenate(self._ids).astype("i4"),
            bias,
            order,
            period,
            len(self._tiles),
        )
