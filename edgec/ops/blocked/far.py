"""Tokens far apart that see each other: every stride-th block, every rate-th token of a segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ops.blocked.layout import Layout, Piece, joined
from edgec.patterns import Dilated, Strided

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


@dataclass(frozen=True)
class Residues(Layout):
    """Group r has the blocks r, r + stride, r + 2 stride, ..., and sees itself.

    Its cost grows with the square of the length, over the stride: so does what the pattern sees.
    """

    part: Strided

    def fold(self, b: Builder, x: Value) -> Value:
        return residues(b, x, self.part)

    def unfold(self, b: Builder, x: Value, fill: float) -> Value:
        *lead, _, rows, width = x.type.shape
        stride, size, n = self.part.stride, self.part.size, len(lead)
        blocks = dims.floordiv(rows, size)
        x = b.reshape(x, shape=(*lead, stride, blocks, size, width))
        x = b.permute(x, order=(*range(n), n + 1, n, n + 2, n + 3))
        made: Value = b.reshape(x, shape=(*lead, self.tokens.padded, width))
        return made


def residues(b: Builder, x: Value, part: Strided) -> Value:
    """[*L, N, X] -> [*L, stride, N / stride, X]."""
    *lead, rows, width = x.type.shape
    stride, size, n = part.stride, part.size, len(lead)
    each = dims.floordiv(rows, stride)
    x = b.reshape(x, shape=(*lead, dims.floordiv(rows, stride * size), stride, size, width))
    x = b.permute(x, order=(*range(n), n + 1, n, n + 2, n + 3))
    made: Value = b.reshape(x, shape=(*lead, stride, each, width))
    return made


@dataclass(frozen=True)
class Residue(Piece):
    """The keys of a group of `Residues`."""

    @property
    def count(self) -> Dim:
        (part,) = self.parts
        assert isinstance(part, Strided)
        return dims.floordiv(self.tokens.padded, part.stride)

    def slots(self, b: Builder, x: Value, fill: float) -> Value:
        (part,) = self.parts
        assert isinstance(part, Strided)
        return residues(b, x, part)


@dataclass(frozen=True)
class Dilations(Layout):
    """Groups are segments; head h has the tokens h % rate, h % rate + rate, ... of each.

    The last axis of L is that of the heads; x without it, or with one head, gets all of them.
    """

    part: Dilated

    def fold(self, b: Builder, x: Value) -> Value:
        return dilated(b, x, self.part, self.tokens.heads)

    def unfold(self, b: Builder, x: Value, fill: float) -> Value:
        *lead, segments, rows, width = x.type.shape
        rate, heads = self.part.rate, self.tokens.heads
        own = torch.arange(int(heads)).reshape(-1, 1) % rate == torch.arange(rate)
        own = own.reshape(int(heads), 1, 1, rate, 1).to(x.type.dtype.torch_dtype)
        x = b.reshape(x, shape=(*lead, segments, rows, 1, width))
        x = b.mul(x, b.constant(own, "offsets"))
        if fill != 0.0:
            x = b.add(x, b.constant((1 - own) * fill, "others"))
        made: Value = b.reshape(x, shape=(*lead, self.tokens.padded, width))
        return made


def dilated(b: Builder, x: Value, part: Dilated, heads: Dim) -> Value:
    """[*L, N, X] -> [*L, segments, segment / rate, X], each head its own tokens."""
    *lead, rows, width = x.type.shape
    rate, count = part.rate, int(heads)
    lead = [*lead[:-1], count] if lead else [count]
    x = b.expand(x, shape=(*lead, rows, width))
    axis = len(lead) - 1
    segments, kept = dims.floordiv(rows, part.segment), part.segment // rate
    x = b.reshape(x, shape=(*lead, segments, kept, rate, width))
    made = []
    for offset in range(min(rate, count)):
        some = b.slice(x, axis=axis, start=offset, stop=count, step=rate)
        made.append(b.slice(some, axis=axis + 3, start=offset, stop=offset + 1))
    y = joined(b, made, axis)
    order = [h for offset in range(min(rate, count)) for h in range(offset, count, rate)]
    if order != sorted(order):
        y = b.gather(y, b.constant(torch.tensor(np.argsort(order)), "heads"), axis=axis)
    result: Value = b.reshape(y, shape=(*lead, segments, kept, width))
    return result


@dataclass(frozen=True)
class Dilation(Piece):
    """The keys of a group of `Dilations`."""

    @property
    def count(self) -> Dim:
        (part,) = self.parts
        assert isinstance(part, Dilated)
        return part.segment // part.rate

    def slots(self, b: Builder, x: Value, fill: float) -> Value:
        (part,) = self.parts
        assert isinstance(part, Dilated)
        return dilated(b, x, part, self.tokens.heads)
