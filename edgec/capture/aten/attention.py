"""Scaled dot-product attention in all its argument forms."""

from __future__ import annotations

from typing import Any

from edgec.capture.call import Call
from edgec.capture.registry import aten, rule
from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.graph import Value
from edgec.ir.types import DType
from edgec.patterns import Union, parse


@aten("scaled_dot_product_attention")
def attention(
    c: Call,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None,
    dropout: float,
    causal: bool,
    scale: Any,
    enable_gqa: bool,
) -> Value:
    """The op takes [B, H, T, D]: fewer axes get leading ones, more are folded into B."""
    if dropout > 0:
        c.fail(f"dropout with p={dropout} at inference; pass dropout_p=0.0")
    if scale is None and not isinstance(q.type.shape[-1], int):
        c.fail("a symbolic width without scale; pass scale")
    if scale is not None and not isinstance(scale, int | float):
        q = c.b.mul(q, c.number(scale, q.type.dtype))
        scale = 1.0
    lead = _leading(c, q, k, v, enable_gqa)
    q4, k4, v4 = (_fold(c, t, lead, grouped=enable_gqa) for t in (q, k, v))
    mask4 = None if mask is None else _fold_mask(c, _mask(c, mask, q), lead)
    y = c.b.attention(q4, k4, v4, mask4, scale=_scale(scale), causal=causal)
    return c.reshape(y, c.shape)


def _scale(scale: Any) -> float | None:
    return None if scale is None else float(scale)


def _mask(c: Call, mask: Value, q: Value) -> Value:
    return mask if mask.type.dtype is DType.BOOL else c.cast(mask, q.type.dtype)


def _leading(c: Call, q: Value, k: Value, v: Value, grouped: bool) -> tuple[Dim, ...]:
    """The leading axes that all operands broadcast to, [B..., H] of q."""
    if grouped:
        return q.type.shape[:-2]
    rank = max(t.type.rank for t in (q, k, v)) - 2
    columns = []
    for i in range(rank):
        sizes = [
            t.type.shape[t.type.rank - 2 - rank + i]
            for t in (q, k, v)
            if t.type.rank - 2 - rank + i >= 0
        ]
        columns.append(next((d for d in sizes if d != 1), 1))
    return tuple(columns)


def _fold(c: Call, x: Value, lead: tuple[Dim, ...], grouped: bool) -> Value:
    """[*lead, T, D] -> [B, H, T, D]."""
    if not grouped:
        x = c.expand(x, [*lead, *x.type.shape[-2:]])
    heads = x.type.shape[-3] if x.type.rank > 2 else 1
    batch = dims.product(lead[:-1])
    return c.reshape(x, [batch, heads, *x.type.shape[-2:]])


def _fold_mask(c: Call, mask: Value, lead: tuple[Dim, ...]) -> Value:
    """A mask that broadcasts to [*lead, T, S] as one that broadcasts to [B, H, T, S]."""
    if len(lead) == 2 or mask.type.rank <= 2:
        return mask
    if len(lead) < 2:  # [T, D] or [H, T, D] got leading axes of size 1
        return mask
    rest = mask.type.shape[-2:]
    own = (1,) * (len(lead) + 2 - mask.type.rank) + mask.type.shape[:-2]
    if all(d == 1 for d in own[:-1]):
        return c.reshape(mask, [1, own[-1], *rest])
    wide = c.expand(c.reshape(mask, [*own, *rest]), [*lead[:-1], own[-1], *rest])
    return c.reshape(wide, [dims.product(lead[:-1]), own[-1], *rest])


# ------------------------------------------------------------------ the fused kernels' names
@aten("_scaled_dot_product_flash_attention_for_cpu")
def flash_for_cpu(
    c: Call, q: Value, k: Value, v: Value, dropout: float, causal: bool, mask: Any, scale: Any
) -> tuple[Value, None]:
    return attention(c, q, k, v, mask, dropout, causal, scale, False), None


@aten("_scaled_dot_product_attention_math", "_scaled_dot_product_attention_math_for_mps")
def math_form(
    c: Call, q: Value, k: Value, v: Value, mask: Any, dropout: float, causal: bool, *rest: Any
) -> tuple[Value, None]:
    _, scale, *gqa = rest
    return attention(c, q, k, v, mask, dropout, causal, scale, bool(gqa and gqa[0])), None


# ------------------------------------------------------------------ edgec.nn
@rule("edgec.sparse_attention.default")
def sparse_attention(
    c: Call, q: Value, k: Value, v: Value, pattern: str, mask: Value | None, scale: Any
) -> Value:
    """A pattern that has no room in the longest input is an error of the model."""
    found = parse(pattern)
    length = q.type.shape[2]
    bounds = {name: r.max for name, r in c.b.graph.dims.items()}
    found.check(dims.evaluate(length, bounds))
    given = None if mask is None else _mask(c, mask, q)
    text = str(Union(found.parts))
    y: Value = c.b.attention(
        q, k, v, given, scale=_scale(scale), causal=found.past_only, pattern=text
    )
    return y
