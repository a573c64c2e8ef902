"""Palettes for a matrix: with feedback, what an entry loses is made up for by those behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgec.passes.numerics.descent import loss
from edgec.passes.numerics.gptq import BLOCK, inverse_factor
from edgec.passes.numerics.kmeans import assign
from edgec.passes.numerics.outliers import stored
from edgec.passes.numerics.palette import Layout, Palettes, fit, wide


@dataclass(frozen=True)
class Made:
    """Palettes, and which weights bool[N, K] are kept as which values f32[N, K]."""

    palettes: Palettes
    spared: Tensor | None
    values: Tensor


def palettes(
    w: Tensor,
    layout: Layout,
    importance: Tensor | None = None,
    hessian: Tensor | None = None,
    damping: float = 0.01,
    outliers: float = 0.0,
    kept: Tensor | None = None,
) -> Made:
    """Palettes for w f32[N, K], finite.

    importance   of squared errors, f32 that broadcasts to [N, K]; None: 1
    hessian      H = X X^T f64[K, K] for `walk`; None: nearest entries
    outliers     part of the weights that are kept as values: the greatest importance (w - w')^2,
                 times 1 / [H^-1]_ii in the place of the importance of inputs with `hessian`
    kept         bool[N, K]: weights under a mask, which feedback does not look at
    """
    mass = torch.ones(1, 1) if importance is None else importance
    mass = mass if kept is None else mass * kept
    made, spared = fit(w, layout, mass), None
    budget = int(outliers * w.numel())
    if budget:
        cost = (made.decoded() - w).square_() * _sensitivity(mass, hessian, damping)
        best = cost.flatten().topk(budget)
        spared = torch.zeros(w.shape, dtype=torch.bool)
        spared.view(-1)[best.indices[best.values > 0]] = True
        made = fit(w.masked_fill(spared, 0), layout, mass * ~spared)
    if hessian is None or kept is not None:
        return Made(made, spared, w)
    walked = walk(w, made, hessian, damping, spared)
    return Made(walked.palettes, spared, walked.values)


def _sensitivity(mass: Tensor, hessian: Tensor | None, damping: float) -> Tensor:
    """What a squared error costs, with `hessian` after the other weights made up for it."""
    if hessian is None:
        return mass
    spread = inverse_factor(hessian, damping)[1].square().sum(0)  # diag(H^-1)
    return 1 / spread if mass.shape[0] == 1 else mass / spread


@dataclass(frozen=True)
class Walked:
    """Palettes, and f32[N, K] with the values of weights that are kept aside, 0 elsewhere."""

    palettes: Palettes
    values: Tensor

    def decoded(self, spared: Tensor | None) -> Tensor:
        made = self.palettes.decoded()
        return made if spared is None else torch.where(spared, self.values, made)


def walk(
    w: Tensor,
    palettes: Palettes,
    hessian: Tensor,
    damping: float = 0.01,
    spared: Tensor | None = None,
) -> Walked:
    """Codes for the palettes and scales as they are, that lose little of w X, for H = X X^T.

    w f32[N, K]; H f64[K, K]; spared bool[N, K]: weights that are kept in 16 bits.

    Vectors are taken by the power of their inputs, the greatest first. With H^-1 = U^T U and U_c
    the diagonal block of U that belongs to a vector c, an error d loses ||d U_c^-1||^2, by which
    its entry is chosen; the weights behind it get -d U_c^-1 U[c, behind].
    No row loses more than with the codes that `palettes` has: where it would, it keeps those.

    Source   van Baalen et al. 2024, arXiv:2402.15319 (GPTVQ), algorithm 1 and eq. 4; for scalars
             Frantar et al. 2022, arXiv:2210.17323.
    Differs  Palettes and scales are fitted before, to the weights as they are.
    """
    made = _Walk(w, palettes, hessian, damping, spared).run()
    held = torch.zeros_like(w) if spared is None else stored(w).float() * spared
    first = Walked(palettes, held)
    less = loss(w, made.decoded(spared), hessian) < loss(w, first.decoded(spared), hessian)
    rows = less.unsqueeze(1)
    codes = torch.where(rows, made.palettes.codes, palettes.codes)
    return Walked(replace(palettes, codes=codes), torch.where(rows, made.values, held))


class _Walk:
    def __init__(
        self,
        w: Tensor,
        palettes: Palettes,
        hessian: Tensor,
        damping: float,
        spared: Tensor | None,
    ) -> None:
        self.palettes, self.v = palettes, palettes.table.shape[3]
        power = hessian.diagonal().view(-1, self.v).sum(1)
        self.order = power.argsort(descending=True, stable=True)
        lanes = torch.arange(w.shape[1]).view(-1, self.v)
        self.moved = lanes[self.order].flatten()
        self.factor = inverse_factor(hessian[self.moved][:, self.moved], damping)[1]
        self.w = w[:, self.moved].T.contiguous()  # inputs are rows here
        self.spared = None if spared is None else spared[:, self.moved].T
        scale = palettes.scale
        self.scale = None if scale is None else wide(scale, w.shape[1])[:, self.moved].T
        self.codes = palettes.codes.clone()
        self.values = torch.zeros_like(self.w)

    def run(self) -> Walked:
        length = self.w.shape[0]
        step = max(1, BLOCK // self.v) * self.v
        for start in range(0, length, step):
            stop = min(start + step, length)
            errors = self._block(start, stop)
            self.w[stop:] -= self.factor[start:stop, stop:].T @ errors
        values = torch.empty_like(self.values)
        values[self.moved] = self.values
        return Walked(replace(self.palettes, codes=self.codes), values.T.contiguous())

    def _block(self, start: int, stop: int) -> Tensor:
        """Codes of the inputs [start, stop); f32[stop - start, N], errors d U_c^-1."""
        errors = torch.zeros_like(self.w[start:stop])
        for at in range(start, stop, self.v):
            here, behind = slice(at, at + self.v), slice(at + self.v, stop)
            corner = self.factor[here, here]
            inverse = torch.linalg.inv(corner.double()).float()
            lost = self.w[here] - self._chosen(here, inverse)
            errors[at - start : at - start + self.v] = inverse.T @ lost
            found = errors[at - start : at - start + self.v]
            self.w[behind] -= self.factor[here, behind].T @ found
        return errors

    def _chosen(self, here: slice, inverse: Tensor) -> Tensor:
        """Set the codes of one vector in all rows; f32[v, N], what they decode to."""
        column = int(self.order[here.start // self.v])
        target = self.w[here].T
        scale = None if self.scale is None else self.scale[here.start].unsqueeze(1)
        if scale is not None:
            target = target / scale
        runs = self.palettes.table.shape
        chunk, rows = column // (self.codes.shape[1] // runs[1]), len(target) // runs[0]
        made = torch.empty_like(target)
        for r in range(runs[0]):
            palette = self.palettes.table[r, chunk].float()
            part = slice(r * rows, (r + 1) * rows)
            index, _ = assign(target[part] @ inverse, palette @ inverse)
            self.codes[part, column] = index.byte()
            made[part] = palette[index]
        made = (made if scale is None else made * scale).T
        if self.spared is None:
            return made
        kept = self.spared[here]
        self.values[here] = stored(self.w[here]).float() * kept
        return torch.where(kept, self.values[here], made)
