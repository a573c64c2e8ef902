"""Scaled dot-product attention."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import sympy
import torch
import torch.nn.functional as F
from torch import Tensor

from edgec import patterns
from edgec.errors import TypeCheckError
from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.op import Op, broadcast, op, require
from edgec.ir.types import DType, TensorType
from edgec.ops.blocked.cost import pairs
from edgec.ops.blocked.patterned import Patterned
from edgec.ops.elementwise import APPROXIMATED
from edgec.ops.movement import same_shapes

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


# Pairs of a query and a key of one head that `evaluate` looks at together under a pattern.
PAIRS = 2**24


@op("attention")
@dataclass(frozen=True)
class Attention(Op):
    """Scaled dot-product attention of queries over keys and values.

    y[b, h, t] = sum_s p[s] v[b, g, s],   p = softmax over s of scale q[b, h, t] . k[b, g, s] + m

    Vaswani et al. 2017, arXiv:1706.03762, eq. 1; grouped heads g = h // (H / Hk) as Ainslie et al.
    2023, arXiv:2305.13245. m = m[b, h, t, s] is a float mask, or 0 where a bool mask is True and
    minus infinity elsewhere. A row that sees no key (its mask False or minus infinity everywhere)
    gives zeros and not NaN, as scaled_dot_product_attention of torch 2.13 does on the CPU; so does
    S = 0.

    Inputs       q : T[B, H, T, D], k : T[B, Hk, S, D], v : T[B, Hk, S, Dv]       T a float
                 mask? : bool or T, broadcastable to [B, H, T, S]
    Outputs      y : T[B, H, T, Dv]
    Attributes   scale : float, None for 1 / sqrt(D)
                 causal : position t sees s <= t only, counted from the start (top left), and with
                 a mask what both admit
                 pattern : which keys each t sees, in the text of edgec.patterns, "" for all; head h
                 of q is head h of the pattern; with causal and a mask what all admit
    Constraints  (C1) q, k, v of one float dtype and rank 4    (C2) equal B, equal S of k and v
                 (C3) equal D of q and k    (C4) Hk of k and v equal, H a multiple of Hk
                 (C5) mask is bool or T and broadcasts to [B, H, T, S]
                 (C6) D is a number where scale is None
                 (C7) pattern is as edgec.patterns writes it, with causal as the attribute
                 (C8) T = S under a pattern    (C9) each part has room in a T that is a number
    Exactness    ROUNDING, max(D, S) terms, factor 4
    """

    scale: float | None = None
    causal: bool = False
    pattern: str = ""
    factor: ClassVar[float] = APPROXIMATED

    def infer(
        self, q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None = None
    ) -> TensorType:
        got = f"q {q}, k {k}, v {v}"
        one = q.dtype.is_float and all(t.dtype is q.dtype and t.rank == 4 for t in (q, k, v))
        require(self, one, "C1", got, "[B, H, T, D], [B, Hk, S, D], [B, Hk, S, Dv] of one float")
        batches = dims.same(q.shape[0], k.shape[0]) and same_shapes(
            (k.shape[0], k.shape[2]), (v.shape[0], v.shape[2])
        )
        require(self, batches, "C2", got, "equal B, and equal S of k and v")
        require(self, dims.same(q.shape[3], k.shape[3]), "C3", got, "equal D of q and k")
        known = self.scale is not None or isinstance(q.shape[3], int)
        require(self, known, "C6", got, "a scale, or a static D")
        heads = dims.same(k.shape[1], v.shape[1])
        require(self, heads and _groups(q, k) is not None, "C4", got, "H a multiple of Hk")
        if mask is not None:
            self._check_mask(q, k, mask)
        if self.pattern:
            self._check_pattern(q, k)
        return q.with_shape(*q.shape[:3], v.shape[3])

    def _check_mask(self, q: TensorType, k: TensorType, mask: TensorType) -> None:
        """C5."""
        scores = q.with_shape(*q.shape[:3], k.shape[2])
        got = f"mask {mask} for scores {scores}"
        kind = mask.dtype in (DType.BOOL, q.dtype) and mask.rank <= 4
        require(self, kind, "C5", got, "bool or the dtype of q, at most 4 axes")
        fits = same_shapes(broadcast(self, mask.shape, scores.shape), scores.shape)
        require(self, fits, "C5", got, "a mask that broadcasts to the scores")

    def _check_pattern(self, q: TensorType, k: TensorType) -> None:
        """C7, C8."""
        pattern, got = patterns.parse(self.pattern), f"pattern={self.pattern!r}"
        written = str(pattern) == self.pattern and not pattern.past_only
        need = f"{str(pattern).removesuffix(' & causal()')!r}, and causal=True for causal()"
        require(self, written, "C7", got, need)
        square = dims.same(q.shape[2], k.shape[2])
        require(self, square, "C8", f"q {q}, k {k}", f"as many queries as keys for {self.pattern}")
        if isinstance(q.shape[2], int):
            try:
                pattern.check(q.shape[2])
            except TypeCheckError as error:
                raise TypeCheckError(
                    self.name, error.got, f"{error.need} (C9)", error.do
                ) from error

    def evaluate(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        if not self.pattern:
            return self._dense(q, k, v, mask)
        rows = int(q.shape[2])
        step = max(1, PAIRS // max(rows, 1))
        parts = [
            self._rows(q, k, v, mask, start, min(start + step, rows))
            for start in range(0, max(rows, 1), step)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def _rows(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, start: int, stop: int
    ) -> Tensor:
        """Rows start..stop of the result: all keys, under what the pattern shows as a mask."""
        seen = self.visible(int(k.shape[2]), int(q.shape[1]), start, stop).to(q.device)
        if self.causal:
            before = torch.arange(k.shape[2])[None, :] <= torch.arange(start, stop)[:, None]
            seen = seen & before.to(q.device)
        if mask is not None and mask.dim() > 1 and mask.shape[-2] != 1:
            mask = mask[..., start:stop, :]
        plain = dataclasses.replace(self, pattern="", causal=False)
        return plain._dense(q[:, :, start:stop], k, v, _both(mask, seen))

    def _dense(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Without a pattern."""
        causal, rows, columns = self.causal, q.shape[2], k.shape[2]
        if causal and mask is not None:
            before = torch.ones(rows, columns, dtype=torch.bool, device=q.device).tril()
            mask, causal = _both(mask, before), False
        if mask is not None:
            mask = mask.expand(q.shape[0], q.shape[1], rows, columns)
        grouped = bool(q.shape[1] != k.shape[1])
        return F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=causal, scale=self.scale, enable_gqa=grouped
        )

    def visible(self, length: int, heads: int, start: int = 0, stop: int | None = None) -> Tensor:
        """bool [H or 1, T, n]: what the pattern shows to queries start..stop of n tokens."""
        pattern, keys = patterns.parse(self.pattern), np.arange(length)
        queries = keys[start:stop, None]
        shape = (queries.size, length)
        variants = range(min(heads, pattern.head_period))
        made = [pattern.visible(queries, keys[None, :], length, h) for h in variants]
        table = torch.from_numpy(np.stack([np.broadcast_to(t, shape) for t in made]))
        return table if len(made) == 1 else table[torch.arange(heads) % len(made)]

    def decompose(
        self, b: Builder, q: Value, k: Value, v: Value, mask: Value | None = None
    ) -> Value:
        """Basic ops; under a pattern in blocks, and of attention over all keys where those pay."""
        if self.pattern:
            groups = _groups(q.type, k.type)
            assert groups is not None
            scale = self._scale(q.type)
            pattern = patterns.parse(self.pattern)
            return Patterned(b, pattern, scale, self.causal, groups).run(q, k, v, mask)
        # heads [B, Hk, G, ..]: the keys of a group broadcast over its G heads and are not repeated
        dtype, (batch, _, rows, width) = q.type.dtype, q.type.shape
        groups = _groups(q.type, k.type)
        assert groups is not None
        shape, grouped = q.type.shape, groups != 1
        if grouped:
            q = b.reshape(q, shape=(batch, k.type.shape[1], groups, rows, width))
            k, v = (b.reshape(t, shape=(*t.type.shape[:2], 1, *t.type.shape[2:])) for t in (k, v))
            mask = _group_mask(b, mask, k.type.shape[1], groups)
        scale = self._scale(q.type)
        rank = q.type.rank
        keys = b.permute(k, order=(*range(rank - 2), rank - 1, rank - 2))
        scores = b.matmul(b.mul(q, b.scalar(scale, dtype)), keys)
        weights = self._weights(b, scores, mask)
        result: Value = b.matmul(weights, v)
        return b.reshape(result, shape=(*shape[:3], v.type.shape[-1])) if grouped else result

    def _scale(self, q: TensorType) -> float:
        """The factor of the scores."""
        return self.scale if self.scale is not None else 1 / math.sqrt(int(q.shape[-1]))

    def _weights(self, b: Builder, scores: Value, mask: Value | None) -> Value:
        """The softmax under masks, without a NaN in rows that see nothing."""
        dtype = scores.type.dtype
        lowest = b.scalar(torch.finfo(dtype.torch_dtype).min, dtype)
        hidden = b.scalar(-math.inf, dtype)
        before = _causal(b, *scores.type.shape[-2:]) if self.causal else None
        result: Value
        if mask is None:
            scores = scores if before is None else b.where(before, scores, hidden)
            result = b.softmax(scores, axis=-1)
            return result
        if mask.type.dtype is DType.BOOL:
            visible = mask if before is None else b.logical_and(mask, before)
            scores = b.where(visible, scores, lowest)
        else:
            # minus infinity of the mask becomes finite, that of causal stays: every t sees s = 0
            visible = b.gt(mask, hidden)
            scores = b.maximum(b.add(scores, mask), lowest)
            if before is not None:
                scores = b.where(before, scores, hidden)
                visible = b.logical_and(visible, before)
        result = b.where(visible, b.softmax(scores, axis=-1), b.scalar(0, dtype))
        return result

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        q, k = inputs[0], inputs[1]
        assert q is not None and k is not None
        return dims.normal(sympy.Max(q.shape[3], k.shape[2]))

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        q, k, v = inputs[:3]
        assert q is not None and k is not None and v is not None
        scores = dims.product((*q.shape[:2], self._pairs(q.shape[2], k.shape[2])))
        return dims.normal(scores * (2 * q.shape[3] + 2 * v.shape[3] + 5))

    def _pairs(self, rows: Dim, columns: Dim) -> Dim:
        """At most so many pairs of a query and a key see each other, per head."""
        if not self.pattern:
            return dims.product((rows, columns))
        parts = patterns.parse(self.pattern).parts
        return dims.normal(sympy.Min(pairs(parts, rows, self.causal), dims.product((rows, rows))))


