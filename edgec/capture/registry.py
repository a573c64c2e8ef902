"""The table of rules: one small function per ATen overload.

A rule takes the call's context and every argument of the overload's schema, in the schema's order,
defaults filled in:

    @aten("softmax.int")
    def softmax(c: Call, x: Value, axis: int, dtype: torch.dtype | None) -> Value: ...

Tensors arrive as Values, symbolic sizes as dimensions. The result is a Value, a tuple of them for
an overload with several results, or None for a result that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Rule = Callable[..., Any]
F = TypeVar("F", bound=Rule)

RULES: dict[str, Rule] = {}
COMPLEX_RULES: dict[str, Rule] = {}  # for calls with a complex operand


class UnsupportedCall(Exception):
    """A rule does not cover this form of its overload; the text says which and what to do."""


def aten(*overloads: str) -> Callable[[F], F]:
    """Register a rule for overloads of aten: `softmax.int`; without a dot, `.default` is meant."""
    return rule(*(f"aten.{o}" if "." in o else f"aten.{o}.default" for o in overloads))


def complex_aten(*overloads: str) -> Callable[[F], F]:
    """Register a rule for overloads of aten where an operand is complex (a pair of real values)."""

    def register(function: F) -> F:
        for overload in overloads:
            target = f"aten.{overload}" if "." in overload else f"aten.{overload}.default"
            COMPLEX_RULES[target] = function
        return function

    return register


def rule(*targets: str) -> Callable[[F], F]:
    """Register a rule for operators by their full names, such as `edgec.lstm.default`."""

    def register(function: F) -> F:
        for target in targets:
            if target in RULES:
                raise ValueError(f"two rules for {target}")
            RULES[target] = function
        return function

    return register


def has_rule(target: str) -> bool:
    return target in RULES or target in COMPLEX_RULES


def schema_arguments(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """All arguments of a call in the order of the operator's schema."""
    bound = []
    for i, argument in enumerate(target._schema.arguments):
        if i < len(args):
            bound.append(args[i])
        else:
            bound.append(kwargs.get(argument.name, argument.default_value))
    return bound
