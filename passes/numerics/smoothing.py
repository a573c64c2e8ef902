"""SmoothQuant: scales that move what is hard to round from a layer's inputs into its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def smoothing(magnitude: Tensor, weights: Sequence[Tensor], alpha: float) -> Tensor:
    """s f32[K] > 0 with y = (w s) (x / s).

        s_j = max |x_j|^alpha / max |w_j|^(1 - alpha)

    magnitude   f32[K], max |x_j| over the calibration data
    weights     f32[N, K] of the layers that share the inputs x; max |w_j| is over all of them
    alpha       0 moves all range of the weights into x, 1 all range of x into the weights

    An input that is always 0, or that no weight reads, keeps s = 1.
    Source   Xiao et al. 2022, arXiv:2211.10438, eq. 4.
    Differs  s is divided by its geometric mean, which changes no ratio of two inputs.
    """
    columns = torch.stack([w.abs().amax(0) for w in weights]).amax(0).double()
    tops = magnitude.double()
    used = (columns > 0) & (tops > 0)
    if not bool(used.any()):
        return torch.ones_like(magnitude)
    logs = alpha * tops.log() - (1 - alpha) * columns.log()
    return torch.where(used, (logs - logs[used].mean()).exp(), 1.0).float()
