"""How many pairs of a query and a key a pattern sees: expressions in the length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.patterns import (
    BlockLocal,
    Causal,
    Dilated,
    Global,
    RandomBlocks,
    Strided,
    Window,
)
from edgec.patterns.pattern import Part


def pairs(parts: tuple[Part, ...], length: Dim, causal: bool) -> Dim:
    """At most so many pairs in n = `length` tokens, per head: a pair of two parts counts twice.

    causal   windows and block-local parts lose what is ahead; other parts are counted whole
    """
    return dims.normal(sum((_PAIRS[type(p)](p, length, causal) for p in parts), 0))


def _block_local(part: BlockLocal, n: Dim, causal: bool) -> Dim:
    return n * part.size * (part.neighbours + 1 + (0 if causal else part.neighbours))


def _window(part: Window, n: Dim, causal: bool) -> Dim:
    return n * (part.radius + 1 + (0 if causal or part.causal else part.radius))


def _strided(part: Strided, n: Dim, causal: bool) -> Dim:
    return (
        n
        * part.size
        * dims.floordiv(dims.normal(n + part.size * part.stride - 1), part.size * part.stride)
    )


def _dilated(part: Dilated, n: Dim, causal: bool) -> Dim:
    rows = dims.floordiv(dims.normal(n + part.rate - 1), part.rate)
    return rows * (part.segment // part.rate)


def _global(part: Global, n: Dim, causal: bool) -> Dim:
    return 2 * n * (part.tokens + part.last)


def _random(part: RandomBlocks, n: Dim, causal: bool) -> Dim:
    return n * part.count * part.size


def _causal(part: Causal, n: Dim, causal: bool) -> Dim:
    return dims.floordiv(dims.normal(n * (n + 1)), 2)


_PAIRS: dict[type, Callable[[Any, Dim, bool], Dim]] = {
    BlockLocal: _block_local,
    Window: _window,
    Strided: _strided,
    Dilated: _dilated,
    Global: _global,
    RandomBlocks: _random,
    Causal: _causal,
}
