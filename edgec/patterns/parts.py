"""The kinds of parts. Each says in `visible` which keys a query sees.

`kind` is the number of the part in `Pattern.parameters`, `text_name` its name in text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.errors import TypeCheckError
from edgec.patterns.choice import chosen_blocks
from edgec.patterns.pattern import Part, Positions, Visible


@dataclass(frozen=True)
class BlockLocal(Part):
    """Blocks of `size` tokens; a query sees its own block and `neighbours` on either side."""

    kind: ClassVar[int] = 0
    text_name: ClassVar[str] = "block_local"
    least: ClassVar[dict[str, int]] = {"neighbours": 0}

    size: int
    neighbours: int = 0

    def visible(self, i: Positions, j: Positions, length: int, head: int = 0) -> Visible:
        apart: Visible = np.abs(i // self.size - j // self.size) <= self.neighbours
        return apart


@dataclass(frozen=True)
class Window(Part):
    """Keys at most `radius` tokens away; with `causal` only those before, and the query itself.

    Beltagy et al. 2020, arXiv:2004.05150: their window of w tokens is radius w / 2.
    """

    kind: ClassVar[int] = 1
    text_name: ClassVar[str] = "window"
    least: ClassVar[dict[str, int]] = {"radius": 0}

    radius: int
    causal: bool = False

    def visible(self, i: Positions, j: Positions, length: int, head: int = 0) -> Visible:
        ahead = 0 if self.causal else self.radius
        near: Visible = (i - j <= self.radius) & (j - i <= ahead)
        return near


@dataclass(frozen=True)
class Strided(Part):
    """Every `stride`-th block of `size` tokens, counted from the query's own block.

    Child et al. 2019, arXiv:1904.10509 (strided attention), on blocks and in both directions.
    """

    kind: ClassVar[int] = 2
    text_name: ClassVar[str] = "strided"

    stride: int
    size: int = 64

    def visible(self, i: Positions, j: Positions, length: int, head: int = 0) -> Visible:
        met: Visible = (i // self.size - j // self.size) % self.stride == 0
        return met


@dataclass(frozen=True)
class Dilated(Part):
    """Every `rate`-th token of segments of `segment` tokens; head h starts at token h % rate.

    Query i and key j meet in head h where both lie in one segment and i % rate = j % rate =
    h % rate. Other queries see nothing in that head.

    Ding et al. 2023, arXiv:2307.02486 (LongNet), section 2.2 and the offsets of section 2.3.
    Differs: parts of a union share one softmax over the keys that any of them sees, where LongNet
    adds up results weighted by their softmax denominators, so that it counts a key of two parts
    twice.
    """

    kind: ClassVar[int] = 3
    text_name: ClassVar[str] = "dilated"

    segment: int
    rate: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segment % self.rate:
            got = f"segment={self.segment}, rate={self.rate}"
            raise TypeCheckError(self.name, got, "a segment that is a multiple of the rate")

    @property
    def head_period(self) -> int:
        return self.rate

    def visible(self, i: Positions, j: Positions, length: int, head: int = 0) -> Visible:
        offset = head % self.rate
        same_segment = i // self.segment == j // self.segment
        met: Visible = same_segment & (i % self.rate == offset) & (j % self.rate == offset)
        return met


@dataclass(frozen=True)
class Global(Part):
    """The leading `tokens` and the trailing `last` tokens see all and are seen by all."""

    kind: ClassVar[int] = 4
    text_name: ClassVar[str] = "global"
    least: ClassVar[dict[str, int]] = {"tokens": 0, "last": 0}

    tokens: int
    last: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens + self.last == 0:
            raise TypeCheckError(self.name, "no tokens", "at least one token")

    def check(self, longest: int) -> None:
        if self.tokens + self.last > longest:
            raise self.misfit(f"{self} with {self.tokens + self.last} tokens", longest)

    def visible(self, i: Positions, j: Positions, length: int, head: int = 0) -> Visible:
        end = length - self.last
        met: Visible = (i < self.tokens) | (j < self.tokens) | (i >= end) | (j >= end)
        return met


@dataclass(frozen=True)
class RandomBlocks(Part):
    """`count` blocks of `size` keys for each block of queries, the same at every call.

    Which blocks says `chosen_blocks`: it depends on the seed, the query block and the number of
    key blocks. All are seen where there are no more than `count`.

    Zaheer et al. 2020, arXiv:2007.14062. Differs: blocks are drawn from all of them, also from
    those that a window or global tokens see anyway.
    """

    kind: ClassVar[int] = 5
    text_name: ClassVar[str] = "random"
    least: ClassVar[dict[str, int]] = {"seed": 0}

    count: int
    size: int = 64
    seed: int = 0

    def check(self, longest: int) -> None:
        if self.count > (blocks := -(-longest // self.size)):
            raise self.misfit(f"{self} where there are {blocks} blocks", longest)

    def visible(self, i: Positions, j: Positions, length: int, head: int = 0) -> Visible:
        blocks = -(-length // self.size)
        rows = np.arange(blocks)
        seen = np.zeros((blocks, blocks), dtype=np.bool_)
        seen[rows[:, None], chosen_blocks(self.seed, self.count, rows, blocks)] = True
        found: Visible = seen[i // self.size, j // self.size]
        return found


@dataclass(frozen=True)
class Causal(Part):
    """All keys up to the query itself. As `pattern & causal()` it cuts a pattern to the past."""

    kind: ClassVar[int] = 6
    text_name: ClassVar[str] = "causal"

    def visible(self, i: Positions, j: Positions, length: int, head: int = 0) -> Visible:
        before: Visible = j <= i
        return before


PARTS: dict[str, type[Part]] = {
    part.text_name: part
    for part in (BlockLocal, Window, Strided, Dilated, Global, RandomBlocks, Causal)
}
