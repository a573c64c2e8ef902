"""What is known of a block of pairs from the least and greatest positions of its two sides.

The pairs themselves are looked at only where this cannot say: a causal mask over 16384 tokens has
32640 blocks that are seen whole and 256 that are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgec.kernels.attention_tiles import BLOCK
from edgec.patterns import (
    BlockLocal,
    Causal,
    Dilated,
    Global,
    Pattern,
    RandomBlocks,
    Strided,
    Window,
)
from edgec.patterns.choice import chosen_blocks

#: Of a block: no pair is seen, some may be (0), every pair is.
NONE, EVERY = -1, 1

Array = npt.NDArray[np.int64]
Known = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Ranges:
    """Least and greatest token of each block, i64[blocks].

    classes   where the tokens are sorted by classes of which each sees itself only: those of the
              first and the last token of each block
    """

    least: Array
    greatest: Array
    classes: tuple[Array, Array] | None = None

    @staticmethod
    def of(order: Array, classes: Array | None) -> Ranges:
        """Of tokens in the order of the table's positions, and the class of each."""
        starts = np.arange(0, len(order), BLOCK)
        ends = np.minimum(starts + BLOCK, len(order)) - 1
        return Ranges(
            np.minimum.reduceat(order, starts),
            np.maximum.reduceat(order, starts),
            None if classes is None else (classes[starts], classes[ends]),
        )


def classify(pattern: Pattern, ranges: Ranges, length: int) -> Known:
    """i8[query blocks, key blocks]: NONE, EVERY, or 0 where the pairs must be looked at."""
    i0, i1 = ranges.least[:, None], ranges.greatest[:, None]
    j0, j1 = ranges.least[None], ranges.greatest[None]
    if ranges.classes is not None:
        first, last = ranges.classes
        none = (first[:, None] > last[None]) | (last[:, None] < first[None])
        single = first == last
        known = _of(~none & single[:, None] & single[None], none)
    else:
        known = np.full(np.broadcast_shapes(i0.shape, j0.shape), NONE, np.int8)
        for part in pattern.parts:
            known = np.maximum(known, _known(part, i0, i1, j0, j1, length))
    return np.minimum(known, _within(i0 - j1, i1 - j0, 0, length)) if pattern.past_only else known


def _known(part: Pattern, i0: Array, i1: Array, j0: Array, j1: Array, length: int) -> Known:
    match part:
        case BlockLocal(size, reach):
            apart = i0 // size - j1 // size, i1 // size - j0 // size
            return _within(*apart, -reach, reach)
        case Window(radius, causal):
            return _within(i0 - j1, i1 - j0, 0 if causal else -radius, radius)
        case Causal():
            return _within(i0 - j1, i1 - j0, 0, length)
        case Global(tokens, last):
            end = length - last
            every = (i1 < tokens) | (j1 < tokens) | (i0 >= end) | (j0 >= end)
            none = (i0 >= tokens) & (j0 >= tokens) & (i1 < end) & (j1 < end)
            return _of(every, none)
        case Dilated(segment, rate):
            none = (i0 // segment > j1 // segment) | (i1 // segment < j0 // segment)
            one = (i0 // segment == i1 // segment) & (j0 // segment == j1 // segment)
            return _of(one & ~none & (rate == 1), none)
        case Strided(stride, size):
            single = (i0 // size == i1 // size) & (j0 // size == j1 // size)
            met = (i0 // size - j0 // size) % stride == 0
            return _of(single & met, single & ~met)
        case RandomBlocks(_, size):
            return _random(i0 // size, i1 // size, j0 // size, j1 // size, part, length)
    raise AssertionError(part)


def _random(a0: Array, a1: Array, b0: Array, b1: Array, part: RandomBlocks, length: int) -> Known:
    """From counts of chosen blocks in rectangles of blocks [a0, a1] x [b0, b1]."""
    blocks = -(-length // part.size)
    rows = np.arange(blocks)
    sums = np.zeros((blocks + 1, blocks + 1), np.int32)
    chosen = chosen_blocks(part.seed, part.count, rows, blocks)
    sums[1 + rows[:, None], 1 + chosen] = 1
    sums = sums.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
    found = sums[a1 + 1, b1 + 1] - sums[a0, b1 + 1] - sums[a1 + 1, b0] + sums[a0, b0]
    return _of(found == (a1 - a0 + 1) * (b1 - b0 + 1), found == 0)


def _within(low: Array, high: Array, least: int, most: int) -> Known:
    """Of a difference that takes values from `low` to `high`."""
    return _of((low >= least) & (high <= most), (high < least) | (low > most))


def _of(every: npt.NDArray[np.bool_], none: npt.NDArray[np.bool_]) -> Known:
    return every.astype(np.int8) - none.astype(np.int8)
