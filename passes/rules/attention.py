"""Attention that is written out as products and a softmax, within rounding."""

from __future__ import annotations

import dataclasses
import math

from edgec.ir import dims
from edgec.ir.dims import Dim, Shape
from edgec.ir.graph import Node, Value
from edgec.ir.pattern import Pattern, Term, Var
from edgec.ir.rewrite import Rule, Site
from edgec.ir.types import DType
from edgec.ops.attention import Attention
from edgec.ops.movement import Expand, Permute, Reshape, same_shapes
from edgec.passes.rules.facts import broadcasts_to, counting, permuted, reshaped, written
from edgec.passes.rules.masks import LOWEST


# ------------------------------------------------------------------ softmax(q k^T) v
def explicit(
    p: Pattern,
    q: Var,
    keys: Var,
    v: Var,
    scale: Var,
    bias: Var,
    heads: Var,
    mask: Var,
    shown: Var,
    hidden: Var,
    fill: Var,
    axis: Var,
) -> Term:
    """softmax(scale q keys + bias + mask) v with keys [.., D, S]; `scale` may sit on a factor.

    heads           shape [B, H, T, S] of the scores, where products are over [B H, ..]
    shown, hidden   conditions under which a score counts, or does not and is `fill`
    """
    number = p.scalar(scale)
    product = p.either(
        p.mul(p.matmul(q, keys), number),
        p.matmul(p.mul(q, number), keys),
        p.matmul(q, p.mul(keys, number)),
        p.matmul(q, keys),
    )
    biased = p.either(p.add(product, bias), product)
    split = p.either(p.reshape(biased, shape=heads), biased)
    masked = p.either(p.add(split, mask), split)
    chosen = p.either(
        p.where(shown, masked, p.scalar(fill)), p.where(hidden, p.scalar(fill), masked), masked
    )
    weights = p.softmax(chosen, axis=axis)
    return p.matmul(p.either(p.reshape(weights), weights), v)


def fused(
    b: Site,
    q: Value,
    keys: Value,
    v: Value,
    scale: float | None,
    bias: Value | None,
    heads: Shape | None,
    mask: Value | None,
    shown: Value | None,
    hidden: Value | None,
    fill: float | None,
    axis: int,
) -> Value | None:
    leading = _heads(q, keys, v, heads)
    rank = q.type.rank if heads is None else len(heads)
    if leading is None or axis % rank != rank - 1 or not q.type.dtype.is_float:
        return None
    if rank == 3:
        mask, shown, hidden = (_split(b, t, leading) for t in (mask, shown, hidden))
    if q.type.rank == 3:
        bias = _split(b, bias, leading)
    scores = (*leading, q.type.shape[-2], keys.type.shape[-1])
    given = [m for m in (bias, mask, shown, hidden) if m is not None]
    if not all(broadcasts_to(m.type.shape, scores) for m in given):
        return None
    if hidden is not None:
        shown = b.logical_not(hidden)
    total = mask if bias is None or mask is None else b.add(bias, mask)
    total = bias if total is None else total
    if shown is not None and fill is not None:
        total = _chosen(b, shown, total, fill, q.type.dtype)
        if total is None:
            return None
    order = (*range(q.type.rank - 2), q.type.rank - 1, q.type.rank - 2)
    k = permuted(b, keys, order)
    q4, k4, v4 = (reshaped(b, t, (*leading, *t.type.shape[-2:])) for t in (q, k, v))
    op = Attention(scale=_scale(1.0 if scale is None else scale, q.type.shape[-1]))
    return reshaped(b, _emit(b, op, q4, k4, v4, total), b.root.output.type.shape)


def _heads(q: Value, keys: Value, v: Value, heads: Shape | None) -> Shape | None:
    """(B, H) of [B, H, T, D] or [B H, T, D], all operands alike; None where they are not."""
    rank, leading = q.type.rank, q.type.shape[:-2]
    if rank not in (3, 4) or not all(same_shapes(t.type.shape[:-2], leading) for t in (keys, v)):
        return None
    if heads is None:
        return leading if rank == 4 else (*leading, 1)
    scores = (q.type.shape[-2], keys.type.shape[-1])
    proper = rank == 3 and len(heads) == 4 and same_shapes(heads[2:], scores)
    return heads[:2] if proper and dims.same(dims.product(heads[:2]), leading[0]) else None


def _split(b: Site, value: Value | None, leading: Shape) -> Value | None:
    """[B H, T, S] -> [B, H, T, S]; what broadcasts along the first axis still does."""
    if value is None or value.type.rank != 3:
        return value
    shape = value.type.shape
    made: Value = b.reshape(value, shape=(*((1, 1) if shape[0] == 1 else leading), *shape[1:]))
    return made


def _emit(b: Site, op: Attention, q: Value, k: Value, v: Value, mask: Value | None) -> Value:
    made: Value = b.emit(op, q, k, v) if mask is None else b.emit(op, q, k, v, mask)
    return made


def _scale(scale: float, width: dims.Dim) -> float | None:
    """None for 1 / sqrt(D), the default."""
    usual = isinstance(width, int) and math.isclose(scale, width**-0.5, rel_tol=1e-6)
    return None if usual else written(scale)


def _chosen(b: Site, shown: Value, total: Value | None, fill: float, dtype: DType) -> Value | None:
    """The mask that replaces hidden scores by `fill`; None where scores would show through.

    Minus infinity hides a score as False does. A lowest number does too, but in a row that sees
    nothing it gives every key the same weight: that stays, as a number that every score vanishes
    against.
    """
    if fill > LOWEST:
        return None
    if fill == -math.inf and total is None:
        return shown
    zero = b.scalar(0.0, dtype) if total is None else total
    made: Value = b.where(shown, zero, b.scalar(fill, dtype))
    return made


