"""What part of all pairs a pattern leaves."""

from __future__ import annotations

import numpy as np

from edgec.patterns.pattern import Pattern

ROWS = 256  # at a time, so that memory grows with the length only


def density(pattern: Pattern, length: int, causal: bool = False) -> float:
    """Pairs that a query and a key see, of those that all keys (up to the query) give: 0..1.

    The mean over heads, where each has tokens of its own.
    """
    if length == 0:
        return 1.0
    keys, seen = np.arange(length)[None, :], 0
    for head in range(pattern.head_period):
        for start in range(0, length, ROWS):
            rows = np.arange(start, min(start + ROWS, length))[:, None]
            shown = np.broadcast_to(pattern.visible(rows, keys, length, head), (rows.size, length))
            seen += int((shown & (keys <= rows) if causal else shown).sum())
    pairs = length * (length + 1) // 2 if causal else length * length
    return seen / (pairs * pattern.head_period)
