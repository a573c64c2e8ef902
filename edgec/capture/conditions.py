"""Conditions on sizes under which an export holds.

An export may follow the side of a branch that the example took, or need `seq % 4 == 0` for a
reshape, which torch puts off until run time. A program has no assertions: what holds over the whole
ranges of the dimensions is dropped, what leaves an interval around the example narrows the range of
its dimension. What is left is refused where a branch was taken for the sizes of one dimension,
since others would get wrong values in silence; and told, in the program's metadata and in every
release, where it was only required (a reshape fails by itself) or relates several dimensions.

Only what a module's code decides counts. Inside of its operators torch decides on sizes too, mostly
on strides and memory formats, which no value depends on: batch 1 must not be lost to them.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import sympy
import torch
from torch.fx.experimental.sym_node import SymNode

from edgec.capture.symbols import Symbols
from edgec.errors import CaptureError
from edgec.ir import dims
from edgec.ir.graph import Range

_EVERY = 4096  # sizes of one dimension that are all tried, on both sides of the example's
_TOGETHER = 20_000  # combinations of sizes that are all tried
_SAMPLES = 24  # sizes of each dimension that are tried together with those of others
_TORCH = str(Path(torch.__file__).parent)
_MACHINERY = (f"{_TORCH}/fx/", f"{_TORCH}/__init__.py", f"{_TORCH}/utils/")
_CHECKED_AGAIN = "TensorCompare.cpp"  # where the assertions of a graph, torch's own included, run
_LAYERS = f"{_TORCH}/nn/"  # modules and functions in Python, which read as a user's

Decision: TypeAlias = tuple[SymNode, bool, bool]
"""An expression, the value that it was taken for, and whether a branch was: else it is required."""
Holds: TypeAlias = Callable[[Mapping[str, int]], bool]


# ------------------------------------------------------------------ recording
@contextlib.contextmanager
def recorded() -> Iterator[list[Decision]]:
    """Within the block, conditions on sizes that code outside of torch's operators decides or
    requires are collected; each is true for the example."""
    found: list[Decision] = []
    decide, require, fix = SymNode.guard_bool, SymNode.expect_true, SymNode.guard_int

    def guard_bool(self: Any, file: str, line: int) -> bool:
        answer: bool = decide(self, file, line)
        # a file is named where C++ asks; Python's `if` names none
        if not file and _is_symbolic(self) and _in_users_code():
            found.append((self, answer, True))
        return answer

    def expect_true(self: Any, file: str, line: int) -> bool:
        if _is_symbolic(self) and not file.endswith(_CHECKED_AGAIN):
            found.append((self, True, False))
        answer: bool = require(self, file, line)
        return answer

    def guard_int(self: Any, file: str, line: int) -> int:
        answer: int = fix(self, file, line)
        if not file and _is_symbolic(self) and _in_users_code():  # `int(size * 1.5)`
            found.append((self.eq(self.wrap_int(answer)), True, True))
        return answer

    ours, torchs = (guard_bool, expect_true, guard_int), (decide, require, fix)
    _replace(ours)
    try:
        yield found
    finally:
        _replace(torchs)


def _replace(functions: tuple[Any, Any, Any]) -> None:
    names = ("guard_bool", "expect_true", "guard_int")
    for name, function in zip(names, functions, strict=True):
        setattr(SymNode, name, function)


def _is_symbolic(node: Any) -> bool:
    return node.shape_env is not None and bool(node.expr.free_symbols)


def _in_users_code() -> bool:
    """Whether the innermost frame that is no machinery of symbolic sizes is outside of torch."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_MACHINERY):
        frame = frame.f_back
    file = frame.f_code.co_filename
    return file.startswith(_LAYERS) or not file.startswith((_TORCH, "<eval_with_key"))


# ------------------------------------------------------------------ ranges
def apply_conditions(
    found: Sequence[Decision], symbols: Symbols, ranges: Mapping[str, Range]
) -> tuple[dict[str, Range], list[str]]:
    """The ranges of the dimensions within which the recorded conditions hold, and those conditions
    that no ranges express but the caller has to see to.

    Raises CaptureError that lists all branches on one dimension which no interval expresses.
    """
    narrowed = dict(ranges)
    refused: dict[str, None] = {}
    told: dict[str, None] = {}
    for text, names, holds, branch in _conditions(found, symbols):
        if len(names) > 1:
            ok = all(map(holds, _grid(names, narrowed, symbols)))
        else:
            ok = _narrow(names[0], holds, narrowed, symbols.hints, "!=" in text)
        if not ok:
            (refused if branch and len(names) == 1 else told)[text] = None
    if refused:
        got = f"sizes with conditions, {'; '.join(refused)}"
        do = 'state them in dynamic_shapes, e.g. as 4*Dim("quarter") or with a tighter max'
        raise CaptureError("capture", got, "conditions that hold over the whole ranges", do)
    return narrowed, [text for text in told if text not in refused]


def with_conditions(error: CaptureError, told: Sequence[str]) -> CaptureError:
    """The error of a graph that cannot be written down, perhaps since it needs these conditions."""
    got = f"{error.got}; and sizes with conditions, {'; '.join(told)}"
    do = 'or state the conditions in dynamic_shapes, e.g. as 4*Dim("quarter") or a tighter max'
    return CaptureError(error.where, got, error.need, "; ".join(filter(None, (error.do, do))))


