"""Dimensions: integers, or expressions (sympy) over named dimensions; their text and values.

A named dimension is a non-negative integer symbol; an expression is built from +, -, *, floor
division, modulo, Min and Max. Text is Python's: `2*batch`, `(samples - 127)//384`, `Max(1, src)`.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import sympy

from edgec.errors import FormatError, ValidationError

Dim: TypeAlias = int | sympy.Expr
Shape: TypeAlias = tuple[Dim, ...]
Env: TypeAlias = Mapping[str, int]

# Values at which expressions that sympy cannot prove equal are compared: odd, even, prime, large.
_PROBES = (2, 3, 5, 8, 13, 16, 37, 64, 101, 640)


class FloorDiv(sympy.Function):  # type: ignore[misc]
    """floor(a / b) of integers; b > 0. Kept whole, unlike sympy.floor: text stays readable."""

    nargs = (2,)
    is_integer = True

    @classmethod
    def eval(cls, a: Any, b: Any) -> Any:
        if b == 1:
            return a
        if a.is_Integer and b.is_Integer:
            return a // b
        if b.is_Add:
            ratio = sympy.cancel(a / b)
            return ratio if ratio.is_integer else None
        # floor((b * q + r) / b) = q + floor(r / b): pull out every term that b divides
        terms = sympy.Add.make_args(sympy.expand(a))
        if whole := [t for t in terms if (t / b).is_integer]:
            rest = sympy.Add(*(t for t in terms if t not in whole))
            return sympy.Add(*(t / b for t in whole)) + (FloorDiv(rest, b) if rest != 0 else 0)
        if b.is_Integer and isinstance(a, FloorDiv) and a.args[1].is_Integer:
            return FloorDiv(a.args[0], a.args[1] * b)
        return None


@functools.cache
def symbol(name: str) -> sympy.Symbol:
    """The named dimension `name`; the same name always gives the same symbol."""
    return sympy.Symbol(name, integer=True, nonnegative=True)


def normal(dim: Dim) -> Dim:
    """Canonical form: a Python int where the value is known, an expanded expression otherwise."""
    if isinstance(dim, int):
        return int(dim)
    if dim.has(sympy.floor):  # what Python's // makes of sympy's expressions
        dim = dim.replace(sympy.floor, _floor)
    dim = sympy.expand(dim)
    return int(dim) if dim.is_Integer else dim


def _floor(ratio: sympy.Expr) -> sympy.Expr:
    return FloorDiv(*sympy.fraction(sympy.together(ratio)))


def names(dims: Iterable[Dim]) -> set[str]:
    """Names of the named dimensions that occur in `dims`."""
    return {s.name for d in dims if isinstance(d, sympy.Expr) for s in d.free_symbols}


def evaluate(dim: Dim, env: Env) -> int:
    """The value of `dim` where each named dimension has its value of `env`.

    Raises ValidationError for a name that `env` lacks.
    """
    if isinstance(dim, int):
        return dim
    return int(_compiled(dim)(env))


@functools.lru_cache(maxsize=8192)
def _compiled(dim: sympy.Expr) -> Callable[[Env], int]:
    if isinstance(dim, sympy.Symbol):
        return functools.partial(_lookup, dim.name)
    if dim.is_Integer:
        value = int(dim)
        return lambda env: value
    if dim.has(sympy.floor):
        return _compiled(sympy.sympify(normal(dim)))
    parts = [_compiled(a) for a in dim.args]
    fold = _FOLDS.get(dim.func)
    if fold is None:
        raise ValidationError("dims", f"{dim}", "+, -, *, //, %, Min, Max over named dimensions")
    return lambda env: functools.reduce(fold, (p(env) for p in parts))


_FOLDS: dict[Any, Callable[[int, int], int]] = {
    sympy.Add: operator.add,
    sympy.Mul: operator.mul,
    sympy.Pow: operator.pow,
    sympy.Mod: operator.mod,
    sympy.Min: min,
    sympy.Max: max,
    FloorDiv: operator.floordiv,
}


def _lookup(name: str, env: Env) -> int:
    if name not in env:
        raise ValidationError("dims", f"no value for dimension {name}", f"one of {sorted(env)}")
    return env[name]


@functools.lru_cache(maxsize=65536)
def same(a: Dim, b: Dim) -> bool:
    """Whether two dimensions are equal for all values of their names.

    Proved by expansion where sympy can; otherwise compared at ten values of the names, and around
    and beyond every greater number in them, where a Min or Max would change sides. That tells any
    two different expressions of this small grammar apart in practice (floor divisions included).
    """
    if a == b:
        return True
    if isinstance(a, int) and isinstance(b, int):
        return False
    if sympy.expand(sympy.sympify(a) - sympy.sympify(b)) == 0:
        return True
    used = sorted(names((a, b)))
    numbers = {abs(int(n)) for d in (a, b) for n in sympy.sympify(d).atoms(sympy.Integer)}
    turns = {n + s for n in numbers if n >= _PROBES[-1] for s in (-1, 1, n + 1)}
    for i, probe in enumerate((*_PROBES, *sorted(turns))):
        env = {n: probe + (i + 1) * k for k, n in enumerate(used)}
        if evaluate(a, env) != evaluate(b, env):
            return False
    return bool(used)


def product(dims: Iterable[Dim]) -> Dim:
    return normal(functools.reduce(operator.mul, dims, 1))


def floordiv(a: Dim, b: Dim) -> Dim:
    """floor(a / b)."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    return normal(FloorDiv(sympy.sympify(a), sympy.sympify(b)))


