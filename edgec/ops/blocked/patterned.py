"""The decomposition of attention under a pattern: blocks where they pay, else all pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.types import DType
from edgec.ops.blocked.layout import Layout, joined, swapped
from edgec.ops.blocked.near import ends
from edgec.ops.blocked.plan import layouts, merged
from edgec.ops.blocked.predicates import Tokens, sees
from edgec.ops.blocked.products import Blocked
from edgec.patterns import Dilated, Global, Pattern, RandomBlocks
from edgec.patterns.pattern import Part

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


@dataclass(frozen=True)
class Patterned:
    """Attention of q [B, H, n, D] over k, v [B, Hk, n, ..] under a pattern.

    groups   H / Hk
    """

    b: Builder
    pattern: Pattern
    scale: float
    causal: bool
    groups: int

    def run(self, q: Value, k: Value, v: Value, mask: Value | None) -> Value:
        heads, length = q.type.shape[1:3]
        found = layouts(self.pattern, length, heads, self.causal)
        if mask is not None and mask.type.rank < 4:
            shape = (*(1,) * (4 - mask.type.rank), *mask.type.shape)
            mask = self.b.reshape(mask, shape=shape)
        if found is None:
            return self._dense(q, k, v, mask)
        y = self._blocked(found, q, k, v, mask)
        for part in merged(self.pattern):
            if isinstance(part, Global):
                y = self._with_global_rows(part, y, q, k, v, mask)
        return y

    def _dense(self, q: Value, k: Value, v: Value, mask: Value | None) -> Value:
        """All pairs, the pattern as a mask: [n, n] or [H, n, n]."""
        b, (heads, length) = self.b, q.type.shape[1:3]
        tokens = Tokens(length, length, heads)
        i = tokens.positions(b)
        visible: Value | None = None
        for part in merged(self.pattern):
            seen = sees(b, part, i, swapped(b, i), tokens, axes=2)
            visible = seen if visible is None else b.logical_or(visible, seen)
        assert visible is not None
        mask = both(b, visible, mask)
        y: Value = b.attention(q, k, v, mask, scale=self.scale, causal=self.causal)
        return y

    def _blocked(
        self, found: list[Layout], q: Value, k: Value, v: Value, mask: Value | None
    ) -> Value:
        """Blocks; keys of a group of heads broadcast over it, or are repeated under dilation."""
        b, dtype = self.b, q.type.dtype
        shape = (*q.type.shape[:3], v.type.shape[3])
        q = b.mul(q, b.scalar(self.scale, dtype))
        if self.groups != 1:
            split = not any(isinstance(p, Dilated) for p in self.pattern.parts)
            k, v = (self._spread(t, repeat=not split) for t in (k, v))
            if split:
                q, mask = self._split(q), None if mask is None else self._split(mask)
        every = _every_row_sees(self.pattern.parts, self.causal)
        y = Blocked(b, found, self.causal, every, dtype, mask).run(q, k, v)
        return y if self.groups == 1 else b.reshape(y, shape=shape)

    def _split(self, x: Value) -> Value:
        """[B, H, ..] -> [B, Hk, groups, ..]; one head for all stays one."""
        heads = x.type.shape[1]
        split: tuple[Dim, ...] = (dims.floordiv(heads, self.groups), self.groups)
        split = (1, 1) if heads == 1 else split
        made: Value = self.b.reshape(x, shape=(x.type.shape[0], *split, *x.type.shape[2:]))
        return made

    def _spread(self, x: Value, repeat: bool) -> Value:
        """[B, Hk, n, D] -> [B, Hk, 1, n, D], or [B, H, n, D] with heads repeated."""
        b, (batch, heads, *rest) = self.b, x.type.shape
        x = b.reshape(x, shape=(batch, heads, 1, *rest))
        if repeat:
            x = b.expand(x, shape=(batch, heads, self.groups, *rest))
            x = b.reshape(x, shape=(batch, dims.normal(heads * self.groups), *rest))
        return x

    # -------------------------------------------------------------- global tokens
    def _with_global_rows(
        self, part: Global, y: Value, q: Value, k: Value, v: Value, mask: Value | None
    ) -> Value:
        """y with the rows of global tokens, computed over all keys.

        Leading ones of a causal form see leading ones only, which they already have as keys.
        """
        b, length = self.b, q.type.shape[2]
        head, tail = ends(part, length)
        if self.causal:
            head = 0
        pieces = [self._rows(0, head, q, k, v, mask)] if part.tokens and not self.causal else []
        pieces.append(b.slice(y, axis=2, start=head, stop=tail))
        if part.last:
            pieces.append(self._rows(tail, length, q, k, v, mask))
        return joined(b, pieces, 2)

    def _rows(
        self, start: Dim, stop: Dim, q: Value, k: Value, v: Value, mask: Value | None
    ) -> Value:
        """Rows start..stop over all keys."""
        b, length = self.b, q.type.shape[2]
        q = b.slice(q, axis=2, start=start, stop=stop)
        if mask is not None and mask.type.shape[2] != 1:
            mask = b.slice(mask, axis=2, start=start, stop=stop)
        if self.causal:
            count = dims.normal(stop - start)
            i = b.reshape(b.iota(size=count, start=start), shape=(count, 1))
            j = b.reshape(b.iota(size=length), shape=(1, length))
            mask = both(b, b.le(j, i), mask)
        y: Value = b.attention(q, k, v, mask, scale=self.scale)
        return y


def both(b: Builder, visible: Value, mask: Value | None) -> Value:
    """A mask of what is visible and a given bool or float mask admits."""
    if mask is None:
        return visible
    made: Value
    if mask.type.dtype is DType.BOOL:
        made = b.logical_and(visible, mask)
    else:
        made = b.where(visible, mask, b.scalar(-math.inf, mask.type.dtype))
    return made


def _every_row_sees(parts: tuple[Part, ...], causal: bool) -> bool:
    """Whether each row sees some key where no mask hides it: itself, the first or any block."""
    for part in parts:
        if isinstance(part, Global):
            if part.tokens or not causal:
                return True
        elif not isinstance(part, Dilated) and not (causal and isinstance(part, RandomBlocks)):
            return True
    return False