# ------------------------------------------------------------------ scale in front
def scaled_query(p: Pattern, q: Var, k: Var, v: Var, mask: Var, op: Var) -> Term:
    return p.attention(q, k, v, p.optional(mask), _op=op)


def scale_inside(
    b: Site, q: Value, k: Value, v: Value, mask: Value | None, op: Attention
) -> Value | None:
    """attention(c q, k) as attention(q, k) of another scale, through the split into heads."""
    width = q.type.shape[-1]
    scale = op.scale if op.scale is not None else dims.evaluate(width, {}) ** -0.5
    (q, first), (k, second) = _unscaled(b, q), _unscaled(b, k)
    if first is None and second is None:
        return None
    total = scale * (1.0 if first is None else first) * (1.0 if second is None else second)
    inside = dataclasses.replace(op, scale=_scale(total, width))
    return _emit(b, inside, q, k, v, mask)


def _unscaled(b: Site, value: Value) -> tuple[Value, float | None]:
    """(x, c) where `value` is a view of c x; the views are made again on x."""
    views: list[Node] = []
    node, source = b.producer(value), value
    while node is not None and isinstance(node.op, Reshape | Permute) and b.uses(source) == 1:
        views.append(node)
        source = b.operand(node.inputs[0]) or source
        node = b.producer(source)
    if node is None or node.op.name != "mul" or b.uses(source) != 1:
        return value, None
    factors = [b.operand(n) for n in node.inputs]
    for x, number in (factors, factors[::-1]):
        assert x is not None and number is not None
        scale = b.scalar_of(number)
        if scale is not None and number.type.rank == 0:
            for view in reversed(views):
                x = b.emit(view.op, x)
            return x, scale
    return value, None


# ------------------------------------------------------------------ causal
def bool_masked(p: Pattern, q: Var, k: Var, v: Var, mask: Var, op: Var) -> Term:
    return p.attention(q, k, v, mask, causal=False, _op=op)


def causal(b: Site, q: Value, k: Value, v: Value, mask: Value, op: Attention) -> Value | None:
    """A mask `s <= t` of positions from 0, alone or with others, is an attribute."""
    if mask.type.dtype is not DType.BOOL:
        return None
    parts = _conjuncts(b, mask)
    sizes = (q.type.shape[2], k.type.shape[2])
    left = [m for m in parts if not _is_causal(b, m, *sizes)]
    if len(left) == len(parts):
        return None
    rest: Value | None = None
    for part in left:
        rest = part if rest is None else b.logical_and(rest, part)
    return _emit(b, dataclasses.replace(op, causal=True), q, k, v, rest)


def _conjuncts(b: Site, mask: Value) -> list[Value]:
    """The masks that all have to hold."""
    node = b.producer(mask)
    if node is None or node.op.name != "logical_and":
        return [mask]
    operands = [v for v in map(b.operand, node.inputs) if v is not None]
    return [part for v in operands for part in _conjuncts(b, v)]


def _is_causal(b: Site, mask: Value, rows: Dim, columns: Dim) -> bool:
    node = b.producer(mask)
    if node is None or node.op.name not in ("le", "ge"):
        return False
    first, second = (v for v in map(b.operand, node.inputs) if v is not None)
    key, query = (first, second) if node.op.name == "le" else (second, first)
    s, t = counting(b, key), counting(b, query)
    if s is None or t is None or (s.axis, t.axis) != (-1, -2) or s.start != 0 or t.start != 0:
        return False
    return dims.same(s.size, columns) and dims.same(t.size, rows)


# ------------------------------------------------------------------ grouped heads
def any_attention(p: Pattern, q: Var, k: Var, v: Var, mask: Var, op: Var) -> Term:
    return p.attention(q, k, v, p.optional(mask), _op=op)


def without_repeats(
    b: Site, q: Value, k: Value, v: Value, mask: Value | None, op: Attention
) -> Value | None:
    """Keys and values whose heads are repeated for groups of query heads: the op does that."""
    few_k, few_v = _unrepeated(b, k), _unrepeated(b, v)
    if few_k is None or few_v is None or few_k.type.shape[1] != few_v.type.shape[1]:
        return None
    return _emit(b, op, q, few_k, few_v, mask)


def _unrepeated(b: Site, value: Value) -> Value | None:
    """x [B, Hk, S, D] where `value` is x with each head G times: [B, Hk, G, S, D] made flat."""
    node = b.producer(value)
    if node is None or not isinstance(node.op, Reshape | Expand):
        return None
    batch, heads, size, width = value.type.shape
    repeated = node if isinstance(node.op, Expand) else b.producer(node.inputs[0])
    if repeated is None or not isinstance(repeated.op, Expand):
        return None
    source = b.operand(repeated.inputs[0])
    assert source is not None
    shape, wide = source.type.shape, repeated.output.type.shape
    if repeated is node:
        return source if same_shapes(shape, (batch, 1, size, width)) else None
    if len(shape) != 5 or shape[2] != 1 or not isinstance(shape[1], int):
        return None
    few = (batch, shape[1], size, width)
    fits = same_shapes(shape, (batch, shape[1], 1, size, width))
    fits = fits and same_shapes(wide, (batch, shape[1], wide[2], size, width))
    if not fits or dims.product((shape[1], wide[2])) != heads:
        return None
    return reshaped(b, source, few)


RULES = (
    Rule("attention", explicit, fused),
    Rule("scale-inside", scaled_query, scale_inside),
    Rule("causal", bool_masked, causal),
    Rule("grouped-heads", any_attention, without_repeats),
)
