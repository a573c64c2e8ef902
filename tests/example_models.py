"""Functions that a MODEL of the command line may name, and others that it may not."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Scores(nn.Module):
    """f32[batch, 16] -> f32[batch, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 256), nn.Linear(256, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.second(torch.relu(self.first(x)))
        return scores


class Branching(nn.Module):
    """Depends on its data: cannot be exported."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def scores() -> tuple[Any, ...]:
    torch.manual_seed(0)
    batch = torch.export.Dim("batch", min=1, max=32)
    return Scores().eval(), (torch.randn(3, 16),), ({0: batch},)


def scores_with_metric() -> tuple[Any, ...]:
    return (*scores(), "top1")


def branching() -> tuple[Any, ...]:
    return Branching().eval(), (torch.randn(3),), None


def raising() -> tuple[Any, ...]:
    raise ZeroDivisionError("of the model's own")


def wrong_tuple() -> tuple[Any, ...]:
    return Scores(), 3, None


def nothing() -> None:
    return None


def mean_of_first(predictions: list[torch.Tensor], references: Any) -> float:
    """A metric: greater is better."""
    return float(torch.stack([p.reshape(-1)[0] for p in predictions]).mean())


def quitting() -> tuple[Any, ...]:
    raise SystemExit


class Quitting(nn.Module):
    """Ends the process as it is called."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise SystemExit


def quitting_in_forward() -> tuple[Any, ...]:
    return Quitting().eval(), (torch.randn(3),), None
