"""Dimensions as C expressions over `int64_t` variables of their names."""

from __future__ import annotations

import re
from typing import Any

import sympy

from edgec.ir import dims
from edgec.ir.dims import Dim

#: What expressions call, for the generated source; a model needs few of them.
PREAMBLE = """\
#define MAYBE_UNUSED __attribute__((unused))
MAYBE_UNUSED static inline int64_t floor_div(int64_t a, int64_t b) {
  int64_t q = a / b;
  return q * b > a ? q - 1 : q;
}
MAYBE_UNUSED static inline int64_t floor_mod(int64_t a, int64_t b) {
  return a - floor_div(a, b) * b;
}
MAYBE_UNUSED static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
MAYBE_UNUSED static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
"""

_CALLS = {"FloorDiv": "floor_div", "Mod": "floor_mod", "Min": "least", "Max": "most"}


def identifier(name: str) -> str:
    """A C identifier for a name of the IR; different names that are alike may give the same one."""
    cleaned = re.sub(r"\W", "_", name)
    return f"_{cleaned}" if not cleaned or cleaned[0].isdigit() else cleaned


def variable(name: str) -> str:
    """The C variable that holds a named dimension."""
    return f"n_{identifier(name)}"


def c_expression(dim: Dim) -> str:
    """C text of a dimension; sums and products are parenthesised."""
    dim = dims.normal(dim)
    return str(dim) if isinstance(dim, int) else _text(dim)


def _text(e: Any) -> str:
    if e.is_Integer:
        return str(int(e))
    if isinstance(e, sympy.Symbol):
        return variable(e.name)
    if isinstance(e, sympy.Add | sympy.Mul):
        sign = " + " if isinstance(e, sympy.Add) else " * "
        return "(" + sign.join(sorted(map(_text, e.args), key=lambda t: (t[0] == "-", t))) + ")"
    if isinstance(e, sympy.Pow):
        return "(" + " * ".join([_text(e.args[0])] * int(e.args[1])) + ")"
    name = _CALLS[e.func.__name__]
    text = _text(e.args[0])
    for other in e.args[1:]:
        text = f"{name}({text}, {_text(other)})"
    return text
