"""Low-rank factors of a matrix, plain and for its inputs, and ranks for a number of bytes.

Of all w'[N, K] of rank r, U_r U_r^T w loses least of the products with inputs X[K, S], where U_r
has the first r left singular vectors of w R, for any R with R R^T = X X^T = H: (w - w') X and
(w - w') R have the same norm, and w R is best approximated by U_r U_r^T w R (Eckart and Young
1936). Without inputs, H = I and w' is the truncated singular value decomposition of w.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Decomposition:
    """Of w R: left singular vectors f64[N, M] and singular values f64[M], the greatest first."""

    left: Tensor
    values: Tensor


def decompose(w: Tensor, hessian: Tensor | None = None, damping: float = 0.0) -> Decomposition:
    """Of w T[N, K], finite, with H = X X^T f64[K, K] of its inputs, or None.

    damping   added to the diagonal of H, as a part of its mean: what no input shows counts a little

    Source   whitening: Wang et al. 2024, arXiv:2403.07378, sec. 3.1; Yuan et al. 2023,
             arXiv:2312.05821, with a diagonal R.
    Differs  R is of the eigenvectors of H, which need not be positive definite, and no inverse of
             it is taken.
    """
    matrix = w.double()
    if hessian is not None:
        matrix = matrix @ _root(hessian, damping)
    left, values, _ = torch.linalg.svd(matrix, full_matrices=False)
    return Decomposition(left, values)


def _root(hessian: Tensor, damping: float) -> Tensor:
    """R with R R^T = H + damping mean(diag H) I."""
    values, vectors = torch.linalg.eigh((hessian + hessian.T) / 2)
    damped = values + damping * float(hessian.diagonal().mean())
    root: Tensor = vectors * damped.clamp(min=0).sqrt()
    return root


def factors(w: Tensor, found: Decomposition, rank: int) -> tuple[Tensor, Tensor]:
    """up f32[N, r], down f32[r, K]: w is nearly up down.

    A column of `up` and its row of `down` share the singular value evenly, and both factors have
    the same norm: what rounding them later costs is then least.
    """
    left = found.left[:, :rank]
    right = left.T @ w.double()
    shares = found.values[:rank].clamp(min=float(found.values[0]) * 1e-6 or 1.0).sqrt()
    up, down = left * shares, right / shares.unsqueeze(1)
    ratio = (down.norm() / up.norm()).sqrt() if float(down.norm()) else torch.tensor(1.0)
    return (up * ratio).float(), (down / ratio).float()


def losses(values: Tensor) -> Tensor:
    """f64[M + 1]: the squared relative error that is left by the ranks 0 .. M."""
    power = values.double().square()
    tails = torch.cat([power.flip(0).cumsum(0).flip(0), power.new_zeros(1)])
    return tails / total if (total := float(power.sum())) else torch.zeros_like(tails)


def rank_within(values: Tensor, error: float) -> int:
    """The least rank, from 1, whose relative error is at most `error`."""
    within = losses(values) <= error**2
    return max(1, int(within.double().argmax()))


@dataclass(frozen=True)
class Curve:
    """The choices for one matrix: bytes, ascending, and the loss that each leaves, descending."""

    bytes: tuple[int, ...]
    losses: tuple[float, ...]

    def hull(self) -> list[int]:
        """The choices on the lower convex hull: from one to the next a byte gains less and less."""
        kept: list[int] = []
        for i in range(len(self.bytes)):
            while len(kept) > 1 and self.gain(kept[-2], kept[-1]) <= self.gain(kept[-1], i):
                kept.pop()
            kept.append(i)
        return kept

    def gain(self, start: int, stop: int) -> float:
        """Loss that a byte saves from one choice to a later one."""
        return (self.losses[start] - self.losses[stop]) / (self.bytes[stop] - self.bytes[start])


def allocate(curves: Sequence[Curve], limit: int) -> list[int]:
    """The choice of each matrix, of least total loss within `limit` bytes.

    From the cheapest choices, the step that gains most per byte is taken while it fits. Exact for
    the bytes that it uses, as the steps of each hull gain less and less. The cheapest choices are
    taken even beyond the limit.
    """
    chosen = [0] * len(curves)
    left = limit - sum(c.bytes[0] for c in curves)
    steps = [
        (-curve.gain(a, b), i, b)
        for i, curve in enumerate(curves)
        for a, b in pairwise(curve.hull())
    ]
    stopped: set[int] = set()
    for _, i, choice in sorted(steps):
        cost = curves[i].bytes[choice] - curves[i].bytes[chosen[i]]
        if i in stopped or cost > left:
            stopped.add(i)
            continue
        chosen[i], left = choice, left - cost
    return chosen


@dataclass(frozen=True)
class RowDecomposition:
    """Of diag(weights)^(1/2) t L for a table t[V, E]: right singular vectors f64[E, E] and values.

    root   L f64[E, E], lower triangular; None for the identity
    """

    right: Tensor
    values: Tensor
    root: Tensor | None


def decompose_rows(
    table: Tensor, weights: Tensor | None = None, metric: Tensor | None = None
) -> RowDecomposition:
    """Of a table T[V, E]: the error d of row v is to count weights[v] d metric d^T.

    weights   f64[V], positive; None: 1
    metric    f64[E, E], positive definite; None: the identity

    From the eigenvectors of a matrix E x E: nothing of the size V x V is made.
    """
    root = None if metric is None else torch.linalg.cholesky(metric)
    t = table.double() if root is None else table.double() @ root
    powers, vectors = torch.linalg.eigh(t.T @ (t if weights is None else t * weights.unsqueeze(1)))
    return RowDecomposition(vectors.flip(1), powers.flip(0).clamp(min=0).sqrt(), root)


def row_factors(table: Tensor, found: RowDecomposition, rank: int) -> tuple[Tensor, Tensor]:
    """codes f32[V, r], basis f32[r, E]: of all such products, codes basis loses least.

    Balanced as `factors` are.
    """
    t = table.double() if found.root is None else table.double() @ found.root
    down, up = factors(t.T, Decomposition(found.right, found.values), rank)
    basis = down.T.double()
    if found.root is not None:
        basis = torch.linalg.solve_triangular(found.root, basis, upper=False, left=False)
    return up.T.contiguous(), basis.float().contiguous()
