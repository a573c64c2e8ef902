"""Patterns from text: `window(256) + global(64) + random(3, 64, 7)`, with `& causal()` at the end.

The grammar is Python's. Spaces, parentheses and names of fields are free when read;
`str(pattern)` is the one spelling that is written.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
from typing import Any

from edgec.errors import EdgecError, FormatError
from edgec.patterns.parts import PARTS
from edgec.patterns.pattern import Pattern

MAX_TEXT = 1000  # characters; no model has a longer one, and a hostile text may nest for ever
# `global` is a keyword of Python
_NAMES = {("global_" if name == "global" else name): part for name, part in PARTS.items()}


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> Pattern:
    """The pattern that `text` stands for.

    Raises FormatError for what is no pattern, TypeCheckError for fields out of range.
    """
    where = "pattern"
    if len(text) > MAX_TEXT:
        raise FormatError(where, f"{len(text)} characters", f"at most {MAX_TEXT}")
    try:
        tree = ast.parse(text.replace("global(", "global_(").strip(), mode="eval").body
        return _read(tree, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormatError(where, repr(text[:80]), _need()) from error


def _need() -> str:
    return f"parts joined by +: {', '.join(sorted(PARTS))}"


def _read(tree: ast.expr, text: str) -> Pattern:
    match tree:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _read(left, text) + _read(right, text)
        case ast.BinOp(left=left, op=ast.BitAnd(), right=right):
            return _read(left, text) & _read(right, text)
        case ast.Call(func=ast.Name(id=name)) if name in _NAMES:
            return _read_part(tree, name, text)
    raise FormatError("pattern", f"{ast.unparse(tree)[:80]!r} in {text[:80]!r}", _need())


def _read_part(call: ast.Call, name: str, text: str) -> Pattern:
    try:
        values = [_number(a) for a in call.args]
        named = {str(k.arg): _number(k.value) for k in call.keywords}
        if len(named) < len(call.keywords):
            raise ValueError("a field given twice")
        return _NAMES[name](*values, **named)
    except EdgecError:
        raise
    except (TypeError, ValueError) as error:
        shown = ast.unparse(call).replace("global_(", "global(")[:80]
        signature = ", ".join(f.name for f in dataclasses.fields(_NAMES[name]))
        need = f"{_NAMES[name].text_name}({signature}) of integers"
        raise FormatError("pattern", f"{shown!r} in {text[:80]!r}", need) from error


def _number(tree: ast.expr) -> Any:
    """An integer, or True or False; everything else raises ValueError."""
    match tree:
        case ast.Constant(value=bool() | int() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as value)):
            return -value
    raise ValueError(ast.unparse(tree))
