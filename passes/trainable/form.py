"""What all trainable forms are, and rounding that lets gradients pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgec.ir import Encoding


@dataclass(frozen=True)
class Parameter:
    """One tensor that an optimizer changes.

    tensor   f32, a leaf
    size     what a step is measured by: root mean square of a tensor, 1 for logarithms
    """

    tensor: Tensor
    size: float

    @staticmethod
    def of(values: Tensor, device: torch.device, least: float = 1e-2) -> Parameter:
        """A copy in f32; a tensor of smaller values than `least` is measured by that."""
        leaf = values.detach().to(device, torch.float32, copy=True).requires_grad_(True)
        rms = float(leaf.detach().square().mean().sqrt()) if leaf.numel() else 0.0
        return Parameter(leaf, max(rms, least))

    @staticmethod
    def logarithm(like: Tensor, device: torch.device) -> Parameter:
        """Zeros of a shape: logarithms of factors."""
        leaf = torch.zeros(like.shape, device=device, requires_grad=True)
        return Parameter(leaf, 1.0)


@dataclass(frozen=True)
class Start:
    """How a form starts.

    original   the weights that were compressed, of the same shape: latent weights start there as
               far as they round to the codes given
    moves      whether codes may change; tables, scales and dense values are trained anyway
    learned    whether rounding up or down is a variable of its own, see `.rounding`
    device     of the parameters
    """

    original: Tensor | None = None
    moves: bool = True
    learned: bool = False
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable


class Form:
    """A constant as a function of parameters.

    `value()` is bit for bit `encoding().decode()`; `encoding()` has the kind, bits, groups, masks,
    dtypes and bytes of the encoding that the form was made of, and is equal to it at the start.
    """

    @property
    def parameters(self) -> dict[str, Parameter]:
        """By name within the form; none where nothing can be trained."""
        raise NotImplementedError

    def value(self) -> Tensor:
        """The decoded tensor, with gradients to the parameters."""
        raise NotImplementedError

    def encoding(self) -> Encoding:
        """What is stored for the parameters as they are."""
        raise NotImplementedError

    def soften(self, soft: bool) -> None:
        """Let codes be between integers, in forms that learn to round: `value` is another then."""

    def penalty(self, beta: float) -> Tensor | None:
        """What drives such codes to integers; None in all other forms."""
        return None


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rounded: Tensor) -> Tensor:
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None]:
        return grads[0], None


def straight(x: Tensor, rounded: Tensor) -> Tensor:
    """`rounded` going forward, exactly; the gradient of `x` going back.

    Source   Bengio et al. 2013, arXiv:1308.3432, section 4.
    """
    made: Tensor = _Straight.apply(x, rounded.detach())  # type: ignore[no-untyped-call]
    return made


def stored(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` f32 rounded to a float dtype's values, as f32; never beyond its range."""
    limits = torch.finfo(dtype)
    return straight(x, x.detach().clamp(limits.min, limits.max).to(dtype).float())


def positive(log: Tensor, start: Tensor) -> Tensor:
    """start * exp(log) > 0 as f32, rounded to the dtype of `start`: exactly `start` at log = 0."""
    limits, x = torch.finfo(start.dtype), start.float() * log.exp()
    least = start.float().clamp(max=limits.tiny)
    inside = x.detach().maximum(least).clamp(max=limits.max)
    return straight(x, inside.to(start.dtype).float())
