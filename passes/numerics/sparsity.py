"""Which weights of a matrix are kept: scores, and how many of those that compete stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Pattern = Literal["unstructured", "two_four"]
REMOVED = -1.0  # the score of what is left out already: below all others
ROUNDING = 1e-9  # of ratio * count: 0.29 * 100 is 28.999999999999996


@dataclass(frozen=True)
class Rule:
    """How many weights are left out.

    pattern   "unstructured": any of them; "two_four": two of every four neighbours in a row
    ratio     part of the weights that is left out; 0.5 for two_four
    among     the weights that compete with each other, of a "row" or of the whole "tensor"
    """

    pattern: Pattern = "unstructured"
    ratio: float = 0.5
    among: Literal["row", "tensor"] = "tensor"

    def kept(self, scores: Tensor) -> Tensor:
        """bool[N, K] for scores f32[N, K]; K a multiple of 4 for two_four."""
        if self.pattern == "two_four":
            return two_of_four(scores)
        if self.among == "row":
            return greatest(scores, removed(self.ratio, scores.shape[1]))
        return greatest(scores.reshape(1, -1), removed(self.ratio, scores.numel())).view_as(scores)


def removed(ratio: float, count: int) -> int:
    """How many of `count` weights are left out, rounded down: one is always kept."""
    return int(ratio * count + ROUNDING)


def greatest(scores: Tensor, without: int) -> Tensor:
    """bool[N, K]: all but the `without` least of each row; of equal ones the first go first."""
    if without == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    limit = torch.kthvalue(scores, without, dim=1, keepdim=True).values
    below, equal = scores < limit, scores == limit
    more = without - below.sum(1, keepdim=True)
    return ~(below | (equal & (equal.cumsum(1) <= more)))


def two_of_four(scores: Tensor) -> Tensor:
    """bool[N, K]: the two greatest of every four in a row; of equal ones the last stay."""
    fours = scores.unflatten(1, (-1, 4))
    order = torch.argsort(fours, dim=-1, stable=True)
    kept = torch.zeros_like(fours, dtype=torch.bool)
    return kept.scatter_(-1, order[..., 2:], True).flatten(1)


def magnitude(w: Tensor, kept: Tensor | None = None) -> Tensor:
    """Scores |w| f32[N, K]; `kept` bool[N, K]: what is left out already stays so."""
    return unless_removed(w.abs(), kept)


def wanda(w: Tensor, hessian: Tensor, kept: Tensor | None = None) -> Tensor:
    """Scores |w_ij| ||x_j||_2 f32[N, K] for the inputs x with X X^T = H f64[K, K].

    Source   Sun et al. 2023, arXiv:2306.11695, eq. 1.
    Differs  The norms are divided by the greatest, so that no score overflows.
    """
    norms = hessian.diagonal().clamp_min(0).sqrt()
    norms = norms / (float(norms.max()) or 1.0)
    return unless_removed(w.abs() * norms.float(), kept)


def unless_removed(scores: Tensor, kept: Tensor | None) -> Tensor:
    """The scores, below all others where `kept` does not hold."""
    return scores if kept is None else scores.masked_fill(~kept, REMOVED)
