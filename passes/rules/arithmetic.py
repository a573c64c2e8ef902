"""Exact rules for arithmetic, comparison, logic and selection.

Exact means the same bits, but for the sign of zero: x + 0 gives 0 for x = -0, x itself does not.
"""

from __future__ import annotations

import torch

from edgec.ir.graph import Value
from edgec.ir.pattern import Pattern, Term, Var
from edgec.ir.rewrite import Rule, Site
from edgec.ir.types import DType
from edgec.ops.activations import Clamp
from edgec.passes.rules.facts import fitted


# ------------------------------------------------------------------ neutral elements
def neutral(p: Pattern, x: Var) -> Term:
    zero, one = p.uniform(0), p.uniform(1)
    return p.either(
        p.add(x, zero),
        p.sub(x, zero),
        p.mul(x, one),
        p.div(x, one),
        p.pow(x, one),
        p.logical_and(x, p.uniform(True)),
        p.logical_or(x, p.uniform(False)),
        p.logical_xor(x, p.uniform(False)),
        p.eq(x, p.uniform(True)),
        p.ne(x, p.uniform(False)),
        p.logical_and(x, x),
        p.logical_or(x, x),
        p.maximum(x, x),
        p.minimum(x, x),
        p.where(p.uniform(True), x, p.wild()),
        p.where(p.uniform(False), p.wild(), x),
        p.where(p.wild(), x, x),
    )


def operand_itself(b: Site, x: Value) -> Value | None:
    return fitted(b, x)


def absorbing(p: Pattern) -> Term:
    return p.either(
        p.logical_and(p.wild(), p.uniform(False)),
        p.logical_or(p.wild(), p.uniform(True)),
    )


def absorbed(b: Site) -> Value:
    made: Value = b.full(
        shape=b.root.output.type.shape, value=b.root.op.name == "logical_or", dtype=DType.BOOL
    )
    return made


# ------------------------------------------------------------------ signs
def undone_twice(p: Pattern, x: Var) -> Term:
    return p.either(p.neg(p.neg(x)), p.logical_not(p.logical_not(x)))


def add_of_negative(p: Pattern, x: Var, y: Var) -> Term:
    return p.add(x, p.neg(y))


def difference(b: Site, x: Value, y: Value) -> Value:
    made: Value = b.sub(x, y)
    return made


def sub_of_negative(p: Pattern, x: Var, y: Var) -> Term:
    return p.sub(x, p.neg(y))


def total(b: Site, x: Value, y: Value) -> Value:
    made: Value = b.add(x, y)
    return made


# ------------------------------------------------------------------ truth values
def flag_as_number(p: Pattern, x: Var) -> Term:
    flag = p.cast(x)
    return p.either(
        p.ne(flag, p.uniform(0)), p.gt(flag, p.uniform(0)), p.cast(flag, dtype=DType.BOOL)
    )


def flag(b: Site, x: Value) -> Value | None:
    """A bool that was a number in between."""
    return fitted(b, x) if x.type.dtype is DType.BOOL else None


def flag_is_false(p: Pattern, x: Var) -> Term:
    return p.either(p.eq(p.cast(x), p.uniform(0)), p.eq(x, p.uniform(False)))


def negated_flag(b: Site, x: Value) -> Value | None:
    if x.type.dtype is not DType.BOOL:
        return None
    return fitted(b, b.logical_not(x))


_NEGATED = {"eq": "ne", "ne": "eq"}


def negated_equality(p: Pattern, x: Var, y: Var) -> Term:
    return p.logical_not(p.either(p.eq(x, y), p.ne(x, y)))


def other_equality(b: Site, x: Value, y: Value) -> Value:
    inner = b.producer(b.root.inputs[0])
    assert inner is not None
    made: Value = getattr(b, _NEGATED[inner.op.name])(x, y)
    return made


def negated_choice(p: Pattern, cond: Var, x: Var, y: Var) -> Term:
    return p.where(p.logical_not(cond), x, y)


