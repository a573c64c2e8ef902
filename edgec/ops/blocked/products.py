"""Attention under a pattern as dense products of blocks, at a cost that grows with what is seen.

1. Rows and keys are padded to whole blocks and folded (`layout`).
2. The products of each layout give the scores of its slots. A bias hides what the pattern or the
   mask hides, and what an earlier part of the pattern sees too, so that no key counts twice.
3. One softmax over the slots of all layouts, products with the values, and back to rows.
4. Rows of global tokens are computed over all keys.

As Beltagy et al. 2020, arXiv:2004.05150, appendix A ("sliding chunks"), and Zaheer et al. 2020,
arXiv:2007.14062, appendix D, compute theirs on dense hardware. Differs: exact at the corners of
blocks, any length, any union.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from edgec.ir import dims
from edgec.ir.types import DType
from edgec.ops.blocked.layout import Layout, Piece, joined, swapped
from edgec.ops.blocked.near import Around, Ends
from edgec.ops.blocked.predicates import INTEGER, Tokens, is_global, sees, whole
from edgec.ops.indexing import size_value
from edgec.patterns import Global
from edgec.patterns.pattern import Part

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


@dataclass(frozen=True)
class Blocked:
    """Attention of q [*L, n, D], scaled already, over k, v [*L or 1s, n, ..].

    L is (B, H), or (B, Hk, groups) with a single group in k and v.

    mask        of the rank of the scores [*L, n, n], with ones where it broadcasts
    all_see     whether each row sees some key where there is no mask
    """

    b: Builder
    layouts: list[Layout]
    causal: bool
    all_see: bool
    dtype: DType
    mask: Value | None

    @property
    def tokens(self) -> Tokens:
        return self.layouts[0].tokens

    def run(self, q: Value, k: Value, v: Value) -> Value:
        """[*L, n, Dv]; rows of global tokens see only what the blocks have."""
        b = self.b
        q, k, v = (self._padded(t, t.type.rank - 2) for t in (q, k, v))
        scores, seen = [], []
        for layout, visible in zip(self.layouts, self._visible(), strict=True):
            bias, visible = self._bias(layout, visible)
            products = b.matmul(layout.fold(b, q), swapped(b, layout.slots(b, k)))
            scores.append(b.add(products, bias))
            seen.append(visible)
        y = self._weighted(scores, v)
        if self.mask is not None or not self.all_see:
            y = b.mul(y, self._some(seen))
        if not dims.same(self.tokens.length, self.tokens.padded):
            y = b.slice(y, axis=y.type.rank - 2, start=0, stop=self.tokens.length)
        return y

    def _weighted(self, scores: list[Value], v: Value) -> Value:
        """One softmax over the slots of all layouts, and the sums of values."""
        b = self.b
        if len(scores) == 1:
            (layout,) = self.layouts
            weights = b.softmax(scores[0], axis=-1)
            return layout.unfold(b, b.matmul(weights, layout.slots(b, v)), 0.0)
        filler = self._limits.min / 2
        pairs = zip(self.layouts, scores, strict=True)
        spread = [layout.unfold(b, s, filler) for layout, s in pairs]
        axis = spread[0].type.rank - 1
        weights = b.softmax(b.concat(*spread, axis=axis), axis=-1)
        sums, start = [], 0
        for layout, part in zip(self.layouts, spread, strict=True):
            stop = dims.normal(start + part.type.shape[-1])
            own = layout.fold(b, b.slice(weights, axis=axis, start=start, stop=stop))
            sums.append(layout.unfold(b, b.matmul(own, layout.slots(b, v)), 0.0))
            start = stop
        return functools.reduce(b.add, sums)

    # -------------------------------------------------------------- the pattern
    def _visible(self) -> list[Value]:
        """bool [.., groups, rows, slots] of each layout: by pattern, causal and length."""
        found: list[Value] = []
        earlier: list[Part] = []
        for layout in self.layouts:
            made = []
            for piece in layout.pieces:
                made.append(self._seen(layout, piece, earlier))
                earlier += [] if isinstance(piece, Ends) else piece.parts
            found.append(joined(self.b, made, made[0].type.rank - 1))
        return found

    def _seen(self, layout: Layout, piece: Piece, earlier: list[Part]) -> Value:
        """What the rows of a layout see in one piece and not by an earlier part."""
        b, tokens = self.b, self.tokens
        i, j = layout.positions(b), piece.positions(b)
        seen = b.lt(j, size_value(b, tokens.length, INTEGER))
        if isinstance(piece, Around):
            seen = b.logical_and(seen, b.ge(j, whole(b, 0)))
        if not isinstance(piece, Ends):
            for ends in self._global():
                # rows of global tokens are replaced: only the key matters
                seen = b.logical_and(seen, b.logical_not(is_global(b, ends, j, tokens.length)))
        shown = piece.shown(b, self.causal)
        if shown is None and self.causal:
            shown = b.le(j, i)
        seen = seen if shown is None else b.logical_and(seen, shown)
        for part in earlier if not isinstance(piece, Ends) else ():
            again = sees(b, part, i, j, tokens, axes=3)
            seen = b.logical_and(seen, b.logical_not(again))
        wide: Value = b.expand(seen, shape=(*i.type.shape[:-1], j.type.shape[-1]))
        return wide

    def _global(self) -> list[Global]:
        """The global tokens, which have slots of their own."""
        pieces = [piece for layout in self.layouts for piece in layout.pieces]
        return [p for piece in pieces for p in piece.parts if isinstance(p, Global)]

    def _some(self, seen: list[Value]) -> Value:
        """1 or 0 [.., N, 1]: whether a row sees any slot."""
        b, rows = self.b, []
        for layout, visible in zip(self.layouts, seen, strict=True):
            any_slot = b.reduce_max(b.cast(visible, dtype=self.dtype), axes=(-1,), keep=True)
            rows.append(layout.unfold(b, any_slot, 0.0))
        return functools.reduce(b.maximum, rows)

    # -------------------------------------------------------------- the mask
    @property
    def _limits(self) -> torch.finfo:
        return torch.finfo(self.dtype.torch_dtype)

    def _bias(self, layout: Layout, visible: Value) -> tuple[Value, Value]:
        """What is added to the scores of a layout, and what is seen by pattern and mask.

        The filler of hidden slots leaves room for scores; what a float mask adds ends above it, so
        that a row of fillers only is spread over what the pattern sees, as in the dense form.
        """
        b, dtype = self.b, self.dtype
        added, filler = b.scalar(0.0, dtype), b.scalar(self._limits.min / 2, dtype)
        if self.mask is not None:
            given = self._mask_slots(layout, self.mask)
            if given.type.dtype is DType.BOOL:
                visible = b.logical_and(visible, given)
            else:
                hidden = b.scalar(-math.inf, dtype)
                visible = b.logical_and(visible, b.gt(given, hidden))
                added = b.maximum(given, b.scalar(self._limits.min / 4, dtype))
        return b.where(visible, added, filler), visible

    def _mask_slots(self, layout: Layout, mask: Value) -> Value:
        """The mask at the slots, [.., groups, rows or 1, slots or 1]."""
        b, (*lead, rows, keys) = self.b, mask.type.shape
        if keys == 1:
            if rows == 1:
                whole_mask: Value = b.reshape(mask, shape=(*lead, 1, 1, 1))
                return whole_mask
            return layout.fold(b, self._padded(mask, len(lead)))
        if rows == 1:
            return swapped(b, layout.slots(b, self._padded(swapped(b, mask), len(lead))))
        padded = self._padded(self._padded(mask, len(lead)), len(lead) + 1)
        table, j = layout.fold(b, padded), layout.slot_positions(b)
        last = size_value(b, dims.normal(self.tokens.padded - 1), INTEGER)
        inside = b.minimum(b.maximum(j, whole(b, 0)), last)
        index = b.expand(inside, shape=(*table.type.shape[:-1], j.type.shape[-1]))
        taken: Value = b.take_along(table, index, axis=table.type.rank - 1)
        return taken

    def _padded(self, x: Value, axis: int) -> Value:
        """[.., n, ..] -> [.., N, ..], with zeros or False."""
        more = dims.normal(self.tokens.padded - self.tokens.length)
        if more == 0:
            return x
        pads = [(0, 0)] * x.type.rank
        pads[axis] = (0, more)
        padded: Value = self.b.pad(x, pads=tuple(pads))
        return padded
