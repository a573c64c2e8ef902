"""AdaRound: whether a weight is rounded up or down, as a variable between 0 and 1.

w' = s clip(floor(w / s) + h(V) + z), with h(V) in [0, 1] and a penalty that drives it to 0 or 1.

Source   Nagel et al. 2020, arXiv:2004.10568, equations 21 to 25.
"""

from __future__ import annotations

import torch
from torch import Tensor

ZETA, GAMMA = 1.1, -0.1


def rectified(v: Tensor) -> Tensor:
    """h(V) = clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1), equation 23."""
    return (torch.sigmoid(v) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def unrectified(h: Tensor) -> Tensor:
    """The V in (-inf, inf) of h in [0, 1]."""
    p = (h - GAMMA) / (ZETA - GAMMA)
    return (p / (1 - p)).log()


def penalty(h: Tensor, beta: float) -> Tensor:
    """sum of 1 - |2 h - 1|^beta, equation 24: 0 where everything is rounded."""
    return (1 - (2 * h - 1).abs().pow(beta)).sum()


def annealed(progress: float, warmup: float = 0.2, high: float = 20.0, low: float = 2.0) -> float:
    """beta at `progress` in [0, 1] of a run: `high` to `low` as a cosine; 0 (no penalty) at first.

    Section 3.2: a large beta lets most h move freely, a small one drives them to 0 and 1.
    """
    if progress < warmup:
        return 0.0
    x = min(1.0, (progress - warmup) / (1 - warmup))
    return low + 0.5 * (high - low) * (1 + float(torch.cos(torch.tensor(x * torch.pi))))


def split(u: Tensor, codes: Tensor, margin: float = 0.02) -> tuple[Tensor, Tensor]:
    """(floor, h) of wanted codes u, both f32, such that floor + (h > 0.5) is `codes` exactly.

    h is u - floor where that rounds to the code; else it is as near as `margin` to one half, where
    the code is one of the two next to u; for a code further away it is at the end next to u.
    """
    floor = torch.where(u >= codes, codes, codes - 1)
    h = u - floor
    up = codes > floor
    return floor, torch.where(up, h.clamp(0.5 + margin, 1.0), h.clamp(0.0, 0.5 - margin))
