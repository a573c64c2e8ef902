"""Greatest sizes: what memory is planned for. Never too small, whatever the expression."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from edgec.errors import UnsupportedError
from edgec.ir import Graph, Range, dims
from edgec.ir.dims import Dim, FloorDiv

#: A dimension without an upper bound has this one in its Range.
UNBOUNDED = Range().max

#: Up to so many values of one name an expression is evaluated at all of them.
_EXHAUSTIVE = 1 << 18

Bounds = tuple[int, int]
Values = npt.NDArray[Any]


def check_bounded(graphs: Iterable[Graph]) -> None:
    """Raises UnsupportedError that names every dimension without an upper bound."""
    open_dims = sorted(
        {f"{g.name}: {n}" for g in graphs for n, r in g.dims.items() if r.max >= UNBOUNDED}
    )
    if open_dims:
        need = "a greatest size of every dimension, for which memory is planned"
        do = 'give max_sizes, as native{max_sizes="seq=512"}, or capture with a maximum'
        raise UnsupportedError("native", f"no maximum for {', '.join(open_dims)}", need, do)


def without_unbound(graph: Graph) -> Graph:
    """The function without dimensions that no input has: no caller could say what they are."""
    bound = dims.names(d for v in graph.inputs for d in v.type.shape)
    return graph.replace(dims={n: r for n, r in graph.dims.items() if n in bound})


def greatest(dim: Dim, ranges: Mapping[str, Range]) -> int:
    """Upper bound of a dimension over all admitted sizes, at least 0.

    Exact for what is affine in each name, and for floor divisions of one name; else each name
    counts by itself (interval arithmetic), which can only be more.
    """
    dim = dims.normal(dim)
    if isinstance(dim, int):
        return max(dim, 0)
    used = tuple(sorted((n, ranges[n].min, ranges[n].max) for n in dims.names([dim])))
    return max(_greatest(dim, used), 0)


@functools.lru_cache(maxsize=4096)
def _greatest(dim: sympy.Expr, used: tuple[tuple[str, int, int], ...]) -> int:
    bounds = {n: (low, high) for n, low, high in used}
    parts = [f for f in sympy.Mul.make_args(sympy.factor_terms(dim)) if f != 1]
    apart = sum(len(f.free_symbols) for f in parts) == len(dim.free_symbols)
    if not apart or len(parts) == 1:
        return _of_factor(dim, bounds)[1]
    sides = [_of_factor(f, bounds) for f in parts]
    return max(math.prod(corner) for corner in itertools.product(*sides))


def _of_factor(factor: sympy.Expr, bounds: Mapping[str, Bounds]) -> Bounds:
    """Least and greatest value of an expression, or bounds of them."""
    names = [s.name for s in factor.free_symbols]
    if _is_affine(factor):
        corners = itertools.product(*(bounds[n] for n in names))
        values = [dims.evaluate(factor, dict(zip(names, c, strict=True))) for c in corners]
        return min(values), max(values)
    if len(names) == 1:
        low, high = bounds[names[0]]
        if high - low < _EXHAUSTIVE:
            # beyond 15 bits powers may leave 64: Python's own integers then
            kind = np.int64 if high < 1 << 15 else object
            found = _at(factor, np.arange(low, high + 1).astype(kind))
            return int(found.min()), int(found.max())
    return _interval(factor, bounds)


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
    sympy.Mod: np.mod,
    sympy.Min: np.minimum,
    sympy.Max: np.maximum,
    FloorDiv: np.floor_divide,
}


_EXACT: dict[Any, Callable[[int, int], int]] = {
    sympy.Mul: operator.mul,
    sympy.Pow: operator.pow,
    FloorDiv: operator.floordiv,
}


def _interval(e: Any, bounds: Mapping[str, Bounds]) -> Bounds:
    """Interval arithmetic: what a name is in one place says nothing of it in another."""
    if isinstance(e, sympy.Symbol):
        return bounds[e.name]
    if e.is_Integer:
        return int(e), int(e)
    parts = [_interval(a, bounds) for a in e.args]
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
    """Of products, powers and floor divisions, which are monotone in each operand."""
    values = [_EXACT[func](x, y) for x in a for y in b]
    return min(values), max(values)
