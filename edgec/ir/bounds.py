"""Least and greatest values of dimensions over the admitted sizes. Never too narrow, whatever the
expression."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from edgec.ir import dims
from edgec.ir.dims import Dim, FloorDiv
from edgec.ir.graph import Range

#: Up to so many values of one name an expression is evaluated at all of them.
_EXHAUSTIVE = 1 << 18

Bounds = tuple[int, int]
Values = npt.NDArray[Any]


def bounds(dim: Dim, ranges: Mapping[str, Range]) -> Bounds:
    """Lower and upper bound of a dimension over all admitted sizes.

    Exact for what is affine in each name, and for expressions of one name of few values; else each
    name counts by itself (interval arithmetic), which can only be wider.
    """
    dim = dims.normal(dim)
    if isinstance(dim, int):
        return dim, dim
    return _bounds(dim, tuple(sorted((n, ranges[n].min, ranges[n].max) for n in dims.names([dim]))))


def decided(dim: Dim, ranges: Mapping[str, Range]) -> Dim:
    """`dim` without the operands of Min and Max that others always outdo, as in
    Max(64 - seq, 0) where seq is at most 60."""
    if isinstance(dim, int) or not dim.has(sympy.Min, sympy.Max):
        return dim
    return dims.normal(
        dim.replace(
            lambda e: isinstance(e, sympy.Min | sympy.Max), lambda e: _undominated(e, ranges)
        )
    )


def _undominated(e: sympy.Expr, ranges: Mapping[str, Range]) -> sympy.Expr:
    sign = 1 if isinstance(e, sympy.Max) else -1
    left = list(e.args)
    for operand in e.args:
        others = [o for o in left if o is not operand]
        if any(bounds(sign * (o - operand), ranges)[0] >= 0 for o in others):
            left = others
    return e.func(*left)


@functools.lru_cache(maxsize=4096)
def _bounds(dim: sympy.Expr, used: tuple[tuple[str, int, int], ...]) -> Bounds:
    sizes = {n: (low, high) for n, low, high in used}
    parts = [f for f in sympy.Mul.make_args(sympy.factor_terms(dim)) if f != 1]
    apart = sum(len(f.free_symbols) for f in parts) == len(dim.free_symbols)
    if not apart or len(parts) == 1:
        return _of_factor(dim, sizes)
    sides = [_of_factor(f, sizes) for f in parts]
    values = [math.prod(corner) for corner in itertools.product(*sides)]
    return min(values), max(values)


def _of_factor(factor: sympy.Expr, sizes: Mapping[str, Bounds]) -> Bounds:
    """Least and greatest value of an expression, or bounds of them."""
    names = [s.name for s in factor.free_symbols]
    if _is_affine(factor):
        corners = itertools.product(*(sizes[n] for n in names))
        values = [dims.evaluate(factor, dict(zip(names, c, strict=True))) for c in corners]
        return min(values), max(values)
    if len(names) == 1:
        low, high = sizes[names[0]]
        if high - low < _EXHAUSTIVE:
            # beyond 15 bits powers may leave 64: Python's own integers then
            kind = np.int64 if high < 1 << 15 else object
            found = _at(factor, np.arange(low, high + 1).astype(kind))
            return int(found.min()), int(found.max())
    return _interval(factor, sizes)


def _is_affine(e: sympy.Expr) -> bool:
    """Whether an expression is a polynomial of degree at most 1 in each name."""
    if e.has(FloorDiv, sympy.Mod, sympy.Min, sympy.Max):
        return False
    return all(sympy.degree(e, s) <= 1 for s in e.free_symbols)


def _at(e: Any, values: Values) -> Values:
    """An expression of one name at many values of it."""
    if isinstance(e, sympy.Symbol):
        return values
    if e.is_Integer:
        return np.full_like(values, int(e))
    parts = [_at(a, values) for a in e.args]
    return functools.reduce(_NUMPY[e.func], parts)


_NUMPY: dict[Any, Callable[[Any, Any], Any]] = {
    sympy.Add: np.add,
    sympy.Mul: np.multiply,
    sympy.Pow: np.power,
    sympy.Mod: lambda a, b: np.mod(a, np.maximum(b, 1)),
    sympy.Min: np.minimum,
    sympy.Max: np.maximum,
    FloorDiv: lambda a, b: np.floor_divide(a, np.maximum(b, 1)),
}


_EXACT: dict[Any, Callable[[int, int], int]] = {
    sympy.Mul: operator.mul,
    sympy.Pow: operator.pow,
    FloorDiv: operator.floordiv,
}


def _interval(e: Any, sizes: Mapping[str, Bounds]) -> Bounds:
    """Interval arithmetic: what a name is in one place says nothing of it in another."""
    if isinstance(e, sympy.Symbol):
        return sizes[e.name]
    if e.is_Integer:
        return int(e), int(e)
    parts = [_interval(a, sizes) for a in e.args]
    lows, highs = zip(*parts, strict=True)
    if e.func is sympy.Add:
        return sum(lows), sum(highs)
    if e.func is sympy.Min:
        return min(lows), min(highs)
    if e.func is sympy.Max:
        return max(lows), max(highs)
    if e.func is sympy.Mod:
        return 0, max(highs[1] - 1, 0)
    return functools.reduce(functools.partial(_corners, e.func), parts)


def _corners(func: Any, a: Bounds, b: Bounds) -> Bounds:
    """Of products, powers and floor divisions, which are monotone in each operand on either side
    of zero. No size makes a divisor less than 1."""
    if func is FloorDiv:
        b = max(b[0], 1), max(b[1], 1)
    values = [_EXACT[func](x, y) for x in a for y in b]
    if a[0] < 0 < a[1]:
        values.append(0)
    return min(values), max(values)
