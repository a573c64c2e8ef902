"""Normal forms of formulas, within rounding; the rules that fuse build on them."""

from __future__ import annotations

from edgec.ir.graph import Value
from edgec.ir.pattern import Pattern, Term, Var
from edgec.ir.rewrite import Rule, Site


def square(p: Pattern, x: Var) -> Term:
    return p.pow(x, p.scalar(2))


def own_product(b: Site, x: Value) -> Value:
    made: Value = b.mul(x, x)
    return made


def half_power(p: Pattern, x: Var, exponent: Var) -> Term:
    return p.pow(x, p.scalar(exponent))


def root(b: Site, x: Value, exponent: float) -> Value | None:
    """x^0.5 and x^-0.5."""
    if exponent not in (0.5, -0.5):
        return None
    made: Value = b.sqrt(x) if exponent == 0.5 else b.rsqrt(x)
    return made


def inverse(p: Pattern, x: Var) -> Term:
    return p.either(p.pow(x, p.scalar(-1)), p.div(p.scalar(1), x))


def reciprocal(b: Site, x: Value) -> Value | None:
    return b.reciprocal(x) if x.type.dtype.is_float else None


def inverse_root(p: Pattern, x: Var) -> Term:
    return p.reciprocal(p.sqrt(x))


def rsqrt(b: Site, x: Value) -> Value:
    made: Value = b.rsqrt(x)
    return made


def root_of_inverse(p: Pattern, x: Var) -> Term:
    return p.sqrt(p.reciprocal(x))


def quotient_by_root(p: Pattern, x: Var, y: Var) -> Term:
    return p.div(x, p.sqrt(y))


def product_with_rsqrt(b: Site, x: Value, y: Value) -> Value:
    made: Value = b.mul(x, b.rsqrt(y))
    return made


def product_with_inverse(p: Pattern, x: Var, y: Var) -> Term:
    return p.mul(x, p.reciprocal(y))


def quotient(b: Site, x: Value, y: Value) -> Value:
    made: Value = b.div(x, y)
    return made


def quotient_by_number(p: Pattern, x: Var, number: Var) -> Term:
    return p.div(x, p.scalar(number))


def product_with_number(b: Site, x: Value, number: float) -> Value | None:
    """x / c as x * (1 / c), where 1 / c is an ordinary number of the dtype."""
    if not 1e-4 < abs(number) < 1e4:
        return None
    made: Value = b.mul(x, b.scalar(1 / number, x.type.dtype))
    return made


def two_scales(p: Pattern, x: Var, first: Var, second: Var) -> Term:
    return p.mul(p.mul(x, p.scalar(first)), p.scalar(second))


def one_scale(b: Site, x: Value, first: float, second: float) -> Value | None:
    """(x c1) c2 as x (c1 c2) for floats."""
    if not x.type.dtype.is_float or b.scalar_of(x) is not None:
        return None
    made: Value = b.mul(x, b.scalar(first * second, x.type.dtype))
    return made


RULES = (
    Rule("square", square, own_product),
    Rule("half-power", half_power, root),
    Rule("inverse", inverse, reciprocal),
    Rule("inverse-root", inverse_root, rsqrt),
    Rule("root-of-inverse", root_of_inverse, rsqrt),
    Rule("quotient-by-root", quotient_by_root, product_with_rsqrt),
    Rule("product-with-inverse", product_with_inverse, quotient),
    Rule("quotient-by-number", quotient_by_number, product_with_number),
    Rule("two-scales", two_scales, one_scale),
)
