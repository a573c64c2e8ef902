"""Cross-layer equalization: the ranges of the channels between two layers made alike."""

from __future__ import annotations

import torch
from torch import Tensor


def equalization(first: Tensor, second: Tensor) -> Tensor:
    """s f64[C] > 0 that the first layer's channels are divided and the second's multiplied by.

        s_i = sqrt(r1_i r2_i) / r2_i   =>   r1_i / s_i = r2_i s_i = sqrt(r1_i r2_i)

    first, second   r1, r2 f32[C]: max |w| of each channel, as it is written and as it is read

    A channel that is 0 on one side keeps s = 1.
    Source   Nagel et al. 2019, arXiv:1906.04721, eq. 11.
    """
    r1, r2 = first.double(), second.double()
    used = (r1 > 0) & (r2 > 0)
    return torch.where(used, (r1.log() - r2.log()).mul(0.5).exp(), 1.0)


def writes(w: Tensor) -> Tensor:
    """max |w| of each output channel of a linear or conv: f32[N]."""
    return w.abs().flatten(1).amax(1)


def reads(w: Tensor, groups: int) -> Tensor:
    """max |w| of each input channel, of w[N, C/G, *K] in G groups: f32[C]."""
    return by_input(w, groups).abs().amax((1, 3)).flatten()


def scaled_inputs(w: Tensor, groups: int, s: Tensor) -> Tensor:
    """w with the weights of input channel i times s_i."""
    grouped = by_input(w, groups)
    return (grouped * s.to(w.dtype).reshape(groups, 1, -1, 1)).reshape(w.shape)


def by_input(w: Tensor, groups: int) -> Tensor:
    """[N, C/G, *K] -> [G, N/G, C/G, numel(K)]."""
    return w.reshape(groups, w.shape[0] // groups, w.shape[1], -1)