def solve(dim: Dim, value: int) -> tuple[str, int] | None:
    """(name, n) such that `dim` = `value` where name = n, for `dim` linear in one name, or None."""
    if isinstance(dim, int) or len(dim.free_symbols) != 1:
        return None
    (s,) = dim.free_symbols
    slope, offset = dim.coeff(s, 1), dim.coeff(s, 0)
    if not (slope.is_Integer and offset.is_Integer and slope != 0):
        return None
    if sympy.expand(dim - slope * s - offset) != 0 or (value - int(offset)) % int(slope):
        return None
    return s.name, (value - int(offset)) // int(slope)


# ------------------------------------------------------------------ text
def show(dim: Dim) -> str:
    """Text that `parse` reads back to an equal dimension."""
    dim = normal(dim)
    return str(dim) if isinstance(dim, int) else _show(dim, 0)


def _show(e: sympy.Expr, level: int) -> str:
    """`level` 0: a sum may stand here; 1: a product; 2: an atom."""
    if isinstance(e, sympy.Add):
        terms = sorted(e.args, key=lambda t: (t.is_Integer, str(t)))
        text = _show(terms[0], 1)
        for t in terms[1:]:
            negative = bool(t.as_coeff_Mul()[0] < 0)
            text += f" - {_show(-t, 1)}" if negative else f" + {_show(t, 1)}"
        return f"({text})" if level > 0 else text
    if isinstance(e, sympy.Mul) and e.as_coeff_Mul()[0] == -1:
        text = f"-{_show(-e, 2)}"
        return f"({text})" if level > 1 else text
    if isinstance(e, sympy.Mul):
        factors = sorted(e.args, key=lambda t: (not t.is_Integer, str(t)))
        text = "*".join(_show(f, 2) for f in factors)
        return f"({text})" if level > 1 else text
    if isinstance(e, FloorDiv | sympy.Mod):
        sign = "//" if isinstance(e, FloorDiv) else "%"
        text = f"{_show(e.args[0], 2)}{sign}{_show(e.args[1], 2)}"
        return f"({text})" if level > 0 else text
    if isinstance(e, sympy.Pow):
        return f"{_show(e.args[0], 2)}**{e.args[1]}"
    if isinstance(e, sympy.Min | sympy.Max):
        kind = "Min" if isinstance(e, sympy.Min) else "Max"
        return f"{kind}({', '.join(sorted(_show(a, 0) for a in e.args))})"
    text = str(e)
    return f"({text})" if level > 1 and text.startswith("-") else text


def parse(text: str) -> Dim:
    """Read a dimension. Raises FormatError for anything outside of the grammar."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise FormatError("dims", repr(text), "an expression over named dimensions") from error
    return from_ast(tree)


MAX_POWER = 8
MAX_TERMS = 256

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Pow: operator.pow,
    ast.FloorDiv: floordiv,
    ast.Mod: lambda a, b: sympy.Mod(sympy.sympify(a), sympy.sympify(b)),
}


def from_ast(tree: ast.expr) -> Dim:
    """The dimension that a Python expression stands for.

    Raises FormatError for anything outside of the grammar and for products that expand to hundreds
    of terms or powers above 8, which no model has and a hostile file may have.
    """
    match tree:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.Name(id=name):
            return symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return normal(-from_ast(inner))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            a, b = from_ast(left), from_ast(right)
            _check_growth(sign, a, b)
            return normal(_BINARY[type(sign)](a, b))
        case ast.Call(func=ast.Name(id="Min" | "Max" as kind), args=args):
            function = sympy.Min if kind == "Min" else sympy.Max
            return normal(function(*(sympy.sympify(from_ast(a)) for a in args)))
    raise FormatError("dims", ast.unparse(tree), "+, -, *, //, %, Min, Max over named dimensions")


def _check_growth(sign: ast.operator, a: Dim, b: Dim) -> None:
    terms = len(sympy.Add.make_args(sympy.sympify(a)))
    if isinstance(sign, ast.Pow):
        if not isinstance(b, int) or not 0 <= b <= MAX_POWER or terms**b > MAX_TERMS:
            raise FormatError("dims", f"{a}**{b}"[:60], f"powers up to {MAX_POWER}")
    elif isinstance(sign, ast.Mult):
        if terms * len(sympy.Add.make_args(sympy.sympify(b))) > MAX_TERMS:
            raise FormatError("dims", f"({a})*({b})"[:60], f"at most {MAX_TERMS} terms")
    elif isinstance(sign, ast.FloorDiv | ast.Mod) and b == 0:
        raise FormatError("dims", f"({a}) by 0"[:60], "a divisor > 0")