def _conditions(
    found: Sequence[Decision], symbols: Symbols
) -> Iterator[tuple[str, list[str], Holds, bool]]:
    """Text, named dimensions and test of each condition that sizes decide, and whether a branch
    hangs on it."""
    branches: dict[sympy.Basic, bool] = {}
    for node, value, branch in found:
        condition = _equation(node, value)
        branches[condition] = branches.get(condition, False) or branch
    for condition, branch in branches.items():
        if not all(symbols.knows(s.name) for s in condition.free_symbols):
            continue  # on values: torch has refused it, or a size that cannot be expressed will be
        used = sorted(dims.names([symbols.dim_of(s) for s in condition.free_symbols]))
        if not used:
            continue
        try:
            text, holds = _text(condition, symbols), _test(condition, symbols)
        except CaptureError:  # of functions that no dimension is made of, such as a square root
            text, holds = f"{condition} (in torch's names)", _unknown
        yield text, used, holds, branch


def _unknown(sizes: Mapping[str, int]) -> bool:
    return False


def _equation(node: SymNode, value: bool) -> sympy.Basic:
    """The condition that an expression has this value; torch has replaced equal symbols by now.

    A size counts as itself where it is compared as a float.
    """
    condition = node.expr if value else sympy.Not(node.expr)
    return condition.replace(_is_float_of_symbol, lambda e: e.args[0])


def _is_float_of_symbol(e: Any) -> bool:
    return type(e).__name__ == "ToFloat" and isinstance(e.args[0], sympy.Symbol)


def _test(condition: sympy.Basic, symbols: Symbols) -> Holds:
    """Whether a condition holds for given sizes; empty ones by which it
    divides say nothing about it."""
    value = dims.normal(symbols.condition(condition))

    def holds(sizes: Mapping[str, int]) -> bool:
        try:
            return dims.evaluate(value, sizes) != 0
        except ZeroDivisionError:
            return True

    return holds


def _text(condition: Any, symbols: Symbols) -> str:
    """A condition in the user's names: `Eq(seq%4, 0)` reads `seq%4 == 0`."""
    signs = {"Equality": "==", "Unequality": "!=", "Or": "or", "And": "and"}
    name = type(condition).__name__
    if name in ("Or", "And"):
        return f" {signs[name]} ".join(sorted(_text(a, symbols) for a in condition.args))
    sign = signs.get(name, getattr(condition, "rel_op", ""))
    if not sign:
        return str(condition)
    left, right = (dims.show(dims.normal(symbols.expr(a))) for a in condition.args)
    return f"{left} {sign} {right}"


def _narrow(
    name: str,
    holds: Holds,
    ranges: dict[str, Range],
    hints: Mapping[str, int],
    any_interval: bool,
) -> bool:
    """Narrow the range of one dimension to where the condition holds; whether that says all.

    any_interval   the sizes on the other side of a gap may be given up: the example took one
                   branch
    """
    low, hint, high = ranges[name].min, hints[name], ranges[name].max
    below = _first_wrong(_down(low, hint), low, lambda n: holds({name: n}))
    above = _first_wrong(_up(hint, high), high, lambda n: holds({name: n}))
    inside = Range(low if below is None else below + 1, high if above is None else above - 1)
    if not holds({name: hint}):
        return False
    outside = [n for n in _tried(low, hint, high) if n not in inside and holds({name: n})]
    if (outside and not any_interval) or (inside.min == inside.max and low < high):
        return False  # a dimension of one size is none
    ranges[name] = inside
    return True


def _first_wrong(near: Sequence[int], end: int, holds: Callable[[int], bool]) -> int | None:
    """The size nearest to the example, that is the first of `near`, for which a condition does not
    hold; None where there is none up to `end`.

    Behind `near` sizes at growing distances are tried, and halving leads from one that is wrong to
    where the condition ends.
    """
    for n in near:
        if not holds(n):
            return n
    right, sign = near[-1], 1 if end > near[-1] else -1
    steps = (near[-1] + sign * 2**k for k in range(abs(end - near[-1]).bit_length()))
    for n in (*steps, end):
        if not holds(n):
            wrong: int = n
            while abs(wrong - right) > 1:
                middle = (wrong + right) // 2
                right, wrong = (middle, wrong) if holds(middle) else (right, middle)
            return wrong
        right = n
    return None


def _down(low: int, hint: int) -> Sequence[int]:
    return range(hint, max(low, hint - _EVERY) - 1, -1)


def _up(hint: int, high: int) -> Sequence[int]:
    return range(hint, min(high, hint + _EVERY) + 1)


def _tried(low: int, hint: int, high: int) -> list[int]:
    return [*_down(low, hint), *_up(hint, high)]


def _grid(
    names: list[str], ranges: Mapping[str, Range], symbols: Symbols
) -> Iterator[dict[str, int]]:
    """Sizes for several dimensions: all where they are not too many, else all combinations of
    their bounds, of small ones and the example's."""
    spans = [range(ranges[n].min, ranges[n].max + 1) for n in names]
    if math.prod(map(len, spans)) <= _TOGETHER:
        yield from (dict(zip(names, sizes, strict=True)) for sizes in itertools.product(*spans))
        return
    columns = []
    for name in names:
        low, high, hint = ranges[name].min, ranges[name].max, symbols.hints[name]
        near = [*range(low, low + 8), *range(hint - 3, hint + 4), 64, 101, 640, high - 1, high]
        columns.append(sorted({n for n in near if low <= n <= high})[:_SAMPLES])
    for sizes in itertools.islice(itertools.product(*columns), _SAMPLES**2):
        yield dict(zip(names, sizes, strict=True))
