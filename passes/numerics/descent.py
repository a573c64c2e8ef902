"""Codes and scales made better in turns, for weights that are rounded already.

The loss of a row is (w - w') H (w - w')^T, as in `edgec.passes.numerics.gptq`. With the codes as
they are it is quadratic in the scales of the row; with all but one code, in that one. No step makes
it greater.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgec.passes.numerics.affine import dequantize, quantize, round_scale
from edgec.passes.numerics.grid import Grid, Rounded, decoded

BLOCK = 128  # inputs whose gradients are computed in one product


def loss(w: Tensor, made: Tensor, hessian: Tensor) -> Tensor:
    """f64[N] = (w - w') H (w - w')^T for w, w' f32[N, K] and H f64[K, K]."""
    d = (w - made).double()
    return ((d @ hessian) * d).sum(1).clamp_min(0)


def descend(
    w: Tensor,
    rounded: Rounded,
    hessian: Tensor,
    grid: Grid,
    sweeps: int,
    kept: Tensor | None = None,
) -> Rounded:
    """`sweeps` times all scales, then all codes, one after the other.

    w f32[N, K]; H f64[K, K], positive definite; kept bool[N, K]: what it leaves out is 0.

    Source   Codes: Behdin et al. 2023, arXiv:2309.01885 (QuantEase), algorithm 1.
    Differs  Gradients of a block of inputs are computed in one product; scales are fitted too.
    """
    for _ in range(sweeps):
        rounded = refit(w, rounded, hessian, kept)
        rounded = cycle(w, rounded, hessian, grid, kept)
    return rounded


def refit(w: Tensor, rounded: Rounded, hessian: Tensor, kept: Tensor | None = None) -> Rounded:
    """The scales that lose least for the codes of each row, where they are better as stored.

    They solve, for each row, A s = b with A[r, t] = q_r H[r, t] q_t^T and b[r] = q_r (H w^T)[r],
    for the blocks r and t of the row and q = code - zero.
    """
    codes, scale, zero = rounded
    q = decoded((codes, torch.ones_like(scale), zero))
    q = (q if kept is None else q * kept).double().unflatten(1, (scale.shape[1], -1))
    rows, count, group = q.shape
    blocks = hessian.unflatten(0, (count, group))
    a = torch.empty(rows, count, count, dtype=torch.float64)
    for r in range(count):
        a[:, r] = ((q[:, r] @ blocks[r]).view(rows, count, group) * q).sum(-1)
    b = ((w.double() @ hessian).view(rows, count, group) * q).sum(-1)
    # A block of zeros has no scale: it keeps the one that it has.
    empty = a.diagonal(dim1=1, dim2=2) <= 0
    a.diagonal(dim1=1, dim2=2)[empty] = 1
    b[empty] = scale.double()[empty]
    fitted, failed = torch.linalg.solve_ex(a, b.unsqueeze(-1))
    fitted = fitted.squeeze(-1)
    usable = (failed == 0) & (fitted > 0).all(1) & fitted.isfinite().all(1)
    stored = round_scale(torch.where(usable.unsqueeze(1), fitted, scale.double()), scale.dtype)
    return better(w, hessian, (codes, stored, zero), rounded, kept)


def better(
    w: Tensor, hessian: Tensor, found: Rounded, other: Rounded, kept: Tensor | None = None
) -> Rounded:
    """Row by row `found` where it loses less than `other`."""

    less = lost(w, found, hessian, kept) < lost(w, other, hessian, kept)
    return pick(less, found, other)


def lost(w: Tensor, rounded: Rounded, hessian: Tensor, kept: Tensor | None = None) -> Tensor:
    """f64[N], the loss of what is rounded; what `kept` leaves out is 0."""
    made = decoded(rounded)
    return loss(w, made if kept is None else made * kept, hessian)


def pick(first: Tensor, found: Rounded, other: Rounded) -> Rounded:
    """The rows of `found` where bool[N] `first` says so, else those of `other`."""
    rows = first.unsqueeze(1)
    codes, scale = torch.where(rows, found[0], other[0]), torch.where(rows, found[1], other[1])
    if found[2] is None or other[2] is None:
        return codes, scale, None
    return codes, scale, torch.where(rows, found[2], other[2])


def cycle(
    w: Tensor, rounded: Rounded, hessian: Tensor, grid: Grid, kept: Tensor | None = None
) -> Rounded:
    """Every code once, in order, set to the best for all others as they are."""
    scale, zero = rounded[1], rounded[2]
    made, codes = (  # inputs are rows; a copy also where there is but one row of weights
        t.T.clone(memory_format=torch.contiguous_format) for t in (decoded(rounded), rounded[0])
    )
    if kept is not None:
        made *= kept.T
    h, w = hessian.float(), w.T
    group = w.shape[0] // scale.shape[1]
    for start in range(0, w.shape[0], BLOCK):
        stop = min(start + BLOCK, w.shape[0])
        gradient = h[start:stop] @ (made - w)
        for j in range(start, stop):
            i, r = j - start, j // group
            zeros = None if zero is None else zero[:, r].float()
            target = (made[j] - gradient[i] / h[j, j]).unsqueeze(-1)
            code = quantize(target, scale[:, r], zeros, grid.codes)
            value = dequantize(code, scale[:, r], zeros).squeeze(-1)
            if kept is not None:
                value *= kept[:, j]
            gradient[i + 1 :].addr_(h[j + 1 : stop, j], value - made[j])
            made[j], codes[j] = value, code.squeeze(-1)
    return better(w.T, hessian, (codes.T.contiguous(), scale, zero), rounded, kept)
