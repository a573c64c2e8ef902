"""Sizes of attention's register tiles and scratch, and the magnitudes of what is hidden."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgec.kernels.instruction_sets import InstructionSet

#: Queries and keys of one block, the same for all instruction sets, so that block tables are too.
#: Q^T, S^T and one block of K take 48 KB at D = 64.
BLOCK = 64

#: Three magnitudes for what is not seen. HIDDEN marks a pair that the pattern, a bool mask or minus
#: infinity hides; a row that has seen nothing keeps START, so that HIDDEN gives 2^-1e38 = 0 and the
#: row zeros. LOWEST is the least value of a float mask: a row that is at it everywhere (masks of
#: finfo.min) is the mean of its values, as in torch.
HIDDEN, START, LOWEST = -3e38, -2e38, -1e38

#: Scores are in base 2.
LOG2E = math.log2(math.e)


@dataclass(frozen=True)
class AttentionTiles:
    """Register tiles of the two products.

    query_vectors  vectors of queries in S^T = K Q^T, by `keys` keys: that many accumulators
    single_keys    keys where only one vector of queries is left
    queries        queries in O = P V, by `value_vectors` vectors of the head dimension
    unroll         steps of the innermost loops that are written out
    """

    query_vectors: int
    keys: int
    single_keys: int
    queries: int
    value_vectors: int
    unroll: int = 8


def attention_tiles(isa: InstructionSet) -> AttentionTiles:
    """16 accumulators of 32 registers, 12 of 16: the fastest of those timed on one core."""
    if isa.registers >= 32:
        return AttentionTiles(4, 4, 8, 4, 4)
    return AttentionTiles(2, 6, 8, 4, 3)


def scratch(isa: InstructionSet, head_dim: int, value_dim: int) -> tuple[int, ...]:
    """Floats of Q^T, S^T, O, and of maximum, sum and factor of each query."""
    tiles = attention_tiles(isa)
    # the last tile of keys may reach beyond the block
    keys = max(-(-BLOCK // k) * k for k in (tiles.keys, tiles.single_keys))
    row = -(-value_dim // isa.lanes) * isa.lanes
    return head_dim * BLOCK, keys * BLOCK, row * BLOCK, BLOCK, BLOCK, BLOCK


def workspace_bytes(isa: InstructionSet, head_dim: int, value_dim: int) -> int:
    return 4 * sum(scratch(isa, head_dim, value_dim))


#: Queries that DecodeAttention keeps in scratch while it goes over the keys once.
DECODE_ROWS = 8


def decode_scratch(isa: InstructionSet, head_dim: int, value_dim: int) -> tuple[int, ...]:
    """Floats of Q, one row of scores, O, and of maximum and sum of each query."""
    wide, tall = (-(-d // isa.lanes) * isa.lanes for d in (head_dim, value_dim))
    return DECODE_ROWS * wide, BLOCK, DECODE_ROWS * tall, isa.lanes * 2, isa.lanes * 2
