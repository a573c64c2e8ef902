"""The random blocks of a pattern: a choice that any target can repeat in 32-bit integers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# All values stay below P * P < 2^30: the same in int32, int64 and float64, in C and in a graph.
# P is the greatest prime below 2^15 that leaves 2 when divided by 3: cubing is a permutation of
# 0..P-1, and no two of P columns have the same rank. The others are numbers without meaning.
P = 32717
FACTOR = 12377
OFFSET = 7919
ROUNDS = 2


def mixed(x: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(FACTOR x^3 + OFFSET) mod P, applied `ROUNDS` times."""
    for _ in range(ROUNDS):
        x = x % P
        x = (x * x % P * x % P * FACTOR + OFFSET) % P
    return x


def ranks(
    seed: int, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """mixed(mixed(s + row) + column), s = mixed(mixed(seed div P) + seed mod P); broadcasts."""
    start = mixed(mixed(np.array(seed // P)) + seed % P)
    return mixed(mixed(start + rows) + columns)


def chosen_blocks(
    seed: int, count: int, rows: npt.NDArray[np.int64], blocks: int
) -> npt.NDArray[np.int64]:
    """i64[rows, min(count, blocks)]: the key blocks with the least ranks, the least rank first.

    rows     numbers of query blocks
    blocks   number of key blocks
    Of equal ranks the smaller column comes first.
    """
    found = ranks(seed, rows[:, None], np.arange(blocks)[None, :])
    order = np.argsort(found, axis=1, kind="stable")[:, :count]
    return np.asarray(order, dtype=np.int64)
