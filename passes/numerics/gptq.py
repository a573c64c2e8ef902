"""GPTQ: weights rounded one input after the other, with what rounding loses made up by the rest.

The loss of a row w of W[N, K] is that of its product with the inputs X[K, S] of calibration:
||(w - w') X||^2 = (w - w') H (w - w')^T with H = X X^T. Rows do not interact, so that all of them
are rounded at once.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from edgec.errors import PassError
from edgec.passes.numerics.affine import dequantize, quantize
from edgec.passes.numerics.descent import descend, lost, pick
from edgec.passes.numerics.grid import Grid, Rounded, Spared
from edgec.passes.numerics.outliers import stored

Order = Literal["activation", "natural"]
BLOCK = 128  # inputs whose updates of later inputs are made in one product


class Hessian:
    """H = X X^T, summed up call by call: f64[K, K].

    drift   (X_0 - X) X^T for the inputs X_0 that the layer had before the layers in front of it
            changed; None where those were not given
    rows    S
    """

    def __init__(self, length: int) -> None:
        self.rows = 0
        self.matrix = torch.zeros(length, length, dtype=torch.float64)
        self.drift: Tensor | None = None

    def add(self, x: Tensor, original: Tensor | None = None) -> None:
        """Inputs T[*S, K], and what they were before."""
        rows = x.reshape(-1, x.shape[-1]).float()
        self.rows += len(rows)
        self.matrix += rows.T @ rows
        if original is not None:
            moved = (original.reshape(rows.shape).float() - rows).T @ rows
            self.drift = moved.double() if self.drift is None else self.drift + moved

    @property
    def is_finite(self) -> bool:
        sums = self.matrix if self.drift is None else self.matrix + self.drift
        return bool(sums.isfinite().all())

    def corrected(self, w: Tensor, damping: float = 0.5) -> Tensor:
        """f32[N, K]: the weights whose products with X are nearest to w X_0, for w f32[N, K].

        w + w (X_0 - X) X^T H^-1, with H damped: least squares. The damping is great because all
        K weights of a row are fitted at once, to what may be not many more samples.
        """
        if self.drift is None:
            return w
        lower = torch.linalg.cholesky(inverse_factor(self.matrix, damping)[0])
        return w + torch.cholesky_solve(self.drift.T @ w.double().T, lower).T.float()


def gptq(
    w: Tensor,
    hessian: Tensor,
    grid: Grid,
    damping: float = 0.01,
    order: Order = "activation",
    sweeps: int = 0,
    kept: Tensor | None = None,
) -> Rounded:
    """Codes and scales for w f32[N, K], finite, that lose little of w X, for H = X X^T f64[K, K].

    damping   added to the diagonal of H, as a part of its mean
    order     "activation": inputs of the greatest power first, scales from the weights as they are;
              "natural": from the first input to the last, the scales of a group from its weights
              after the updates of all inputs before it
    sweeps    of `descent.descend` afterwards, with the damped H
    kept      bool[N, K]: weights under a mask; what it leaves out is 0, and made up for

    No row loses more than by rounding to nearest: where it would, it is rounded to nearest.
    Raises PassError for a Hessian that is not finite or of another size.

    Source   Frantar et al. 2022, arXiv:2210.17323, algorithm 1 (eq. 2 and 3 by the rows of the
             Cholesky factor of H^-1, lazy updates of blocks); activation order and static groups
             are those of its code.
    Differs  Inputs without power keep their weights, rounded to nearest, where the paper's code
             sets them to 0. Scales are rounded to what is stored before the codes are computed.
             The rows that gain nothing stay rounded to nearest.
    """
    return gptq_spared(w, hessian, grid, None, damping, order, sweeps, kept).rounded


def gptq_spared(
    w: Tensor,
    hessian: Tensor,
    grid: Grid,
    aside: Tensor | None,
    damping: float = 0.01,
    order: Order = "activation",
    sweeps: int = 0,
    kept: Tensor | None = None,
) -> Spared:
    """`gptq` where weights of bool[N, K] are kept in 16 bits, with what they make up for others.

    The scales are fitted without them.
    """
    _check(w, hessian)
    spared = torch.zeros(w.shape, dtype=torch.bool) if aside is None else aside
    nearest = grid.nearest(w.masked_fill(spared, 0))
    if not bool(nearest[1].isfinite().all()):
        return Spared(nearest, spared, w)
    moved = torch.arange(w.shape[1])
    if order == "activation":
        moved = torch.argsort(hessian.diagonal(), descending=True, stable=True)
    damped, factor = inverse_factor(hessian[moved.unsqueeze(1), moved], damping)
    static = order == "activation" or not grid.group
    fixed = (nearest[1], nearest[2]) if static else None
    walk = _Walk(w[:, moved], factor, grid, moved, fixed, kept, spared[:, moved])
    found, values = walk.run()
    # Values are no codes: what is left to make up for is what they leave.
    free = kept if aside is None else ~spared if kept is None else kept & ~spared
    left = torch.where(spared, w - values, w)
    if sweeps:
        back = torch.argsort(moved)
        found = descend(left, found, damped[back.unsqueeze(1), back], grid, sweeps, free)
    at_first = w.masked_fill(spared, 0)
    less = lost(left, found, hessian, free) < lost(at_first, nearest, hessian, free)
    values = torch.where(less.unsqueeze(1), values, w)
    return Spared(pick(less, found, nearest), spared, values)


def _check(w: Tensor, hessian: Tensor) -> None:
    length = w.shape[1]
    if tuple(hessian.shape) != (length, length):
        need = f"[{length}, {length}] for weights {list(w.shape)}"
        raise PassError("gptq", f"a Hessian {list(hessian.shape)}", need)
    if not bool(hessian.isfinite().all()):
        raise PassError("gptq", "activations with NaN or infinite squares", "finite ones")


def inverse_factor(hessian: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """H' = H + damping mean(diag H) I, and f32[K, K]: U, upper triangular, with U^T U = H'^-1.

    An input without power gets the mean power, and no correlations. The damping is raised tenfold
    until the matrix is positive definite to working precision.
    """
    damped = hessian.clone()
    diagonal = damped.diagonal()
    mean = float(diagonal.mean()) or 1.0
    power = torch.where(diagonal <= 0, mean, diagonal)
    for _ in range(12):
        diagonal.copy_(power + damping * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not int(failed):
            inverse = torch.cholesky_inverse(lower, out=lower)  # matrices are large: few at once
            upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not int(failed):
                return damped, upper.float()
        damping = max(damping * 10, 1e-8)
    raise PassError("gptq", "a Hessian that is not positive definite", "X X^T of real inputs")


class _Walk:
    """One pass over the inputs, in the order `moved` of the columns of w and of the factor."""

    def __init__(
        self,
        w: Tensor,
        factor: Tensor,
        grid: Grid,
        moved: Tensor,
        fixed: tuple[Tensor, Tensor | None] | None,
        kept: Tensor | None,
        spared: Tensor,
    ) -> None:
        self.factor, self.grid = factor, grid
        self.w = w.T.clone(memory_format=torch.contiguous_format)  # inputs are rows here
        self.kept = None if kept is None else kept[:, moved].T
        self.spared = spared.T if bool(spared.any()) else None
        self.values = torch.zeros_like(self.w)
        self.moved = moved
        rows, length = w.shape
        self.group = grid.group or length
        shape = rows, length // self.group
        self.scale = fixed[0] if fixed else torch.ones(shape, dtype=grid.dtype)
        self.zero = fixed[1] if fixed else None if grid.symmetric else torch.zeros(shape).char()
        self.fixed = fixed is not None
        self.codes = torch.zeros(length, rows, dtype=torch.int8)

    def run(self) -> tuple[Rounded, Tensor]:
        """The codes, and f32[N, K] with the values that are spared, 0 elsewhere."""
        length = self.w.shape[0]
        step = BLOCK if self.fixed else -(-BLOCK // self.group) * self.group
        for start in range(0, length, step):
            stop = min(start + step, length)
            errors = self._block(start, stop)
            self.w[stop:] -= self.factor[start:stop, stop:].T @ errors
        codes = torch.empty_like(self.codes)
        codes[self.moved] = self.codes
        values = torch.empty_like(self.values)
        values[self.moved] = self.values
        return (codes.T.contiguous(), self.scale, self.zero), values.T

    def _block(self, start: int, stop: int) -> Tensor:
        """Round the inputs [start, stop); f32[stop - start, N], their errors as parts of U's
        diagonal.
        """
        part, factor = self.w[start:stop], self.factor[start:stop, start:stop]
        errors = torch.zeros_like(part)
        for i, column in enumerate(range(start, stop)):
            if not self.fixed and column % self.group == 0:
                self._fit(column)
            made = self._round(column, part[i])
            errors[i] = (part[i] - made) / factor[i, i]
            part[i + 1 :].addr_(factor[i, i + 1 :], errors[i], alpha=-1)
        return errors

    def _fit(self, column: int) -> None:
        group = column // self.group
        block = self.w[column : column + self.group]
        if self.spared is not None:
            block = block.masked_fill(self.spared[column : column + self.group], 0)
        scale, zero = self.grid.fit(block.T)
        self.scale[:, group] = scale[:, 0]
        if self.zero is not None and zero is not None:
            self.zero[:, group] = zero[:, 0]

    def _round(self, column: int, w: Tensor) -> Tensor:
        """Set the codes of an input; f32[N], what they decode to."""
        group = int(self.moved[column]) // self.group
        scale = self.scale[:, group]
        zero = None if self.zero is None else self.zero[:, group].float()
        code = quantize(w.unsqueeze(-1), scale, zero, self.grid.codes)
        made = dequantize(code, scale, zero).squeeze(-1)
        self.codes[column] = code.squeeze(-1)
        if self.kept is not None:
            made = made * self.kept[column]
        if self.spared is None:
            return made
        self.values[column] = stored(w).float() * self.spared[column]
        return torch.where(self.spared[column], self.values[column], made)
