"""Groupings of tokens under which parts of an attention pattern are batches of dense blocks.

A layout folds the rows of x [*L, N, X] into groups, [*L, groups, rows, X]. Its pieces gather, for
each group, keys that the rows may see: [*L, groups, slots, X]. N is a multiple of what it needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgec.ir.dims import Dim
from edgec.ops.blocked.predicates import Tokens
from edgec.patterns.pattern import Part

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


@dataclass(frozen=True)
class Piece:
    """The slots of a group for some parts of the pattern, in a layout with `tokens`."""

    tokens: Tokens
    parts: tuple[Part, ...]

    @property
    def count(self) -> Dim:
        """The number of slots of a group."""
        raise NotImplementedError

    def slots(self, b: Builder, x: Value, fill: float) -> Value:
        """[*L, N, X] -> [*L, groups, slots, X]; `fill` or any token where a slot has none."""
        raise NotImplementedError

    def positions(self, b: Builder) -> Value:
        """i64[.., groups, 1, slots]: the tokens of the slots, outside of [0, n) where none."""
        return swapped(b, self.slots(b, self.tokens.positions(b), -1.0))

    def shown(self, b: Builder, causal: bool) -> Value | None:
        """bool[rows, slots], the same in all groups: what is seen. None: all, but for `causal`."""
        return None


@dataclass(frozen=True)
class Layout:
    """One grouping of the tokens, and what its groups see."""

    tokens: Tokens
    pieces: tuple[Piece, ...]

    def fold(self, b: Builder, x: Value) -> Value:
        """[*L, N, X] -> [*L, groups, rows, X]."""
        raise NotImplementedError

    def unfold(self, b: Builder, x: Value, fill: float) -> Value:
        """The inverse of `fold`; `fill` in rows that no group has."""
        raise NotImplementedError

    def positions(self, b: Builder) -> Value:
        """i64[.., groups, rows, 1]."""
        return self.fold(b, self.tokens.positions(b))

    def slots(self, b: Builder, x: Value) -> Value:
        """[*L, N, X] -> [*L, groups, slots, X] of all pieces, one after the other."""
        made = [piece.slots(b, x, 0.0) for piece in self.pieces]
        return joined(b, made, axis=x.type.rank - 1)

    def slot_positions(self, b: Builder) -> Value:
        """i64[.., groups, 1, slots] of all pieces, outside of [0, n) where a slot has no token."""
        lead = self.positions(b).type.shape[:-2]
        made = [piece.positions(b) for piece in self.pieces]
        wide = [b.expand(j, shape=(*lead, *j.type.shape[-2:])) for j in made]
        return joined(b, wide, axis=len(lead) + 1)


def joined(b: Builder, parts: list[Value], axis: int) -> Value:
    if len(parts) == 1:
        return parts[0]
    made: Value = b.concat(*parts, axis=axis)
    return made


def swapped(b: Builder, x: Value) -> Value:
    """The last two axes exchanged."""
    *lead, n, m = x.type.shape
    if m == 1 or n == 1:
        view: Value = b.reshape(x, shape=(*lead, m, n))
        return view
    rank = x.type.rank
    made: Value = b.permute(x, order=(*range(rank - 2), rank - 1, rank - 2))
    return made
