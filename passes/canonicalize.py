"""canonicalize: one form for what can be written in several ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgec.context import NOTHING, Context
from edgec.ir import Exactness, Program
from edgec.ir.rewrite import rewrite
from edgec.passes.rules import arithmetic, masks, parts, views
from edgec.transform import Pass, PassResult

RULES = (*views.RULES, *parts.RULES, *arithmetic.RULES, *masks.RULES)


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Drop what changes nothing and bring views, masks and logic to one form.

    Given    %a = reshape(%x) {shape=[4, 2]}    %b = reshape(%a) {shape=[8]}    %c = add(%b, @zero)
    Result   %c = reshape(%x) {shape=[8]}

    Views and parts: those that do nothing go, views of views become one, slices of a concat become
    its operands. Broadcasting ops lose the `expand` before them. Masks: an index by two iotas
    becomes a view, `iota >= 0` becomes True, `x and True` x, a mask of 0 and minus infinity a bool
    mask of attention. A logarithm of zero is bounded before it is cast to an integer.

    Keeps    names of values and constants
    Effect   EXACT, up to the sign of zero

    every_query_sees   treat finfo.min in a mask like minus infinity: the same but for queries that
             see no key at all, whose result becomes zero instead of the mean of all values
    """

    name: ClassVar[str] = "canonicalize"
    effect: ClassVar[Exactness] = Exactness.EXACT
    every_query_sees: bool = False

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        rules = (*RULES, *masks.SEEING_RULES) if self.every_query_sees else RULES
        result = rewrite(program, rules)
        return PassResult(result.program, bool(result.fired))
