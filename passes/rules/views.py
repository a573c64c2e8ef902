"""Exact rules for views, casts and what broadcasts. Parts of tensors are in `parts`."""

from __future__ import annotations

from edgec.ir.graph import Value
from edgec.ir.op import Op
from edgec.ir.pattern import Pattern, Term, Var
from edgec.ir.rewrite import Rule, Site
from edgec.ir.types import DType
from edgec.ops.movement import Pad, same_shapes
from edgec.ops.reduce import Reduction
from edgec.passes.rules.facts import (
    BROADCASTING,
    broadcasts_to,
    leading_ones_dropped,
    result_shape,
)


# ------------------------------------------------------------------ views that do nothing
def a_view(p: Pattern, x: Var) -> Term:
    return p.either(p.reshape(x), p.expand(x), p.slice(x), p.cast(x), p.permute(x), p.pad(x))


def the_same(b: Site, x: Value) -> Value | None:
    """The operand where the view has its type and moves nothing."""
    if not b.root.output.type.same(x.type):
        return None
    match b.root.op:
        case Pad(pads=pads):
            return x if all(side == 0 for pair in pads for side in pair) else None
        case Op(name="permute"):
            return None  # equal sizes may still change places
    return x


def a_permute(p: Pattern, x: Var, order: Var) -> Term:
    return p.permute(x, order=order)


def permute_of_ones(b: Site, x: Value, order: tuple[int, ...]) -> Value | None:
    """Axes of size 1 that change places leave the elements in order."""
    if order == tuple(range(len(order))):
        return x
    moved = [axis for axis in order if x.type.shape[axis] != 1]
    if moved != sorted(moved):
        return None
    made: Value = b.reshape(x, shape=b.root.output.type.shape)
    return made


def a_flip(p: Pattern, x: Var, axes: Var) -> Term:
    return p.flip(x, axes=axes)


def flip_of_nothing(b: Site, x: Value, axes: tuple[int, ...]) -> Value | None:
    return x if all(x.type.shape[a] == 1 for a in axes) else None


# ------------------------------------------------------------------ views of views
def two_reshapes(p: Pattern, x: Var) -> Term:
    return p.reshape(p.reshape(x))


def one_reshape(b: Site, x: Value) -> Value:
    made: Value = b.reshape(x, shape=b.root.output.type.shape)
    return made


def two_expands(p: Pattern, x: Var) -> Term:
    return p.expand(p.expand(x))


def one_expand(b: Site, x: Value) -> Value:
    made: Value = b.expand(x, shape=b.root.output.type.shape)
    return made


def expand_of_unsqueezed(p: Pattern, x: Var) -> Term:
    return p.expand(p.reshape(x))


def without_leading_ones(b: Site, x: Value) -> Value | None:
    between = b.operand(b.root.inputs[0])
    assert between is not None
    dropped = leading_ones_dropped(between.type.shape, x.type.shape)
    return one_expand(b, x) if dropped else None


def an_expand(p: Pattern, x: Var) -> Term:
    return p.expand(x)


def expand_of_ones(b: Site, x: Value) -> Value | None:
    """New leading axes of size 1 repeat nothing."""
    ones = leading_ones_dropped(b.root.output.type.shape, x.type.shape)
    return one_reshape(b, x) if ones else None


def two_permutes(p: Pattern, x: Var, inner: Var, outer: Var) -> Term:
    return p.permute(p.permute(x, order=inner), order=outer)


def one_permute(b: Site, x: Value, inner: tuple[int, ...], outer: tuple[int, ...]) -> Value:
    made: Value = b.permute(x, order=tuple(inner[a] for a in outer))
    return made


def two_flips(p: Pattern, x: Var, inner: Var, outer: Var) -> Term:
    return p.flip(p.flip(x, axes=inner), axes=outer)


def flipped_back(b: Site, x: Value, inner: tuple[int, ...], outer: tuple[int, ...]) -> Value | None:
    rank = x.type.rank
    return x if {a % rank for a in inner} == {a % rank for a in outer} else None


def reduced_then_unsqueezed(p: Pattern, x: Var, reduce: Var) -> Term:
    reductions = ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min")
    return p.reshape(p.either(*(getattr(p, r)(x, _op=reduce, keep=False) for r in reductions)))


def reduced_and_kept(b: Site, x: Value, reduce: Reduction) -> Value | None:
    """The reduced axes come back as ones: that is `keep`."""
    kept = type(reduce)(axes=reduce.axes, keep=True)
    if not same_shapes(kept.infer(x.type).shape, b.root.output.type.shape):
        return None
    made: Value = b.emit(kept, x)
    return made