def _both(mask: Tensor | None, visible: Tensor) -> Tensor:
    """The mask where `visible` is True, and nothing elsewhere."""
    if mask is None:
        return visible
    return mask & visible if mask.dtype == torch.bool else mask.where(visible, -math.inf)


def _groups(q: TensorType, k: TensorType) -> int | None:
    """Heads of q per head of k; None where they do not divide."""
    many, few = q.shape[1], k.shape[1]
    if dims.same(many, few):
        return 1
    if not isinstance(many, int) or not isinstance(few, int) or few == 0 or many % few:
        return None
    return many // few


def _group_mask(b: Builder, mask: Value | None, heads: Dim, groups: int) -> Value | None:
    """A mask for scores [B, Hk, G, T, S] from one for [B, H, T, S]."""
    if mask is None or mask.type.rank < 3:
        return mask
    shape = mask.type.shape
    split: tuple[Dim, ...] = (1, 1) if shape[-3] == 1 else (heads, groups)
    grouped: Value = b.reshape(mask, shape=(*shape[:-3], *split, *shape[-2:]))
    return grouped


def _causal(b: Builder, rows: Dim, columns: Dim) -> Value:
    """bool [T, S]: True where s <= t."""
    t = b.reshape(b.iota(size=rows), shape=(rows, 1))
    s = b.reshape(b.iota(size=columns), shape=(1, columns))
    before: Value = b.le(s, t)
    return before
