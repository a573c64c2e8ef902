"""The static memory plan: every temporary gets an offset that holds at all sizes.

Offsets are decided for the greatest sizes, greatest storage first, each at the lowest offset where
nothing that lives at the same time is in the way (greedy by size: Pisarchyk, Lee 2020,
arXiv:2001.03288, section 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgec.errors import UnsupportedError
from edgec.ir import Range
from edgec.runtime.container import round_up
from edgec.targets.native.sizes import greatest
from edgec.targets.native.statements import Statement, storages
from edgec.targets.native.tables import Table
from edgec.targets.native.views import Storage

#: Of one value: kernels count its elements in 32 bits.
MOST_BYTES = 2**31 - 1


@dataclass(frozen=True)
class Memory:
    """What the plan and the weights file decided.

    arena          offset of each arena and state storage, bytes
    weights        offset of each entry in the payload, bytes
    tables         block tables of patterns
    arena_bytes    whole arena
    weights_bytes  size of the file
    weights_hash   SHA-256 of its payload
    """

    arena: Mapping[Storage, int]
    weights: Mapping[str, int]
    tables: Sequence[Table]
    arena_bytes: int
    weights_bytes: int
    weights_hash: bytes


@dataclass(frozen=True)
class Life:
    """First and last statement that touch a storage, and its bytes at the greatest sizes."""

    first: int
    last: int
    nbytes: int


def lives(statements: Sequence[Statement], ranges: Mapping[str, Range]) -> dict[Storage, Life]:
    """Lives of the arena's storages; what a loop touches lives as long as the loop, which is one
    statement here.

    Raises UnsupportedError for values that are too large, of the caller and of states too.
    """
    found: dict[Storage, tuple[int, int]] = {}
    for i, statement in enumerate(statements):
        for storage in storages(statement):
            first, _ = found.get(storage, (i, i))
            found[storage] = (first, i)
    made = {s: Life(a, b, greatest(s.nbytes, ranges)) for s, (a, b) in found.items()}
    if large := sorted(f"{s.name} {x.nbytes}" for s, x in made.items() if x.nbytes > MOST_BYTES):
        got = f"values of more than {MOST_BYTES} bytes at the greatest sizes: {', '.join(large)}"
        do = 'give smaller max_sizes, as native{max_sizes="seq=512"}'
        raise UnsupportedError("native", got, "32-bit offsets inside of a value", do)
    return {s: life for s, life in made.items() if s.kind == "arena"}


def plan(found: Mapping[Storage, Life], start: int = 0) -> tuple[dict[Storage, int], int]:
    """Offsets from `start` on, multiples of 64, and the end of the memory that is used."""
    offsets: dict[Storage, int] = {}
    end = start
    for storage, life in sorted(found.items(), key=lambda item: -item[1].nbytes):
        taken = sorted(
            (offsets[other], offsets[other] + round_up(found[other].nbytes))
            for other in offsets
            if found[other].first <= life.last and life.first <= found[other].last
        )
        at = start
        for low, high in taken:
            if at + life.nbytes <= low:
                break
            at = max(at, high)
        offsets[storage] = at
        end = max(end, at + round_up(life.nbytes))
    return offsets, end
