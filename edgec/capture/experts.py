"""Mixtures of experts of transformers models without sorting tokens by expert.

The stock forms sort the tokens by the values of their routing, or loop over the experts that were
chosen: neither has static shapes. Ours computes, for few tokens, each with the gathered weights of
its own experts, and, for many, every expert on every token, where a routing weight of 0 hides what
was not chosen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

NAME = "edgec"


@contextlib.contextmanager
def static_experts(module: nn.Module) -> Iterator[None]:
    """Within the block, every mixture of transformers' experts interface in `module` is ours."""
    mixtures: list[Any] = [m for m in module.modules() if _is_mixture(m)]
    configs = {id(m.config): m.config for m in mixtures}
    before = {key: c._experts_implementation for key, c in configs.items()}
    if configs:
        from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

        ALL_EXPERTS_FUNCTIONS.register(NAME, experts)
    for config in configs.values():
        config._experts_implementation_internal = NAME
    try:
        yield
    finally:
        for key, config in configs.items():
            config._experts_implementation_internal = before[key]


def _is_mixture(module: Any) -> bool:
    """Whether transformers' experts interface decorates the class of `module`."""
    marks = ("_apply_gate", "is_transposed", "has_post_expert_norm", "config")
    return all(hasattr(module, m) for m in marks) and not module._is_expert_parallel


def experts(self: Any, x: Tensor, chosen: Tensor, weight: Tensor) -> Tensor:
    """transformers' experts interface.

    x        [N, E], one row for each token
    chosen   int [N, C], the experts of each token
    weight   [N, C], their share in its result
    -> [N, E]
    """
    tokens: Any = x.shape[0]
    example = tokens.node.hint if isinstance(tokens, torch.SymInt) else tokens
    form = _gathered if example * chosen.shape[1] <= self.num_experts else _masked
    made: Tensor = form(self, x, chosen, weight)
    return made.to(x.dtype)


def _gathered(self: Any, x: Tensor, chosen: Tensor, weight: Tensor) -> Tensor:
    """Few tokens: [N, C, 1, E] times the weights of the chosen experts, [N, C, E, F]."""
    y = x[:, None, None, :].expand(-1, chosen.shape[1], -1, -1)
    y = _expert(self, y, chosen).squeeze(-2)
    return (y * weight.unsqueeze(-1)).sum(1)


def _masked(self: Any, x: Tensor, chosen: Tensor, weight: Tensor) -> Tensor:
    """Many tokens: all of them by every expert, [X, N, E], summed by routing weights [X, N, 1]."""
    every = torch.arange(self.num_experts, device=x.device)
    hits = chosen.unsqueeze(-1) == every
    share = torch.where(hits, weight.unsqueeze(-1), 0.0).sum(1).t().unsqueeze(-1)
    y = _expert(self, x.unsqueeze(0), None)
    hit = hits.any(1).t().unsqueeze(-1)
    return torch.where(hit, y * share, 0.0).sum(0)


def _expert(self: Any, x: Tensor, chosen: Tensor | None) -> Tensor:
    """The two layers of the chosen experts (None: of all) over rows x [..., N, E]."""
    y = _linear(self, "gate_up_proj" if self.has_gate else "up_proj", x, chosen)
    y = self._apply_gate(y) if self.has_gate else self.act_fn(y)
    y = _linear(self, "down_proj", y, chosen)
    made: Tensor = self.post_expert_norm(y) if self.has_post_expert_norm else y
    return made


def _linear(self: Any, name: str, x: Tensor, chosen: Tensor | None) -> Tensor:
    """x [..., N, K] times the weights [X, F, K] (or transposed), [X, F] added where there is."""
    weight = getattr(self, name)
    bias = getattr(self, f"{name}_bias").unsqueeze(-2) if self.has_bias else None
    if chosen is not None:
        weight, bias = weight[chosen], None if bias is None else bias[chosen]
    y: Tensor = x @ (weight if self.is_transposed else weight.transpose(-1, -2))
    return y if bias is None else y + bias
