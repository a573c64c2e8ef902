"""Cross entropy of a large vocabulary, a few rows at a time.

The logits of one step are positions x vocabulary: 200 MB in float32 for 6,000 positions and 8,000
pieces, read and written several times by softmax, loss and gradient. Here the gradient of a chunk
of rows is computed while its logits are still in the cache, and the whole array never exists (the
idea of Hsu and others, Liger Kernel, 2024, arXiv 2410.10989, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_ROWS = 256  # x 8,000 pieces x 4 bytes: 8 MB


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor, smoothing: float, dtype: Any
    ) -> Tensor:
        count, pieces = hidden.shape[0], weight.shape[0]
        short = weight.to(dtype)
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        loss = hidden.new_zeros(())
        for start in range(0, count, _ROWS):
            part = slice(start, start + _ROWS)
            rows, wanted = hidden[part].to(dtype), target[part, None]
            z = (rows @ short.t()).float()
            z -= z.max(1, keepdim=True).values
            hit, mean = z.gather(1, wanted), z.mean(1, keepdim=True)
            total = z.exp_().sum(1, keepdim=True)
            loss += (total.log() - (1 - smoothing) * hit - smoothing * mean).sum()
            z.div_(total).sub_(smoothing / pieces)
            z.scatter_add_(1, wanted, torch.full_like(hit, smoothing - 1))
            dz = z.to(dtype)
            d_hidden[part] = dz @ short
            d_weight += dz.t() @ rows
        ctx.save_for_backward(d_hidden.div_(count), d_weight.div_(count))
        return loss / count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight = ctx.saved_tensors
        return gradients[0] * d_hidden, gradients[0] * d_weight, None, None, None


def cross_entropy(
    hidden: Tensor, weight: Tensor, target: Tensor, smoothing: float, dtype: torch.dtype
) -> Tensor:
    """Mean over rows of the label-smoothed cross entropy of `hidden @ weight.T`, in nats.

    hidden f32[N, D], weight f32[V, D], target i64[N]; `dtype` is that of the matrix products. As
    `torch.nn.functional.cross_entropy(..., label_smoothing=smoothing)`; gradients go to hidden and
    weight.
    """
    apply: Callable[..., Tensor] = _ChunkedCrossEntropy.apply
    return apply(hidden, weight, target, smoothing, dtype)
