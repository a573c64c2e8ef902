"""What part of all pairs a pattern leaves."""

from __future__ import annotations

import numpy as np

from edgec.patterns.pattern import Pattern

ROWS = 256  # at a time, so that memory grows with the length only


def density(pattern: Pattern, length: int, causal: bool = False, heads: int | None = None) -> float:
    """Pairs that a query and a key see, of those that all keys (up to the query) give: 0..1.

    heads   the first so many, over which the mean is taken; None: as many as differ
    """
    variants = min(heads or pattern.head_period, pattern.head_period)
    if length == 0:
        return 1.0
    keys, seen = np.arange(length)[None, :], 0
    for head in range(variants):
        for start in range(0, length, ROWS):
            rows = np.arange(start, min(start + ROWS, length))[:, None]
            shown = np.broadcast_to(pattern.visible(rows, keys, length, head), (rows.size, length))
            seen += int((shown & (keys <= rows) if causal else shown).sum())
    pairs = length * (length + 1) // 2 if causal else length * length
    return seen / (pairs * variants)
