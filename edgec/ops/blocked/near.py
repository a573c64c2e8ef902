"""Blocks of consecutive tokens, and what they see: tokens around, global tokens, random blocks."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sympy

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ops.blocked.layout import Layout, Piece, joined
from edgec.ops.blocked.predicates import INTEGER, Tokens, chosen_blocks, sees, whole
from edgec.ops.indexing import size_value
from edgec.patterns import BlockLocal, Global, RandomBlocks, Window
from edgec.patterns.pattern import Part

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


@dataclass(frozen=True)
class Blocks(Layout):
    """Groups are blocks of `size` consecutive tokens."""

    size: int

    def fold(self, b: Builder, x: Value) -> Value:
        return _blocks(b, x, self.size)

    def unfold(self, b: Builder, x: Value, fill: float) -> Value:
        *lead, _, _, width = x.type.shape
        made: Value = b.reshape(x, shape=(*lead, self.tokens.padded, width))
        return made


def _blocks(b: Builder, x: Value, size: int) -> Value:
    """[*L, N, X] -> [*L, N / size, size, X]."""
    *lead, rows, width = x.type.shape
    made: Value = b.reshape(x, shape=(*lead, dims.floordiv(rows, size), size, width))
    return made


@dataclass(frozen=True)
class Around(Piece):
    """Windows and block-local parts: each group's own block with `before` and `after` others.

    The size is a multiple of that of every block-local part, so that all groups see alike.
    """

    size: int
    before: int
    after: int

    @staticmethod
    def of(tokens: Tokens, parts: tuple[Part, ...], size: int, causal: bool) -> Around:
        """As many blocks as the parts reach into."""
        back, ahead = 0, 0
        for part in parts:
            if isinstance(part, BlockLocal):
                reach = -(-part.size * part.neighbours // size)
                back, ahead = max(back, reach), max(ahead, reach)
            elif isinstance(part, Window):
                reach = -(-part.radius // size)
                back, ahead = max(back, reach), max(ahead, 0 if part.causal else reach)
        return Around(tokens, parts, size, back, 0 if causal else ahead)

    @property
    def count(self) -> Dim:
        return (self.before + 1 + self.after) * self.size

    def slots(self, b: Builder, x: Value, fill: float) -> Value:
        *lead, _, _ = x.type.shape
        axis, sides = len(lead), (self.before * self.size, self.after * self.size)
        groups = dims.floordiv(self.tokens.padded, self.size)
        if sides != (0, 0):
            x = b.pad(x, pads=(*((0, 0),) * axis, sides, (0, 0)), value=fill)
        x = _blocks(b, x, self.size)
        shifted = [
            b.slice(x, axis=axis, start=s, stop=dims.normal(groups + s))
            for s in range(self.before + 1 + self.after)
        ]
        return joined(b, shifted, axis + 1) if len(shifted) > 1 else x

    def shown(self, b: Builder, causal: bool) -> Value | None:
        # places within a group; they start at a multiple of the size, as those of a token do
        start, count = self.before * self.size, int(self.count)
        i = b.reshape(b.iota(size=self.size, start=start), shape=(self.size, 1))
        j = b.reshape(b.iota(size=count), shape=(1, count))
        seen = [sees(b, part, i, j, self.tokens, axes=2) for part in self.parts]
        band = functools.reduce(b.logical_or, seen)
        made: Value = b.logical_and(band, b.le(j, i)) if causal else band
        return made


@dataclass(frozen=True)
class Ends(Piece):
    """Global tokens, the same for all groups."""

    groups: Dim

    @property
    def count(self) -> Dim:
        (part,) = self.parts
        assert isinstance(part, Global)
        head, tail = ends(part, self.tokens.length)
        return dims.normal(head + self.tokens.length - tail)

    def slots(self, b: Builder, x: Value, fill: float) -> Value:
        tokens = self._tokens(b, x)
        *lead, count, width = tokens.type.shape
        one = b.reshape(tokens, shape=(*lead, 1, count, width))
        made: Value = b.expand(one, shape=(*lead, self.groups, count, width))
        return made

    def positions(self, b: Builder) -> Value:
        order = self._tokens(b, self.tokens.positions(b))
        made: Value = b.reshape(order, shape=(1, 1, order.type.shape[0]))
        return made

    def _tokens(self, b: Builder, x: Value) -> Value:
        (part,) = self.parts
        assert isinstance(part, Global)
        axis, length, made = x.type.rank - 2, self.tokens.length, []
        head, tail = ends(part, length)
        if part.tokens:
            made.append(b.slice(x, axis=axis, start=0, stop=head))
        if part.last:
            made.append(b.slice(x, axis=axis, start=tail, stop=length))
        return joined(b, made, axis)


def ends(part: Global, length: Dim) -> tuple[Dim, Dim]:
    """(h, t) such that tokens [0, h) and [t, n) are global, h <= t."""
    if isinstance(length, int):
        head = min(part.tokens, length)
        return head, max(length - part.last, head)
    head = dims.normal(sympy.Min(part.tokens, length)) if part.tokens else 0
    tail = dims.normal(sympy.Max(length - part.last, head)) if part.last else length
    return head, tail


@dataclass(frozen=True)
class Drawn(Piece):
    """Random blocks of the layout's size."""

    groups: Dim

    @property
    def part(self) -> RandomBlocks:
        (part,) = self.parts
        assert isinstance(part, RandomBlocks)
        return part

    @property
    def count(self) -> Dim:
        return self.part.count * self.part.size

    def slots(self, b: Builder, x: Value, fill: float) -> Value:
        *lead, _, width = x.type.shape
        last = size_value(b, dims.normal(self.groups - 1), INTEGER)
        rows = b.minimum(self._choice(b), last)
        found = b.gather(_blocks(b, x, self.part.size), rows, axis=len(lead))
        shape = (*lead, self.groups, self.part.count * self.part.size, width)
        made: Value = b.reshape(found, shape=shape)
        return made

    def positions(self, b: Builder) -> Value:
        size, count = self.part.size, self.part.count
        start = b.mul(self._choice(b), whole(b, size))
        start = b.reshape(start, shape=(self.groups, count, 1))
        order = b.reshape(b.iota(size=size), shape=(1, 1, size))
        made: Value = b.reshape(b.add(start, order), shape=(self.groups, 1, count * size))
        return made

    def _choice(self, b: Builder) -> Value:
        """i64[groups, count]. Groups behind the last token have any block."""
        chosen = chosen_blocks(b, self.part, self.tokens)
        more = dims.normal(self.groups - chosen.type.shape[0])
        if more == 0:
            return chosen
        padded: Value = b.pad(chosen, pads=((0, more), (0, 0)))
        return padded
