"""SparseGPT: weights left out one input after the other, with what that loses made up by the rest.

The loss is that of `edgec.passes.numerics.gptq`: (w - w') H (w - w')^T for each row w of W[N, K].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgec.passes.numerics.affine import dequantize, quantize
from edgec.passes.numerics.descent import better, loss
from edgec.passes.numerics.gptq import BLOCK, gptq, inverse_factor
from edgec.passes.numerics.grid import Grid, Rounded, decoded
from edgec.passes.numerics.least_squares import fitted
from edgec.passes.numerics.sparsity import Rule, greatest, removed, two_of_four, unless_removed


def sparsegpt(
    w: Tensor,
    hessian: Tensor,
    rule: Rule,
    damping: float = 0.01,
    refit: int = 0,
    kept: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A mask bool[N, K] and values f32[N, K] under it, for w f32[N, K] and H = X X^T f64[K, K].

    rule      which weights of a block of inputs are left out: of 4 inputs for two_four, else of 128
    damping   added to the diagonal of H, as a part of its mean
    refit     steps of `least_squares.fitted` afterwards, with the damped H
    kept      bool[N, K]: a mask that w has already; what it leaves out stays so, where the rule can

    No row loses more than with its weights as they are under the same mask.
    Raises PassError for a Hessian that is not finite or not positive definite.

    Source   Frantar and Alistarh 2023, arXiv:2301.00774, algorithm 1.
    Differs  Inputs without power keep their weights, as far as the mask does. Fours of inputs come
             in the order of their power for two_four, which loses 3 % less on a sentence embedder.
             refit.
    """
    inputs = _Inputs.of(hessian, rule, damping)
    walk = _Walk(w, inputs, rule, kept)
    mask, values = walk.run(), walk.values()
    if refit:
        values = fitted(w, values, mask, inputs.damped, refit)
    plain = w * mask
    less = loss(w, values, hessian) < loss(w, plain, hessian)
    return mask, torch.where(less.unsqueeze(1), values, plain)


def sparsegpt_rounded(
    w: Tensor,
    hessian: Tensor,
    rule: Rule,
    grid: Grid,
    damping: float = 0.01,
    refit: int = 0,
    sweeps: int = 0,
    kept: Tensor | None = None,
) -> tuple[Tensor, Rounded]:
    """As `sparsegpt`, where what is kept is rounded to a grid: mask bool[N, K], codes and scales.

    refit    steps that fit what the mask keeps before `gptq` rounds it: at the least squares,
             rounding adds just its own loss. 0: one walk chooses the mask, rounds, and makes up for
             both, or `gptq` follows a walk without rounding, whichever loses less: both much more
    sweeps   of `descent.descend` in that `gptq`

    No row loses more than by rounding to nearest under the same mask.

    Source   Frantar and Alistarh 2023, arXiv:2301.00774, eq. 7 ("joint sparsification and
             quantization").
    Differs  refit, and the choice without it. Scales are fitted to what a walk without rounding
             keeps.
    """
    inputs = _Inputs.of(hessian, rule, damping)
    first = _Walk(w, inputs, rule, kept)
    mask, values = first.run(), first.values()
    if refit:
        values = fitted(w, values, mask, inputs.damped, refit)
    found = gptq(values, hessian, grid, damping, "activation", sweeps, mask)
    if not refit:
        walk = _RoundingWalk(w, inputs, rule, kept, grid, grid.fit(values))
        together = walk.run(), walk.rounded()
        if _total(w, *together, hessian) < _total(w, mask, found, hessian):
            mask, found = together
    return mask, better(w, hessian, found, grid.nearest(w * mask), mask)


def _total(w: Tensor, mask: Tensor, rounded: Rounded, hessian: Tensor) -> float:
    return float(loss(w, decoded(rounded) * mask, hessian).sum())


@dataclass(frozen=True)
class _Inputs:
    """The inputs of a layer in the order of a walk.

    moved    i64[K], their places; `back` undoes it
    damped   f64[K, K], H where they are, damped
    factor   f32[K, K], U of `inverse_factor` in the order of the walk
    """

    moved: Tensor
    back: Tensor
    damped: Tensor
    factor: Tensor

    @staticmethod
    def of(hessian: Tensor, rule: Rule, damping: float) -> _Inputs:
        """Fours by descending power for two_four, else as they are."""
        moved = torch.arange(hessian.shape[0])
        if rule.pattern == "two_four":
            power = hessian.diagonal().unflatten(0, (-1, 4)).sum(1)
            order = torch.argsort(power, descending=True, stable=True)
            moved = moved.view(-1, 4)[order].reshape(-1)
        back = torch.argsort(moved)
        damped, factor = inverse_factor(hessian[moved][:, moved], damping)
        return _Inputs(moved, back, damped[back][:, back], factor)


