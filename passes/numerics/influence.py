"""Block influence: how much a layer turns what flows through it."""

from __future__ import annotations

import torch
from torch import Tensor


class Influence:
    """1 - mean cosine of rows before and after, summed up call by call.

    Men et al. 2024, arXiv:2403.03853, eq. 1. Rows of zeros count as unchanged where both are.
    """

    def __init__(self) -> None:
        self.total, self.rows = 0.0, 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """T[rows, channels] each."""
        x, y = x.double(), y.double()
        norms = x.norm(dim=1) * y.norm(dim=1)
        cosine = torch.where(norms > 0, (x * y).sum(1) / norms.clamp(min=1e-300), 0.0)
        cosine = torch.where((x == y).all(1), 1.0, cosine)
        self.total += float(cosine.sum())
        self.rows += len(x)

    @property
    def value(self) -> float:
        return 1 - self.total / self.rows if self.rows else 0.0
