"""Norms that are written out, within rounding.

`algebra` has brought them to the form x rsqrt(mean(x x) + eps).
"""

from __future__ import annotations

from edgec.ir import dims
from edgec.ir.graph import Value
from edgec.ir.pattern import Pattern, Term, Var
from edgec.ir.rewrite import Rule, Site
from edgec.ops.normalize import LayerNorm, RmsNorm
from edgec.passes.rules.facts import axis_is_last, written


def _root_mean_square(p: Pattern, x: Term, axes: Var, eps: Var) -> Term:
    mean = p.reduce_mean(p.mul(x, x), axes=axes, keep=True)
    return p.rsqrt(p.add(mean, p.scalar(eps)))


# ------------------------------------------------------------------ the norms
def scaled_by_rms(p: Pattern, x: Var, axes: Var, eps: Var) -> Term:
    return p.mul(x, _root_mean_square(p, x, axes, eps))


def rms_norm(b: Site, x: Value, axes: tuple[int, ...], eps: float) -> Value | None:
    if len(axes) != 1 or not eps > 0:
        return None
    axis = -1 if axis_is_last(axes, x.type.rank) else axes[0]
    made: Value = b.rms_norm(x, eps=written(eps), axis=axis)
    return made


def standardized(p: Pattern, x: Var, axes: Var, eps: Var) -> Term:
    """(x - mean) / std."""
    centered = p.sub(x, p.reduce_mean(x, axes=axes, keep=True))
    return p.mul(centered, _root_mean_square(p, centered, axes, eps))


def layer_norm(b: Site, x: Value, axes: tuple[int, ...], eps: float) -> Value | None:
    rank, count = x.type.rank, len(axes)
    if sorted(a % rank for a in axes) != list(range(rank - count, rank)) or not eps > 0:
        return None
    made: Value = b.layer_norm(x, eps=written(eps), axes_count=count)
    return made


# ------------------------------------------------------------------ weight and bias
def weighted_rms(p: Pattern, x: Var, weight: Var, norm: Var) -> Term:
    return p.mul(p.rms_norm(x, _op=norm), weight)


def with_rms_weight(b: Site, x: Value, weight: Value, norm: RmsNorm) -> Value | None:
    fits = axis_is_last((norm.axis,), x.type.rank) and _is_vector(weight, x)
    return b.emit(norm, x, weight) if fits else None


def weighted_layer(p: Pattern, x: Var, weight: Var, norm: Var) -> Term:
    return p.mul(p.layer_norm(x, _op=norm), weight)


def with_weight(b: Site, x: Value, weight: Value, norm: LayerNorm) -> Value | None:
    fits = norm.axes_count == 1 and _is_vector(weight, x)
    return b.emit(norm, x, weight) if fits else None


def biased_layer(p: Pattern, x: Var, weight: Var, bias: Var, norm: Var) -> Term:
    return p.add(p.layer_norm(x, p.optional(weight), _op=norm), bias)


def with_bias(
    b: Site, x: Value, weight: Value | None, bias: Value, norm: LayerNorm
) -> Value | None:
    fits = norm.axes_count == 1 and _is_vector(bias, x)
    return b.emit(norm, x, weight, bias) if fits else None


def _is_vector(weight: Value, x: Value) -> bool:
    """Whether `weight` is [E] for x [.., E]."""
    t = weight.type
    same = t.rank == 1 and t.dtype is x.type.dtype
    return same and dims.same(t.shape[0], x.type.shape[-1])


RULES = (
    Rule("layer-norm", standardized, layer_norm),
    Rule("rms-norm", scaled_by_rms, rms_norm),
    Rule("rms-norm-weight", weighted_rms, with_rms_weight),
    Rule("layer-norm-weight", weighted_layer, with_weight),
    Rule("layer-norm-bias", biased_layer, with_bias),
)