def swapped_choice(b: Site, cond: Value, x: Value, y: Value) -> Value:
    made: Value = b.where(cond, y, x)
    return made


def choice_of_flags(p: Pattern, cond: Var, x: Var, y: Var) -> Term:
    return p.where(cond, p.uniform(x), p.uniform(y))


def condition(b: Site, cond: Value, x: object, y: object) -> Value | None:
    """where(c, True, False) is c, where(c, False, True) is not c."""
    if not isinstance(x, bool) or not isinstance(y, bool) or x == y:
        return None
    return fitted(b, cond if x else b.logical_not(cond))


# ------------------------------------------------------------------ other forms of an op
def above_zero(p: Pattern, x: Var, op: Var) -> Term:
    return p.either(p.clamp(x, _op=op), p.maximum(x, p.uniform(0)))


def rectified(b: Site, x: Value, op: Clamp | None) -> Value | None:
    if op is not None and op != Clamp(min=0.0):
        return None
    return fitted(b, b.relu(x))


def unbounded_clamp(p: Pattern, x: Var) -> Term:
    return p.clamp(x, min=None, max=None)


def outer_product(p: Pattern, x: Var, y: Var) -> Term:
    return p.matmul(x, y)


def product(b: Site, x: Value, y: Value) -> Value | None:
    """[.., M, 1] @ [.., 1, N]: one product per element, no sum."""
    if x.type.shape[-1] != 1:
        return None
    made: Value = b.mul(x, y)
    return made


def static_size(p: Pattern, dim: Var, dtype: Var) -> Term:
    return p.dim_value(dim=dim, dtype=dtype)


def number(b: Site, dim: object, dtype: DType) -> Value | None:
    return b.scalar(dim, dtype) if isinstance(dim, int) else None


# ------------------------------------------------------------------ one number everywhere
# Every implementation gives the same bits for these, one number at a time or many.
_EXACT = (
    *("neg", "abs", "cast", "add", "sub", "mul", "minimum", "maximum", "where"),
    *("eq", "ne", "lt", "le", "gt", "ge"),
    *("logical_not", "logical_and", "logical_or", "logical_xor"),
)


def exact_op(p: Pattern) -> Term:
    return p.any_of(*_EXACT)


def of_numbers(b: Site) -> Value | None:
    """An op on operands of one number each has one number as its result."""
    kind = b.root.output.type
    operands = [v for v in map(b.operand, b.root.inputs) if v is not None]
    numbers = [b.scalar_of(v) for v in operands]
    if any(n is None for n in numbers):
        return None
    tensors = [
        torch.tensor(n, dtype=v.type.dtype.torch_dtype)
        for n, v in zip(numbers, operands, strict=True)
    ]
    result = b.root.op.evaluate(*tensors)
    assert isinstance(result, torch.Tensor)
    if kind.rank == 0:
        return b.scalar(result.item(), kind.dtype)
    made: Value = b.full(shape=kind.shape, value=result.item(), dtype=kind.dtype)
    return made


RULES = (
    Rule("numbers", exact_op, of_numbers, shared=True),
    Rule("neutral-element", neutral, operand_itself),
    Rule("absorbing-element", absorbing, absorbed),
    Rule("undone-twice", undone_twice, operand_itself, shared=True),
    Rule("add-of-negative", add_of_negative, difference),
    Rule("sub-of-negative", sub_of_negative, total),
    Rule("flag-as-number", flag_as_number, flag, shared=True),
    Rule("flag-is-false", flag_is_false, negated_flag, shared=True),
    Rule("negated-equality", negated_equality, other_equality),
    Rule("negated-choice", negated_choice, swapped_choice, shared=True),
    Rule("choice-of-flags", choice_of_flags, condition),
    Rule("rectifier", above_zero, rectified),
    Rule("unbounded-clamp", unbounded_clamp, operand_itself),
    Rule("outer-product", outer_product, product),
    Rule("static-size", static_size, number),
)
