"""torch's symbolic sizes as dimensions of the IR.

torch names a symbolic size `s53` and builds expressions with its own sympy functions. Here they
become expressions over the user's names, in the grammar of `edgec.ir.dims`; a float that is
computed from sizes (`seq ** -0.5`, `floor(1.5 * height)`) becomes an exact ratio where it is
rounded to a size again, and nodes where it is used as data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy

from edgec.errors import CaptureError
from edgec.ir import dims
from edgec.ir.bounds import decided
from edgec.ir.builder import Builder
from edgec.ir.dims import Dim
from edgec.ir.graph import Range, Value
from edgec.ir.types import DType

MAX_DENOMINATOR = 10**6  # of a float in a size: 0.7 means 7/10, not its nearest binary fraction


@dataclass(frozen=True)
class SizeFloat:
    """A float that torch computes from sizes, as torch's sympy expression."""

    expr: sympy.Expr


class Symbols:
    """The symbols of one exported program.

    names   torch's symbol name -> the user's
    hints   the user's name -> its size in the example inputs
    """

    def __init__(self, names: Mapping[str, str], hints: Mapping[str, int]) -> None:
        self.names = dict(names)
        self.hints = dict(hints)
        self._defined: dict[str, Dim] = {}
        self._ranges: Mapping[str, Range] | None = None

    def within(self, ranges: Mapping[str, Range]) -> None:
        """From now on dimensions need to be right for these sizes only, and may be simpler."""
        self._ranges = ranges

    def dim(self, size: Any) -> Dim:
        """An int or SymInt as a dimension. Raises CaptureError for what the IR cannot express."""
        if isinstance(size, int):
            return int(size)
        dim = dims.normal(self.expr(size.node.expr))
        return dim if self._ranges is None else decided(dim, self._ranges)

    def dim_of(self, symbol: sympy.Symbol) -> Dim:
        """What one of torch's symbols stands for."""
        return dims.normal(self._symbol(symbol))

    def shape(self, shape: Any) -> tuple[Dim, ...]:
        return tuple(self.dim(size) for size in shape)

    def hint(self, dim: Dim) -> int:
        """The value of a dimension for the example inputs."""
        return dims.evaluate(dim, self.hints)

    def knows(self, symbol: str) -> bool:
        """Whether torch's symbol is a named dimension or follows from some."""
        return symbol in self.names or symbol in self._defined

    def define(self, symbol: str, value: Dim) -> None:
        """torch's symbol always has this value."""
        self._defined[symbol] = value

    def expressible(self, size: Any) -> bool:
        """Whether all symbols in an int or SymInt are known."""
        return isinstance(size, int) or all(self.knows(s.name) for s in size.node.expr.free_symbols)

    # -------------------------------------------------------------- integers
    def expr(self, e: sympy.Expr) -> sympy.Expr:
        """torch's integer expression over the user's names."""
        if isinstance(e, sympy.Symbol):
            return self._symbol(e)
        if e.is_Integer:
            return sympy.Integer(int(e))
        name = _kind(e)
        if name in _ROUNDING:
            return sympy.sympify(_ROUNDING[name](*self.ratio(e.args[0])))
        rule = _INTEGER.get(name)
        if rule is None:
            raise _inexpressible(e)
        if name == "Where":
            return rule(self.condition(e.args[0]), *(self.expr(a) for a in e.args[1:]))
        return rule(*(self.expr(a) for a in e.args))

    def _symbol(self, e: sympy.Symbol) -> sympy.Expr:
        if e.name in self._defined:
            return sympy.sympify(self._defined[e.name])
        if e.name not in self.names:
            raise CaptureError(
                "capture",
                f"a size that depends on the values of a tensor ({e.name})",
                "shapes that follow from the shapes of the inputs",
                "replace boolean indexing, nonzero, unique, .item() by masking or a fixed size",
            )
        return dims.symbol(self.names[e.name])

    def condition(self, e: Any) -> sympy.Expr:
        """A comparison of sizes as 1 (true) or 0."""
        if e in (sympy.true, sympy.false):
            return sympy.Integer(1 if e == sympy.true else 0)
        rule = _CONDITION.get(_kind(e))
        if rule is None:
            raise _inexpressible(e)
        if isinstance(e, sympy.Not | sympy.And | sympy.Or):
            return rule(*(self.condition(a) for a in e.args))
        return rule(self.expr(e.args[0]), self.expr(e.args[1]))

    # -------------------------------------------------------------- floats
    def ratio(self, e: sympy.Expr) -> tuple[Dim, Dim]:
        """A float expression as numerator and denominator, exact but for literals such as 0.7."""
        name = _kind(e)
        if isinstance(e, sympy.Float):
            fraction = Fraction(float(e)).limit_denominator(MAX_DENOMINATOR)
            return fraction.numerator, fraction.denominator
        if name == "ToFloat" or e.is_integer:
            return dims.normal(self.expr(e.args[0] if name == "ToFloat" else e)), 1
        if name in ("Mul", "Add", "IntTrueDiv", "FloatTrueDiv"):
            parts = [self.ratio(a) for a in e.args]
            total = parts[0]
            for part in parts[1:]:
                total = _RATIO[name](total, part)
            return total
        raise _inexpressible(e)

    def data(self, b: Builder, number: Dim | SizeFloat, dtype: DType) -> Value:
        """Nodes that compute a size, or a float made of sizes, as a rank-0 value."""
        if isinstance(number, SizeFloat):
            value = self._float(b, number.expr)
            return value if value.type.dtype is dtype else _value(b.cast(value, dtype=dtype))
        if isinstance(number, int):
            return b.scalar(number, dtype)
        if dtype.is_int:
            return _value(b.dim_value(dim=number, dtype=dtype))
        return _value(b.cast(b.dim_value(dim=number), dtype=dtype))

    def _float(self, b: Builder, e: sympy.Expr) -> Value:
        name = _kind(e)
        if e.is_Float or e.is_Rational:
            return b.scalar(float(e), DType.F32)
        if name == "ToFloat" or e.is_integer:
            inner = e.args[0] if name == "ToFloat" else e
            return self.data(b, dims.normal(self.expr(inner)), DType.F32)
        if name.startswith("OpaqueUnaryFn_"):
            function = name.removeprefix("OpaqueUnaryFn_")
            if function in ("sqrt", "exp", "log", "sin", "cos", "tanh"):
                return _value(getattr(b, function)(self._float(b, e.args[0])))
        elif name in _FLOAT:
            value, *rest = [self._float(b, a) for a in e.args]
            for other in rest:
                value = getattr(b, _FLOAT[name])(value, other)
            return value
        raise _inexpressible(e)


