"""How far a student's results are from a teacher's: scalars that gradients pass.

Rows are what is compared and averaged: all axes but the last are rows of it. `rows` bool[B] leaves
out some of the first axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST = 1e-12
_MASKED = -1e4  # log probability of what a mask excludes


def kl(
    student: Tensor, teacher: Tensor, rows: Tensor | None = None, temperature: float = 1.0
) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over rows, in nats; T[B, *S, V].

    Source   Hinton et al. 2015, arXiv:1503.02531, section 2: T^2 keeps the size of gradients.
    """
    s, t = (_rows(x, rows) / temperature for x in (student, teacher))
    log_s, log_t = (x.log_softmax(-1).clamp(min=_MASKED) for x in (s, t))
    lost = torch.nn.functional.kl_div(log_s, log_t, reduction="sum", log_target=True)
    return lost * temperature**2 / max(1, len(s))


def mse(student: Tensor, teacher: Tensor, rows: Tensor | None = None) -> Tensor:
    """sum |s - t|^2 / sum |t - mean t|^2 over everything: the part of the variance that is lost.

    Where the teacher is constant, the sum of squares stands for the variance.
    """
    s, t = (_rows(x, rows) for x in (student, teacher))
    spread = (t - t.mean()).square().sum()
    power = torch.where(spread > _LEAST, spread, t.square().sum()).clamp(min=_LEAST)
    return (s - t).square().sum() / power


def cosine(student: Tensor, teacher: Tensor, rows: Tensor | None = None) -> Tensor:
    """1 - cos(student, teacher), mean over rows; T[B, *S, E]."""
    s, t = (_rows(x, rows) for x in (student, teacher))
    return (1 - torch.nn.functional.cosine_similarity(s, t, dim=-1)).mean()


def _rows(x: Tensor, rows: Tensor | None) -> Tensor:
    """T[B, *S, E] -> f32[n, E], only of `rows`; a vector is one row."""
    if rows is not None and x.dim() and x.shape[0] == rows.shape[0]:
        x = x[rows]
    return x.float().reshape(-1, x.shape[-1] if x.dim() else 1)
