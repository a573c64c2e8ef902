"""Activation functions that are written out, within rounding."""

from __future__ import annotations

import math

from edgec.ir.graph import Value
from edgec.ir.pattern import Pattern, Term, Var
from edgec.ir.rewrite import Rule, Site

# Written constants are rounded: 0.7978845608, 1.702, 0.3333333.
TOLERANCE = 1e-5


def _product(p: Pattern, x: Term, y: Term, z: Term) -> Term:
    """x y z in any order."""
    return p.either(p.mul(p.mul(x, y), z), p.mul(p.mul(x, z), y), p.mul(p.mul(y, z), x))


# ------------------------------------------------------------------ silu
def sigmoid_product(p: Pattern, x: Var) -> Term:
    return p.mul(x, p.sigmoid(x))


def silu(b: Site, x: Value) -> Value:
    made: Value = b.silu(x)
    return made


# ------------------------------------------------------------------ gelu
def quick_gelu(p: Pattern, x: Var) -> Term:
    return p.mul(x, p.sigmoid(p.mul(x, p.scalar(1.702, TOLERANCE))))


def sigmoid_gelu(b: Site, x: Value) -> Value:
    made: Value = b.gelu(x, approximate="sigmoid")
    return made


def normal_product(p: Pattern, x: Var) -> Term:
    """x (1 + erf(x / sqrt 2)) / 2."""
    argument = p.either(
        p.mul(x, p.scalar(math.sqrt(0.5), TOLERANCE)), p.div(x, p.scalar(math.sqrt(2), TOLERANCE))
    )
    one = p.add(p.erf(argument), p.scalar(1))
    return _product(p, x, one, p.scalar(0.5))


def erf_gelu(b: Site, x: Value) -> Value:
    made: Value = b.gelu(x)
    return made


def tanh_product(p: Pattern, x: Var) -> Term:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, or with x (1 + 0.044715 x^2) inside."""
    outer, cubic = p.scalar(math.sqrt(2 / math.pi), TOLERANCE), p.scalar(0.044715, TOLERANCE)
    cube = p.either(p.pow(x, p.scalar(3)), p.mul(p.mul(x, x), x))
    correction = p.either(p.mul(cubic, cube), p.mul(p.mul(p.mul(x, x), cubic), x))
    polynomial = p.mul(outer, p.add(x, correction))
    factored = p.add(p.scalar(1), _product(p, x, x, cubic))
    argument = p.either(polynomial, _product(p, x, outer, factored))
    return _product(p, x, p.add(p.tanh(argument), p.scalar(1)), p.scalar(0.5))


def tanh_gelu(b: Site, x: Value) -> Value:
    made: Value = b.gelu(x, approximate="tanh")
    return made


# ------------------------------------------------------------------ piecewise linear
def clamped_line(p: Pattern, x: Var) -> Term:
    """min(max(x + 3, 0), 6) / 6."""
    clamped = p.clamp(p.add(x, p.scalar(3)), min=0.0, max=6.0)
    return p.either(p.mul(clamped, p.scalar(1 / 6, TOLERANCE)), p.div(clamped, p.scalar(6)))


def hardsigmoid(b: Site, x: Value) -> Value:
    made: Value = b.hardsigmoid(x)
    return made


def hardsigmoid_product(p: Pattern, x: Var) -> Term:
    clamped = p.clamp(p.add(x, p.scalar(3)), min=0.0, max=6.0)
    sixth = p.mul(p.mul(x, clamped), p.scalar(1 / 6, TOLERANCE))
    return p.either(p.mul(x, p.hardsigmoid(x)), sixth)


def hardswish(b: Site, x: Value) -> Value:
    made: Value = b.hardswish(x)
    return made


RULES = (
    Rule("silu", sigmoid_product, silu),
    Rule("quick-gelu", quick_gelu, sigmoid_gelu),
    Rule("erf-gelu", normal_product, erf_gelu),
    Rule("tanh-gelu", tanh_product, tanh_gelu),
    Rule("hardsigmoid", clamped_line, hardsigmoid),
    Rule("hardswish", hardsigmoid_product, hardswish),
)
