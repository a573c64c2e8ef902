"""Outliers: the few weights that cost a grid most, to be kept aside from it."""

from __future__ import annotations

import torch
from torch import Tensor

from edgec.passes.numerics.affine import CHUNK
from edgec.passes.numerics.grid import Grid, decoded

ROUNDS = 2  # in which they are chosen: scales are fitted without those of the rounds before


def choose(
    w: Tensor,
    grid: Grid,
    ratio: float,
    importance: Tensor | None = None,
    kept: Tensor | None = None,
) -> Tensor:
    """bool[N, K]: at most ratio * N * K weights of f32[N, K], finite, that the grid does without.

    importance   of a squared error, f32 that broadcasts to [N, K]; None: 1
    kept         bool[N, K]: weights under a mask; the others are none

    What a weight costs is importance (w - w')^2, rounded to nearest; what the greatest |w| of a
    block costs is what all weights of the block gain by scales that are fitted without it, where
    that is more.

    Source   Dettmers et al. 2023, arXiv:2306.03078 (SpQR), section 4: sensitivity, and leaving one
             out; that few weights cost most: Dettmers et al. 2022, arXiv:2208.07339.
    Differs  A ratio instead of a threshold; one is left out in each block and round, not each.
    """
    aside = torch.zeros(w.shape, dtype=torch.bool)
    budget = int(ratio * w.numel())
    for i in range(ROUNDS):
        share = budget * (i + 1) // ROUNDS - budget * i // ROUNDS
        if not share:
            continue
        cost = _costs(w, grid, aside, importance)
        if kept is not None:
            cost.masked_fill_(~kept, 0)
        best = cost.flatten().topk(share)
        aside.view(-1)[best.indices[best.values > 0]] = True
    return aside


def _costs(w: Tensor, grid: Grid, aside: Tensor, importance: Tensor | None) -> Tensor:
    """f32[N, K], 0 for those that are aside already; some rows at a time."""
    costs = torch.empty(w.shape)
    step = max(1, CHUNK // max(1, w.shape[1]))
    for at in range(0, len(w), step):
        rows = slice(at, at + step)
        part = w[rows].masked_fill(aside[rows], 0)
        mass = torch.ones(1) if importance is None else importance
        mass = mass.expand(w.shape)[rows]
        costs[rows] = _cost(part, grid, mass).masked_fill(aside[rows], 0)
    return costs


def _cost(w: Tensor, grid: Grid, mass: Tensor) -> Tensor:
    error = (decoded(grid.nearest(w)) - w).square() * mass
    size = grid.group or w.shape[1]
    greatest = w.unflatten(1, (-1, size)).abs().argmax(-1, keepdim=True)
    alone = torch.zeros(w.shape, dtype=torch.bool).unflatten(1, (-1, size))
    alone.scatter_(2, greatest, torch.ones_like(greatest, dtype=torch.bool))
    without = w.masked_fill(alone.flatten(1), 0)
    left = (decoded(grid.nearest(without)) - without).square() * mass
    gained = (error - left).unflatten(1, (-1, size)).sum(-1, keepdim=True)
    blocks = error.unflatten(1, (-1, size))
    return torch.where(alone, torch.maximum(blocks, gained), blocks).flatten(1)


def stored(values: Tensor) -> Tensor:
    """Values in the 16 bits that lose least: f16, or bf16 where one is beyond the range of f16."""
    wide = bool((values.abs() > torch.finfo(torch.float16).max).any())
    return values.to(torch.bfloat16 if wide else torch.float16)
