"""Parts of attention patterns in a graph: the predicates of `Part.visible`, as nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.types import DType
from edgec.ops.indexing import size_value
from edgec.patterns import (
    BlockLocal,
    Causal,
    Dilated,
    Global,
    RandomBlocks,
    Strided,
    Window,
    choice,
)
from edgec.patterns.pattern import Part

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value

INTEGER = DType.I64  # of positions


@dataclass(frozen=True)
class Tokens:
    """The tokens of an attention: `length` real ones of `padded` rows, for `heads` heads.

    drawn   random blocks that the graph has already, so that they are drawn once
    """

    length: Dim
    padded: Dim
    heads: Dim
    drawn: dict[RandomBlocks, Value] = field(default_factory=dict, compare=False)

    def positions(self, b: Builder) -> Value:
        """i64[N, 1]."""
        order: Value = b.reshape(b.iota(size=self.padded), shape=(self.padded, 1))
        return order


def whole(b: Builder, number: int) -> Value:
    return b.scalar(number, INTEGER)


def sees(b: Builder, part: Part, i: Value, j: Value, tokens: Tokens, axes: int) -> Value:
    """bool: whether queries at i see keys at j by one part; i and j broadcast, j >= 0 or no matter.

    axes   of the result, without the leading axis of heads that a part has which differs by head
    """
    made: Value = _PREDICATES[type(part)](b, part, i, j, tokens, axes)
    return made


def _blocks(b: Builder, x: Value, size: int) -> Value:
    found: Value = x if size == 1 else b.floor_div(x, whole(b, size))
    return found


def _block_local(
    b: Builder, part: BlockLocal, i: Value, j: Value, tokens: Tokens, axes: int
) -> Value:
    apart = b.sub(_blocks(b, i, part.size), _blocks(b, j, part.size))
    seen: Value = b.le(b.abs(apart), whole(b, part.neighbours))
    return seen


def _window(b: Builder, part: Window, i: Value, j: Value, tokens: Tokens, axes: int) -> Value:
    behind = b.sub(i, j)
    seen: Value = b.le(behind if part.causal else b.abs(behind), whole(b, part.radius))
    if part.causal:
        seen = b.logical_and(seen, b.ge(behind, whole(b, 0)))
    return seen


def _strided(b: Builder, part: Strided, i: Value, j: Value, tokens: Tokens, axes: int) -> Value:
    phases = (b.mod(_blocks(b, x, part.size), whole(b, part.stride)) for x in (i, j))
    seen: Value = b.eq(*phases)
    return seen


def _dilated(b: Builder, part: Dilated, i: Value, j: Value, tokens: Tokens, axes: int) -> Value:
    offset = b.mod(b.iota(size=tokens.heads), whole(b, part.rate))
    offset = b.reshape(offset, shape=(tokens.heads, *(1,) * axes))
    seen = b.eq(_blocks(b, i, part.segment), _blocks(b, j, part.segment))
    for x in (i, j):
        seen = b.logical_and(seen, b.eq(b.mod(x, whole(b, part.rate)), offset))
    met: Value = seen
    return met


def _global(b: Builder, part: Global, i: Value, j: Value, tokens: Tokens, axes: int) -> Value:
    sides = [is_global(b, part, x, tokens.length) for x in (i, j)]
    seen: Value = b.logical_or(*sides)
    return seen


def is_global(b: Builder, part: Global, x: Value, length: Dim) -> Value:
    """bool: whether tokens at x are global."""
    found: Value | None = None
    if part.tokens:
        found = b.lt(x, whole(b, part.tokens))
    if part.last:
        end = size_value(b, dims.normal(length - part.last), INTEGER)
        behind = b.ge(x, end)
        found = behind if found is None else b.logical_or(found, behind)
    assert found is not None
    return found


def _random(b: Builder, part: RandomBlocks, i: Value, j: Value, tokens: Tokens, axes: int) -> Value:
    chosen = chosen_blocks(b, part, tokens)
    blocks = chosen.type.shape[0]
    rows = b.minimum(_blocks(b, i, part.size), size_value(b, dims.normal(blocks - 1), INTEGER))
    columns = _blocks(b, j, part.size)
    seen: Value | None = None
    for c in range(part.count):
        one = b.reshape(b.slice(chosen, axis=1, start=c, stop=c + 1), shape=(blocks,))
        met = b.eq(b.gather(one, rows, axis=0), columns)
        seen = met if seen is None else b.logical_or(seen, met)
    assert seen is not None
    return seen


def _causal(b: Builder, part: Causal, i: Value, j: Value, tokens: Tokens, axes: int) -> Value:
    seen: Value = b.le(j, i)
    return seen


_PREDICATES: dict[type, Callable[..., Value]] = {
    BlockLocal: _block_local,
    Window: _window,
    Strided: _strided,
    Dilated: _dilated,
    Global: _global,
    RandomBlocks: _random,
    Causal: _causal,
}


# ------------------------------------------------------------------ random blocks
def chosen_blocks(b: Builder, part: RandomBlocks, tokens: Tokens) -> Value:
    """i64[blocks, count]: `edgec.patterns.choice`; numbers >= `blocks` where there are too few.

    For a length that is not known, it is computed over all pairs of blocks: (n / size)^2 integers.
    """
    if part not in tokens.drawn:
        blocks = dims.floordiv(dims.normal(tokens.length + part.size - 1), part.size)
        known = isinstance(blocks, int)
        tokens.drawn[part] = (_known_choice if known else _computed_choice)(b, part, blocks)
    return tokens.drawn[part]


def _computed_choice(b: Builder, part: RandomBlocks, blocks: Dim) -> Value:
    row = b.reshape(b.iota(size=blocks), shape=(blocks, 1))
    column = b.reshape(row, shape=(1, blocks))
    high, low = divmod(part.seed, choice.P)
    start = int(choice.mixed(choice.mixed(np.array(high)) + low))
    ranks = _mixed(b, b.add(_mixed(b, b.add(row, whole(b, start))), column))
    padded = b.pad(ranks, pads=((0, 0), (0, part.count)), value=float(choice.P))
    _, indices = b.topk(padded, k=part.count, axis=1, largest=False)
    found: Value = indices
    return found


def _known_choice(b: Builder, part: RandomBlocks, blocks: int) -> Value:
    drawn = choice.chosen_blocks(part.seed, part.count, np.arange(blocks), blocks)
    chosen = torch.from_numpy(drawn)
    rest = torch.arange(blocks, blocks + part.count - chosen.shape[1]).expand(blocks, -1)
    return b.constant(torch.cat([chosen, rest], 1), "random_blocks")


def _mixed(b: Builder, x: Value) -> Value:
    """`choice.mixed`."""
    p = whole(b, choice.P)
    for _ in range(choice.ROUNDS):
        x = b.mod(x, p)
        cube = b.mod(b.mul(b.mod(b.mul(x, x), p), x), p)
        x = b.mod(b.add(b.mul(cube, whole(b, choice.FACTOR)), whole(b, choice.OFFSET)), p)
    return x