def _kind(e: Any) -> str:
    return type(e).__name__


def _value(result: Any) -> Value:
    assert isinstance(result, Value)
    return result


def _inexpressible(e: Any) -> CaptureError:
    need = "+, -, *, //, %, Min, Max and rounding of ratios over named dimensions"
    return CaptureError("capture", f"the size {e}", need, "compute it without other functions")


def _round_half_even(n: Dim, d: Dim) -> Dim:
    doubled = dims.floordiv(2 * n + d, 2 * d)
    tie = 1 - sympy.Min(1, sympy.Mod(sympy.sympify(2 * n + d), sympy.sympify(2 * d)))
    return dims.normal(doubled - tie * sympy.Mod(sympy.sympify(doubled), 2))


def _maximum(*args: Any) -> sympy.Expr:
    return sympy.Max(*args)


_ROUNDING: dict[str, Callable[[Dim, Dim], Dim]] = {
    "FloorToInt": dims.floordiv,
    "TruncToInt": dims.floordiv,  # sizes are not negative
    "CeilToInt": lambda n, d: dims.floordiv(n + d - 1, d),
    "RoundToInt": _round_half_even,
}

_INTEGER: dict[str, Callable[..., sympy.Expr]] = {
    "Add": lambda *a: sympy.Add(*a),
    "Mul": lambda *a: sympy.Mul(*a),
    "Pow": lambda a, n: a**n,
    "PowByNatural": lambda a, n: a**n,
    "FloorDiv": lambda a, b: sympy.sympify(dims.floordiv(a, b)),
    "CleanDiv": lambda a, b: sympy.sympify(dims.floordiv(a, b)),
    "CeilDiv": lambda a, b: sympy.sympify(dims.floordiv(a + b - 1, b)),
    "Mod": lambda a, b: sympy.Mod(a, b),
    "PythonMod": lambda a, b: sympy.Mod(a, b),
    "ModularIndexing": lambda a, b, m: sympy.Mod(sympy.sympify(dims.floordiv(a, b)), m),
    "Max": _maximum,
    "Min": lambda *a: sympy.Min(*a),
    "Identity": lambda a: a,
    "Where": lambda c, a, b: c * a + (1 - c) * b,
}

_CONDITION: dict[str, Callable[..., sympy.Expr]] = {
    "StrictLessThan": lambda a, b: sympy.Min(1, sympy.Max(0, b - a)),
    "LessThan": lambda a, b: sympy.Min(1, sympy.Max(0, b - a + 1)),
    "StrictGreaterThan": lambda a, b: sympy.Min(1, sympy.Max(0, a - b)),
    "GreaterThan": lambda a, b: sympy.Min(1, sympy.Max(0, a - b + 1)),
    "Equality": lambda a, b: 1 - sympy.Min(1, sympy.Max(a - b, b - a)),
    "Unequality": lambda a, b: sympy.Min(1, sympy.Max(a - b, b - a)),
    "Not": lambda a: 1 - a,
    "And": lambda *a: sympy.Min(*a),
    "Or": _maximum,
}

_Ratio = tuple[Dim, Dim]

_RATIO: dict[str, Callable[[_Ratio, _Ratio], _Ratio]] = {
    "Mul": lambda a, b: (a[0] * b[0], a[1] * b[1]),
    "Add": lambda a, b: (a[0] * b[1] + b[0] * a[1], a[1] * b[1]),
    "IntTrueDiv": lambda a, b: (a[0] * b[1], a[1] * b[0]),
    "FloatTrueDiv": lambda a, b: (a[0] * b[1], a[1] * b[0]),
}

_FLOAT = {
    "Add": "add",
    "Mul": "mul",
    "IntTrueDiv": "div",
    "FloatTrueDiv": "div",
    "FloatPow": "pow",
    "Pow": "pow",
    "Max": "maximum",
    "Min": "minimum",
}
