"""Layers' functions for a user's own model that torch has no operator for; captured as one op each.

`edgec.nn.sparse_attention` is a custom operator: it trains, runs eagerly and survives
torch.export.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from edgec.errors import TypeCheckError
from edgec.interpreter import Interpreter
from edgec.ir import Builder, Program, Range, TensorType
from edgec.ir.dims import symbol
from edgec.ir.types import DType
from edgec.ops.attention import Attention
from edgec.patterns import Pattern, Union, parse

# Fewer pairs are computed at once under a mask: that is as fast there as blocks are.
DENSE_PAIRS = 512 * 512


def sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: str | Pattern,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Scaled dot-product self-attention over the keys that a pattern shows to each query.

    y[b, h, i] = sum_j p[j] v[b, g, j],   p = softmax of scale q[b, h, i] . k[b, g, j] over the j
    that pattern and mask show; zeros where they show none. g = h // (H / Hk).

    q         [B, H, n, D], a float type
    k, v      [B, Hk, n, D], [B, Hk, n, Dv], H a multiple of Hk
    pattern   of edgec.patterns, or its text: "window(256) + global(64) + random(3, 64, 7)",
              "(window(128) + global(1)) & causal()". Any n serves, not only multiples of blocks
    mask      bool, True where a key may be seen, or of q's type, added to the scores;
              broadcastable to [B, H, n, n]. Padding is [B, 1, 1, n]
    scale     None for 1 / sqrt(D)
    -> [B, H, n, Dv]
    Time and memory grow with what is seen, in training too.
    Raises TypeCheckError for operands that do not fit and for a pattern that has no room in n
    tokens, FormatError for a text that is no pattern.
    """
    where = "sparse_attention"
    found = parse(pattern) if isinstance(pattern, str) else pattern
    shapes = ", ".join(str(list(t.shape)) for t in (q, k, v))
    if not all(t.dim() == 4 for t in (q, k, v)):
        need = "[B, H, n, D], [B, Hk, n, D], [B, Hk, n, Dv]"
        raise TypeCheckError(where, f"q, k, v of shapes {shapes}", need)
    if q.shape[2] != k.shape[2] or k.shape[2] != v.shape[2]:
        got = f"q, k, v of shapes {shapes}"
        raise TypeCheckError(
            where, got, "as many keys and values as queries", "patterns are square"
        )
    if isinstance(q.shape[2], int):
        found.check(q.shape[2])
    y: Tensor = torch.ops.edgec.sparse_attention(q, k, v, str(found), mask, scale)
    return y


def attention_of(pattern: str, scale: float | None) -> Attention:
    """The op of the IR: what the text says of causal() stands in the attribute."""
    found = parse(pattern)
    text = str(Union(found.parts)) if found.past_only else pattern
    return Attention(scale=scale, causal=found.past_only, pattern=text)


# ------------------------------------------------------------------ the operator
@torch.library.custom_op("edgec::sparse_attention", mutates_args=())
def _operator(
    q: Tensor, k: Tensor, v: Tensor, pattern: str, mask: Tensor | None, scale: float | None
) -> Tensor:
    op = attention_of(pattern, scale)
    op.infer(*(None if t is None else _type(t) for t in (q, k, v, mask)))  # type: ignore[arg-type]
    return _computed(op, q, k, v, mask)


@_operator.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
    return q.new_empty(*q.shape[:3], v.shape[3])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    q, k, v, ctx.pattern, mask, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, mask)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """By computing y once more, so that no scores are kept in between."""
    saved = ctx.saved_tensors
    wanted = [ctx.needs_input_grad[i] for i in (0, 1, 2, 4)]
    with torch.enable_grad():
        leaves = [
            None if t is None else t.detach().requires_grad_(w)
            for t, w in zip(saved, wanted, strict=True)
        ]
        q, k, v, mask = leaves
        y = _computed(attention_of(ctx.pattern, ctx.scale), q, k, v, mask)
    asked = [t for t, w in zip(leaves, wanted, strict=True) if w and t is not None]
    found = iter(torch.autograd.grad(y, asked, gradient))
    dq, dk, dv, added = (next(found) if w else None for w in wanted)
    return dq, dk, dv, None, added, None


_operator.register_autograd(_backward, setup_context=_setup)


# ------------------------------------------------------------------ its values
def _computed(op: Attention, q: Any, k: Any, v: Any, mask: Tensor | None) -> Tensor:
    """In blocks where there are many pairs, by the op's own decomposition; else under a mask."""
    known = isinstance(q.shape[2], int)  # unknown where torch.compile traces the backward
    if not known or q.shape[2] ** 2 <= DENSE_PAIRS:
        return op.evaluate(q, k, v, mask).contiguous()
    tensors = [q, k, v, *([] if mask is None else [mask])]
    run = Interpreter(
        _blocks(op, tuple(_any_length(t, i) for i, t in enumerate(tensors))), q.device
    )
    (y,) = run.run(tensors, grad=torch.is_grad_enabled())
    return y.contiguous()


def _any_length(x: Tensor, position: int) -> TensorType:
    """The type of an operand for any batch and any number of tokens; 3 is the mask's position."""
    named = {0: symbol("b"), 2: symbol("n"), **({3: symbol("n")} if position == 3 else {})}
    first = 4 - x.dim()
    shape = [
        1 if d == 1 and position == 3 else named.get(first + i, d) for i, d in enumerate(x.shape)
    ]
    return TensorType(DType.of(x.dtype), tuple(shape))


@functools.lru_cache(maxsize=64)
def _blocks(op: Attention, types: tuple[TensorType, ...]) -> Program:
    inputs = [(f"x{i}", t) for i, t in enumerate(types)]
    b = Builder.new("main", inputs, {}, {"b": Range(1, 2**31), "n": Range(1, 2**31)})
    y = op.decompose(b, *(b.input(name) for name, _ in inputs))
    return Program({"main": b.finish([y])}, b.graph.constants)


def _type(x: Tensor) -> TensorType:
    return TensorType(DType.of(x.dtype), tuple(map(int, x.shape)))