class _Walk:
    """One pass over the inputs, which are rows here, in the order `moved`."""

    def __init__(self, w: Tensor, inputs: _Inputs, rule: Rule, kept: Tensor | None) -> None:
        self.inputs, self.factor, self.rule = inputs, inputs.factor, rule
        self.w = w[:, inputs.moved].T.clone(memory_format=torch.contiguous_format)
        self.before = None if kept is None else kept[:, inputs.moved].T
        self.mask = torch.ones(self.w.shape, dtype=torch.bool)

    def run(self) -> Tensor:
        """The mask bool[N, K]."""
        length = self.w.shape[0]
        for start in range(0, length, BLOCK):
            stop = min(start + BLOCK, length)
            errors = self._block(start, stop)
            self.w[stop:] -= self.factor[start:stop, stop:].T @ errors
        return self.mask[self.inputs.back].T.contiguous()

    def values(self) -> Tensor:
        """f32[N, K] after the walk."""
        return (self.w * self.mask)[self.inputs.back].T.contiguous()

    def _block(self, start: int, stop: int) -> Tensor:
        """Leave out of the inputs [start, stop); f32[stop - start, N], errors as parts of U's
        diagonal.
        """
        part, factor = self.w[start:stop], self.factor[start:stop, start:stop]
        errors = torch.zeros_like(part)
        width = 4 if self.rule.pattern == "two_four" else BLOCK
        for i, column in enumerate(range(start, stop)):
            if i % width == 0:
                self._choose(column, min(column + width, stop))
            errors[i] = (part[i] - self._made(column)) / factor[i, i]
            part[i + 1 :].addr_(factor[i, i + 1 :], errors[i], alpha=-1)
        return errors

    def _made(self, column: int) -> Tensor:
        """f32[N], what becomes of an input's weights."""
        return self.w[column] * self.mask[column]

    def _choose(self, start: int, stop: int) -> None:
        """Set the mask of inputs whose weights are up to date."""
        scores = _scores(self.w[start:stop], self.factor.diagonal()[start:stop].unsqueeze(1))
        before = None if self.before is None else self.before[start:stop]
        scores = unless_removed(scores, before)
        rule, rows = self.rule, scores.shape[1]
        if rule.pattern == "two_four":
            self.mask[start:stop] = two_of_four(scores.T).T
            return
        each = 1 if rule.among == "row" else rows
        count = removed(rule.ratio, stop * each) - removed(rule.ratio, start * each)
        flat = scores.T.contiguous() if rule.among == "row" else scores.reshape(1, -1)
        kept = greatest(flat, count)
        chosen = kept.T if rule.among == "row" else kept.view_as(scores)
        self.mask[start:stop] = chosen if before is None else chosen & before


class _RoundingWalk(_Walk):
    """A walk that rounds what it keeps, with scales that are known before."""

    def __init__(
        self,
        w: Tensor,
        inputs: _Inputs,
        rule: Rule,
        kept: Tensor | None,
        grid: Grid,
        scales: tuple[Tensor, Tensor | None],
    ) -> None:
        super().__init__(w, inputs, rule, kept)
        self.grid, self.group = grid, grid.group or w.shape[1]
        self.scale, self.zero = scales
        self.codes = torch.zeros(self.w.shape, dtype=torch.int8)

    def rounded(self) -> Rounded:
        """Codes, scales and zero points after the walk."""
        return self.codes[self.inputs.back].T.contiguous(), self.scale, self.zero

    def _made(self, column: int) -> Tensor:
        group = int(self.inputs.moved[column]) // self.group
        scale = self.scale[:, group]
        zero = None if self.zero is None else self.zero[:, group].float()
        code = quantize(self.w[column].unsqueeze(-1), scale, zero, self.grid.codes)
        self.codes[column] = code.squeeze(-1)
        return dequantize(code, scale, zero).squeeze(-1) * self.mask[column]


def _scores(w: Tensor, spread: Tensor) -> Tensor:
    """|w_j| / U_jj, whose square is what leaving the weight out loses; squares might underflow."""
    return w.abs() / spread
