"""Muon, an optimizer for hidden matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: every singular value of an update is about one.

    params    matrices f32[N, K]
    lr        learning rate of AdamW, with which it shares the scale of updates
    Source    Jordan et al. 2024, "Muon: an optimizer for hidden layers".
    Differs   updates are scaled by 0.2 sqrt(max(N, K)), as in Liu et al. 2025,
              arXiv:2502.16982, eq. 4, so that one learning rate serves both optimizers.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group)

    def _update(self, p: torch.Tensor, group: dict[str, Any]) -> None:
        assert p.grad is not None
        buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
        buffer.lerp_(p.grad, 1 - group["momentum"])
        update = orthogonalise(torch.lerp(p.grad, buffer, group["momentum"]).bfloat16())
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(update.float(), alpha=-group["lr"] * 0.2 * max(p.shape) ** 0.5)


def orthogonalise(g: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Nearly the nearest semi-orthogonal matrix of `g` [N, K]: five Newton-Schulz steps."""
    x: torch.Tensor = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if g.shape[0] > g.shape[1] else x
