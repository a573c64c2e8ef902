"""Example sizes for capture. Distinct, so that no dimension is taken for another one."""

from __future__ import annotations

import torch
from torch import Tensor

BATCH, LENGTH, PAST = 3, 11, 7
MAX_BATCH = 64


def example(size: int, limit: int) -> int:
    """An example length within the limit of the model."""
    return min(size, limit)


def token_ids(vocabulary: int, *shape: int) -> Tensor:
    """Seeded ids i64[*shape]; low ids are left out, where special tokens tend to be."""
    low = min(5, vocabulary - 1)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(low, vocabulary, shape, generator=generator)


def padded(batch: int, length: int, left: bool = False) -> Tensor:
    """A mask i64[batch, length] of ones; the first row hides two places where it can."""
    mask = torch.ones(batch, length, dtype=torch.long)
    hidden = min(2, length - 1)
    if hidden and left:
        mask[0, :hidden] = 0
    elif hidden:
        mask[0, -hidden:] = 0
    return mask
