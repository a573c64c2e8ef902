"""The static memory plan: every temporary gets an offset that holds at all sizes.

Offsets are decided for the greatest sizes, greatest storage first, each at the lowest offset where
nothing that lives at the same time is in the way (greedy by size: Pisarchyk, Lee 2020,
arXiv:2001.03288, section 4.2).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgec.errors import UnsupportedError
from edgec.ir import Graph, Range, dims
from edgec.ir.dims import Dim
from edgec.targets.native.statements import Loop, Statement, storages
from edgec.targets.native.views import Storage

ALIGNMENT = 64

#: A dimension without an upper bound has this one in its Range.
UNBOUNDED = Range().max


@dataclass(frozen=True)
class Life:
    """First and last statement that touch a storage, and its bytes at the greatest sizes."""

    first: int
    last: int
    nbytes: int


def check_bounded(graphs: Iterable[Graph]) -> None:
    """Raises UnsupportedError that names every dimension without an upper bound."""
    open_dims = sorted(
        {f"{g.name}: {n}" for g in graphs for n, r in g.dims.items() if r.max >= UNBOUNDED}
    )
    if open_dims:
        need = "a greatest size of every dimension, for which memory is planned"
        do = 'give max_sizes, as native{max_sizes="seq=512"}, or capture with a maximum'
        raise UnsupportedError("native", f"no maximum for {', '.join(open_dims)}", need, do)


def greatest(dim: Dim, ranges: Mapping[str, Range]) -> int:
    """Upper bound of a dimension over all admitted sizes.

    The expressions of shapes are monotone in each name between its bounds, up to the steps of
    floor divisions; so the greatest value is at a corner, or less than one step from it.
    """
    names = sorted(dims.names([dim]))
    corners = itertools.product(*((ranges[n].min, ranges[n].max) for n in names))
    return max(dims.evaluate(dim, dict(zip(names, c, strict=True))) for c in corners)


def lives(statements: Sequence[Statement], ranges: Mapping[str, Range]) -> dict[Storage, Life]:
    """Lives of the arena's storages; what a loop touches lives as long as the loop, which is one
    statement here."""
    found: dict[Storage, tuple[int, int]] = {}
    for i, statement in enumerate(statements):
        for storage in storages(statement):
            if storage.kind == "arena":
                first, _ = found.get(storage, (i, i))
                found[storage] = (first, i)
    return {s: Life(a, b, greatest(s.nbytes, ranges)) for s, (a, b) in found.items()}


def plan(found: Mapping[Storage, Life], start: int = 0) -> tuple[dict[Storage, int], int]:
    """Offsets from `start` on, multiples of 64, and the end of the memory that is used."""
    offsets: dict[Storage, int] = {}
    end = start
    for storage, life in sorted(found.items(), key=lambda item: -item[1].nbytes):
        taken = sorted(
            (offsets[other], offsets[other] + _rounded(found[other].nbytes))
            for other in offsets
            if found[other].first <= life.last and life.first <= found[other].last
        )
        at = start
        for low, high in taken:
            if at + life.nbytes <= low:
                break
            at = max(at, high)
        offsets[storage] = at
        end = max(end, at + _rounded(life.nbytes))
    return offsets, end


def _rounded(nbytes: int) -> int:
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT


__all__ = ["ALIGNMENT", "Life", "Loop", "check_bounded", "greatest", "lives", "plan"]
