"""Choosing and applying the rule of one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgec.capture.call import Call, Complex
from edgec.capture.registry import COMPLEX_RULES, RULES
from edgec.ir.graph import Value

# Families whose rules move elements only: they act on both parts of a complex value alike.
_MOVES = ("movement", "selection", "indexing", "padding")
_LINEAR = ("aten.neg.default", "aten.sum.default", "aten.sum.dim_IntList", "aten.mean.dim")


def apply(call: Call, arguments: list[Any]) -> Any:
    """The results of a call. Raises UnsupportedCall for a form that its rule does not cover."""
    rule = RULES.get(call.overload)
    if not any(map(_is_complex, arguments)):
        if rule is None:
            call.fail("a real operand where only complex ones are known")
        return rule(call, *arguments)
    if call.overload in COMPLEX_RULES:
        return COMPLEX_RULES[call.overload](call, *arguments)
    if rule is None or not (rule.__module__.endswith(_MOVES) or call.overload in _LINEAR):
        call.fail("complex numbers; compute with real and imaginary parts")
    return _by_parts(call, rule, arguments)


def _is_complex(argument: Any) -> bool:
    if isinstance(argument, list):
        return any(map(_is_complex, argument))
    return isinstance(argument, Complex)


def _by_parts(call: Call, rule: Callable[..., Any], arguments: list[Any]) -> Any:
    def part(argument: Any, name: str) -> Any:
        if isinstance(argument, list):
            return [part(a, name) for a in argument]
        return getattr(argument, name) if isinstance(argument, Complex) else argument

    re, im = (rule(call, *(part(a, name) for a in arguments)) for name in ("re", "im"))
    if isinstance(re, Value):
        return Complex(re, im)
    return tuple(Complex(a, b) for a, b in zip(re, im, strict=True))
