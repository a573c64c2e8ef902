"""Palettes: few values, or short vectors, that weights point to; how they are chosen.

w[N, K] as `edgec.ir.Lut` has it, for the palette (r, t) of row n and vector c:
w[n, c*v + i] ~ scale[n, (c*v + i) // B] * table[r, t, codes[n, c], i].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from edgec.passes.numerics.affine import round_scale
from edgec.passes.numerics.kmeans import assign, scalars, vectors

Method = Literal["kmeans", "nf4"]

# The 16 quantiles of a normal distribution of Dettmers et al. 2023, arXiv:2305.14314, appendix E.
NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


@dataclass(frozen=True)
class Layout:
    """How palettes lie over w[N, K].

    entries       P of a palette, at most
    runs          (R, C): equal runs of rows, and of vectors in a row, with a palette each
    vector        v: weights that an entry stands for
    group         B: weights that share a scale; 0: no scales
    table_dtype, scale_dtype   that entries and scales are stored in
    """

    entries: int
    runs: tuple[int, int] = (1, 1)
    vector: int = 1
    group: int = 0
    method: Method = "kmeans"
    table_dtype: torch.dtype = torch.float16
    scale_dtype: torch.dtype = torch.bfloat16


@dataclass(frozen=True)
class Palettes:
    """Codes u8[N, K/v], table T[R, C, P, v], scale T[N, K/B] or None."""

    codes: Tensor
    table: Tensor
    scale: Tensor | None

    def decoded(self) -> Tensor:
        """f32[N, K]."""
        entries = torch.empty(*self.codes.shape, self.table.shape[3])
        for place, palette in tiles(self.table):
            rows, columns = self.tile(place)
            entries[rows, columns] = palette[self.codes[rows, columns].long()]
        made = entries.flatten(1)
        return made if self.scale is None else made * wide(self.scale, made.shape[1])

    def tile(self, place: tuple[int, int]) -> tuple[slice, slice]:
        """Rows, and vectors of a row, that share a palette."""
        rows, columns = (n // p for n, p in zip(self.codes.shape, self.table.shape, strict=False))
        r, c = place
        return slice(r * rows, (r + 1) * rows), slice(c * columns, (c + 1) * columns)


def tiles(table: Tensor) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """The places (r, c) of palettes, and their entries f32[P, v]."""
    for r in range(table.shape[0]):
        for c in range(table.shape[1]):
            yield (r, c), table[r, c].float()


def wide(scale: Tensor, length: int) -> Tensor:
    """f32[N, K]: the scale of every weight."""
    return scale.float().repeat_interleave(length // scale.shape[1], 1)


def fit(w: Tensor, layout: Layout, importance: Tensor | None = None) -> Palettes:
    """Palettes for w f32[N, K], finite, of little error sum importance (w - w')^2.

    importance   f32, >= 0, that broadcasts to [N, K]; None: 1. A vector's is the mean of its
                 weights'.

    A scale is the greatest |w| of its block; with "kmeans" it and the palettes are then fitted to
    the codes once more, by least squares.
    """
    shape = w.shape
    mass = torch.ones(1, 1) if importance is None else importance
    scale = None
    if layout.group:
        blocks = w.unflatten(1, (-1, layout.group))
        scale = round_scale(blocks.abs().amax(-1), layout.scale_dtype, up=True)
    made = _with_scale(w, mass.expand(shape), layout, scale)
    if scale is None or layout.method == "nf4":
        return made
    again = _with_scale(w, mass.expand(shape), layout, _fitted(w, mass, made))
    return min(made, again, key=lambda p: float(((p.decoded() - w).square() * mass).sum()))


def _with_scale(w: Tensor, mass: Tensor, layout: Layout, scale: Tensor | None) -> Palettes:
    if scale is not None:
        factor = wide(scale, w.shape[1])
        w, mass = w / factor, mass * factor.square()
    table = _tables(w, mass, layout)
    found = Palettes(torch.empty(len(w), w.shape[1] // layout.vector).byte(), table, scale)
    points = w.unflatten(1, (-1, layout.vector))
    for place, palette in tiles(table):
        rows, columns = found.tile(place)
        chosen = points[rows, columns]
        index, _ = assign(chosen.reshape(-1, layout.vector), palette)
        found.codes[rows, columns] = index.view(chosen.shape[:2]).byte()
    return found


def _tables(w: Tensor, mass: Tensor, layout: Layout) -> Tensor:
    """T[R, C, P, v]; a palette with fewer different entries than others repeats its last one."""
    if layout.method == "nf4":
        return torch.tensor(NF4).view(1, 1, 16, 1).to(layout.table_dtype)
    generator = torch.Generator().manual_seed(0)
    runs, vector = layout.runs, layout.vector
    points = w.view(runs[0], -1, runs[1], w.shape[1] // runs[1])
    masses = mass.reshape(points.shape)
    made = []
    for r in range(runs[0]):
        for c in range(runs[1]):
            x, m = points[r, :, c], masses[r, :, c]
            if vector == 1:
                made.append(scalars(x, m, layout.entries).unsqueeze(1))
            else:
                x, m = x.reshape(-1, vector), m.reshape(-1, vector).mean(1)
                made.append(vectors(x, m, layout.entries, generator))
    most = max(map(len, made))
    even = [torch.cat([t, t[-1:].expand(most - len(t), -1)]) for t in made]
    return torch.stack(even).view(*runs, most, vector).to(layout.table_dtype)


def _fitted(w: Tensor, mass: Tensor, made: Palettes) -> Tensor:
    """The scales of least error for the codes, <w, q> / <q, q>, where they are positive."""
    assert made.scale is not None
    q = Palettes(made.codes, made.table, None).decoded()
    count = made.scale.shape[1]
    top, power = ((x * q * mass).unflatten(1, (count, -1)).sum(-1) for x in (w, q))
    usable = (power > 0) & (top > 0)
    best = torch.where(usable, top / power.clamp_min(1e-30), made.scale.float())
    return round_scale(best, made.scale.dtype)
