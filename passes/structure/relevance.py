"""Layer-wise relevance propagation as gradients: ops whose backward passes relevance on.

Gradient times input of a graph with these ops is the relevance of Achtibat et al. 2024,
arXiv:2402.05602 (AttnLRP), with the epsilon rule (epsilon 0) in linear layers:

    f(x) elementwise    x (f(x) / x), the quotient a constant: identity rule, eq. 9
    a b of two activations, products in attention      half to each: uniform rule, eq. 15
    softmax             its gradient: Taylor rule, proposition 3.1
    layer_norm, rms_norm the divisor a constant: identity rule, proposition 3.4
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from edgec.ir import Node, Op
from edgec.ir.dims import Env
from edgec.ops.elementwise import Cast, FloatUnary, Neg, Unary

LINEAR_OPS = (Neg, Cast)


@dataclass(frozen=True)
class Relevant(Op):
    """An op with the values of `of` and the backward of a rule."""

    of: Op
    rule: str

    def bind(self, env: Env) -> Op:
        return Relevant(self.of.bind(env), self.rule)

    def evaluate(self, *inputs: Any) -> Tensor:
        if self.rule == "identity":
            return _identity(self.of, *inputs)
        if self.rule == "uniform":
            return _half(_tensor(self.of.evaluate(*inputs)))
        if self.rule == "attention":
            return _attention(self.of, *inputs)
        return _norm(self.of, *inputs)


def relevance_op(node: Node) -> Node:
    """The node with its op's rule, where it has one."""
    rule = _rule(node)
    return replace(node, op=Relevant(node.op, rule)) if rule else node


def _rule(node: Node) -> str:
    op = node.op
    if op.name == "attention":
        return "attention"
    if op.name in ("layer_norm", "rms_norm"):
        return "norm"
    if isinstance(op, Unary | FloatUnary) and not isinstance(op, LINEAR_OPS):
        return "identity"
    both = not any((n or "@").startswith("@") for n in node.inputs)
    return "uniform" if op.name in ("mul", "matmul") and both else ""


def _tensor(made: Any) -> Tensor:
    assert isinstance(made, Tensor)
    return made


def _half(y: Tensor) -> Tensor:
    return 0.5 * y + 0.5 * y.detach()


def _identity(op: Op, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = _tensor(op.evaluate(x))
        if not y.is_floating_point():
            return y
        slope = torch.where(x.abs() > 1e-9, y / x, torch.zeros_like(y))
        rest = y - slope * x
    return slope * x + rest


def _norm(op: Any, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """(x - mean) * (weight / deviation) + bias, the deviation a constant."""
    if op.name == "rms_norm":
        scale = torch.rsqrt(x.detach().square().mean(op.axis, keepdim=True) + op.eps)
        moved = [-1 if i == op.axis % x.dim() else 1 for i in range(x.dim())]
        y = x * scale
        return y if weight is None else y * weight.reshape(moved)
    axes = tuple(range(x.dim() - op.axes_count, x.dim()))
    centered = x - x.mean(axes, keepdim=True)
    variance = centered.detach().square().mean(axes, keepdim=True)
    y = centered * torch.rsqrt(variance + op.eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _attention(op: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    k, v = (t.repeat_interleave(groups, 1) for t in (k, v))
    scale = op.scale if op.scale is not None else 1 / math.sqrt(q.shape[3])
    scores = _half(q @ k.mT) * scale
    rows, columns = scores.shape[-2:]
    seen = torch.ones(rows, columns, dtype=torch.bool)
    seen = seen.tril() if op.causal else seen
    if op.pattern:
        seen = seen & op.visible(rows, q.shape[1])
    if mask is not None and mask.dtype == torch.bool:
        seen = seen & mask
    elif mask is not None:
        scores = scores + mask
        seen = seen & (mask > -math.inf)
    hidden = torch.finfo(scores.dtype).min
    weights = torch.softmax(torch.where(seen, scores, hidden), -1)
    return _half(torch.where(seen, weights, 0.0) @ v)
