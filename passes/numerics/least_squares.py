"""Least squares under a mask: the values of what is kept that change a layer's products least."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 512  # fitted at once: temporaries of that many rows
LEAST = 1e-30  # a row that is solved has no residual to divide by


def fitted(w: Tensor, start: Tensor, kept: Tensor, hessian: Tensor, steps: int) -> Tensor:
    """f32[N, K]: v, 0 outside of the mask, with little (w - v) H (w - v)^T in each row.

    w, start   f32[N, K]; `start` is 0 outside of `kept` bool[N, K]
    hessian    H f64[K, K], positive definite
    steps      of conjugate gradients, preconditioned by the diagonal; 20 are near the least loss

    No step makes the loss of a row greater, up to the rounding of f32.

    Source   Hestenes and Stiefel 1952, the rows of a matrix at once. That fitting all that is kept
             pays after pruning: Boza 2024, arXiv:2401.02938.
    Differs  Conjugate gradients instead of ADMM: no parameter, and the loss never rises.
    """
    h = (hessian / hessian.diagonal().mean()).float()
    parts = (t.split(ROWS) for t in (w, start, kept))
    return torch.cat([_rows(a, b, m.float(), h, steps) for a, b, m in zip(*parts, strict=True)])


def _rows(w: Tensor, v: Tensor, mask: Tensor, h: Tensor, steps: int) -> Tensor:
    inverse = 1 / h.diagonal()
    residual = ((w - v) @ h) * mask
    direction = scaled = residual * inverse
    power = (residual * scaled).sum(1, keepdim=True)
    for _ in range(steps):
        moved = (direction @ h) * mask
        length = power / (direction * moved).sum(1, keepdim=True).clamp_min(LEAST)
        v = v + length * direction
        residual = residual - length * moved
        scaled = residual * inverse
        before, power = power, (residual * scaled).sum(1, keepdim=True)
        direction = scaled + power / before.clamp_min(LEAST) * direction
    return v
