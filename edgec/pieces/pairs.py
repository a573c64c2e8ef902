"""Byte-pair encoding of one piece: which pieces it is made of on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

Rank = Callable[[str, str], float | None]
"""How early a pair is merged, the least first; None: never."""


def steps(symbols: Sequence[str], rank: Rank, prefix: str = "") -> set[str]:
    """All symbols that occur while the pairs of `symbols` are merged, the leftmost of equals first.

    prefix   of symbols that continue a word: the second of a pair loses it
    """
    parts, seen = list(symbols), set(symbols)
    while len(parts) > 1:
        ranks = [rank(a, b) for a, b in pairwise(parts)]
        found = [(r, i) for i, r in enumerate(ranks) if r is not None]
        if not found:
            break
        _, i = min(found)
        parts[i : i + 2] = [parts[i] + parts[i + 1].removeprefix(prefix)]
        seen.add(parts[i])
    return seen