# ------------------------------------------------------------------ one number everywhere
def view_of_number(p: Pattern, number: Var) -> Term:
    x, ids = p.uniform(number), p.wild()
    views = (p.reshape(x), p.expand(x), p.permute(x), p.slice(x), p.flip(x))
    return p.either(*views, p.gather(x, ids), p.take_along(x, ids))


def number_everywhere(b: Site, number: float) -> Value:
    kind = b.root.output.type
    if kind.rank == 0:
        return b.scalar(number, kind.dtype)
    made: Value = b.full(shape=kind.shape, value=number, dtype=kind.dtype)
    return made


# ------------------------------------------------------------------ casts
_EXACT = {
    DType.BOOL: set(DType) - {DType.BOOL},
    DType.U8: set(DType) - {DType.BOOL, DType.U8, DType.I8},
    DType.I8: set(DType) - {DType.BOOL, DType.U8, DType.I8},
    DType.I16: {DType.I32, DType.I64, DType.F32, DType.F64},
    DType.I32: {DType.I64, DType.F64},
    DType.I64: set(),
    DType.F16: {DType.F32, DType.F64},
    DType.BF16: {DType.F32, DType.F64},
    DType.F32: {DType.F64},
    DType.F64: set(),
}


def two_casts(p: Pattern, x: Var, dtype: Var) -> Term:
    return p.cast(p.cast(x), dtype=dtype)


def one_cast(b: Site, x: Value, dtype: DType) -> Value | None:
    """The first cast loses nothing, so that the second sees the same numbers."""
    between = b.operand(b.root.inputs[0])
    assert between is not None
    first, middle = x.type.dtype, between.type.dtype
    if middle not in _EXACT[first]:
        return None
    wraps = first.is_int and middle.is_float and dtype.is_int and dtype not in _EXACT[first]
    if wraps and dtype is not first:
        return None  # an integer wraps around, a float out of range is undefined
    made: Value = b.cast(x, dtype=dtype)
    return made


# ------------------------------------------------------------------ in front of broadcasting ops
def broadcasting(p: Pattern) -> Term:
    return p.any_of(*BROADCASTING)


def operands_broadcast(b: Site) -> Value | None:
    """Drop what the op does by itself: expand, leading ones, `full` in place of a number."""
    inputs = [v for v in map(b.operand, b.root.inputs) if v is not None]
    want, changed = b.root.output.type.shape, False
    for i in range(len(inputs)):
        while (source := _unbroadcast(b, inputs[i])) is not None:
            shapes = [v.type.shape for v in inputs]
            shapes[i] = source.type.shape
            if not same_shapes(result_shape(b.root, shapes), want):
                break
            inputs[i], changed = source, True
    if not changed:
        return None
    made: Value = b.emit(b.root.op, *inputs)
    return made


def _unbroadcast(b: Site, value: Value) -> Value | None:
    """What `value` repeats."""
    if value.type.rank > 0 and (number := b.scalar_of(value)) is not None:
        return b.scalar(number, value.type.dtype)
    node = b.producer(value)
    if node is None:
        return None
    source = b.operand(node.inputs[0]) if node.inputs else None
    if source is None:
        return None
    if node.op.name == "expand":
        return source
    unsqueezed = leading_ones_dropped(value.type.shape, source.type.shape)
    return source if node.op.name == "reshape" and unsqueezed else None


def masked_attention(p: Pattern, q: Var, k: Var, v: Var, mask: Var, op: Var) -> Term:
    return p.attention(q, k, v, p.expand(mask), _op=op)


def mask_broadcasts(b: Site, q: Value, k: Value, v: Value, mask: Value, op: Op) -> Value | None:
    scores = (*q.type.shape[:3], k.type.shape[2])
    if not broadcasts_to(mask.type.shape, scores):
        return None
    made: Value = b.emit(op, q, k, v, mask)
    return made


RULES = (
    Rule("identity-view", a_view, the_same),
    Rule("permute-of-ones", a_permute, permute_of_ones),
    Rule("flip-of-nothing", a_flip, flip_of_nothing),
    Rule("reshape-of-reshape", two_reshapes, one_reshape, shared=True),
    Rule("expand-of-ones", an_expand, expand_of_ones),
    Rule("expand-of-expand", two_expands, one_expand, shared=True),
    Rule("expand-of-unsqueezed", expand_of_unsqueezed, without_leading_ones, shared=True),
    Rule("permute-of-permute", two_permutes, one_permute, shared=True),
    Rule("flip-of-flip", two_flips, flipped_back, shared=True),
    Rule("reduce-and-keep", reduced_then_unsqueezed, reduced_and_kept),
    Rule("view-of-number", view_of_number, number_everywhere, shared=True),
    Rule("cast-of-cast", two_casts, one_cast, shared=True),
    Rule("operands-broadcast", broadcasting, operands_broadcast),
    Rule("mask-broadcasts", masked_attention, mask_broadcasts, shared=True),
)
