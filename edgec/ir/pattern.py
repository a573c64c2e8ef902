"""Patterns over graphs: the terms that a rewrite rule looks for, and how they are matched.

A pattern is a plain function of a `Pattern` and named variables; its body reads like the code that
the pattern stands for:

    def double_permute(p: Pattern, x: Var, inner: Var, outer: Var) -> Term:
        return p.permute(p.permute(x, order=inner), order=outer)

A variable in the place of an operand stands for any value, in the place of an attribute for any
value of that attribute; used twice it has to stand for the same thing. So does a term that is used
twice.
Attributes that are not named may have any value; operands that are not named have to be absent.

Operands of commutative ops match in either order. Matching backtracks over those orders and over
`either`.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgec.errors import VerifyError
from edgec.ir.encoding import Constant
from edgec.ir.graph import Node
from edgec.ir.op import OPS

COMMUTATIVE = frozenset(
    ["add", "mul", "maximum", "minimum", "eq", "ne", "logical_and", "logical_or", "logical_xor"]
)


class Term:
    """Part of a pattern: what an operand may look like."""


@dataclass(frozen=True, eq=False)
class Var(Term):
    """Anything; the replacement gets it under this name."""

    name: str


@dataclass(frozen=True, eq=False)
class Wild(Term):
    """Anything that the replacement does not need."""


@dataclass(frozen=True, eq=False)
class Call(Term):
    """The result of `op` on operands that match.

    operands     None: any operands; a replacement finds them in the matched node
    attributes   required value of an attribute, or a variable
    whole        variable for the op with all its attributes
    """

    op: str
    operands: tuple[Term, ...] | None
    attributes: Mapping[str, Any]
    whole: Var | None


@dataclass(frozen=True, eq=False)
class Scalar(Term):
    """A number: a constant of one element, or a `full`.

    value       what it has to be, up to the relative `tolerance`, or a variable for any number
    any_shape   of any shape, which may broadcast the other operands; otherwise of rank 0
    """

    value: float | Var
    tolerance: float
    any_shape: bool


@dataclass(frozen=True, eq=False)
class Stored(Term):
    """A constant of the pool; the variable gets it as a Constant."""

    var: Var


@dataclass(frozen=True, eq=False)
class Absent(Term):
    """An optional operand: given or not. The variable is None where it is not."""

    var: Var


@dataclass(frozen=True, eq=False)
class Either(Term):
    """The first of several terms that leads to a match."""

    options: tuple[Term, ...]


class Pattern:
    """Writes terms: `p.add(x, y)` is a term for the op of that name, `_op=var` captures the op."""

    def wild(self) -> Term:
        return Wild()

    def scalar(self, value: float | Var, tolerance: float = 0.0) -> Term:
        return Scalar(value, tolerance, False)

    def uniform(self, value: float | Var) -> Term:
        return Scalar(value, 0.0, True)

    def constant(self, var: Var) -> Term:
        return Stored(var)

    def optional(self, var: Var) -> Term:
        return Absent(var)

    def either(self, *options: Term) -> Term:
        return Either(options)

    def any_of(self, *names: str) -> Term:
        """One of several ops, on any operands."""
        return Either(tuple(Call(n, None, {}, None) for n in names if self._known(n)))

    def _known(self, name: str) -> bool:
        if name not in OPS:
            raise AttributeError(f"no op named {name}")
        return True

    def __getattr__(self, name: str) -> Callable[..., Term]:
        self._known(name)

        def call(*operands: Term, _op: Var | None = None, **attributes: Any) -> Term:
            known = {f.name for f in dataclasses.fields(OPS[name])}
            if not attributes.keys() <= known:
                got = ", ".join(sorted(attributes.keys() - known))
                raise VerifyError(
                    "pattern", f"attributes {got} of {name}", f"some of {sorted(known)}"
                )
            return Call(name, operands, attributes, _op)

        return call


def build(pattern: Callable[..., Term]) -> tuple[Term, frozenset[str]]:
    """The term that a pattern function writes, and the names of its variables."""
    names = list(inspect.signature(pattern).parameters)[1:]
    return pattern(Pattern(), *(Var(n) for n in names)), frozenset(names)


def root_ops(term: Term) -> frozenset[str]:
    """Names of the ops that a pattern's root can be. Raises VerifyError where it is no op."""
    match term:
        case Call():
            return frozenset([term.op])
        case Either():
            return frozenset().union(*(root_ops(o) for o in term.options))
    raise VerifyError("pattern", f"{type(term).__name__} at the root", "an op")


# ------------------------------------------------------------------ matching
class Ref(str):
    """Name of a value that a variable stands for, as opposed to an attribute that is a string."""


@dataclass(frozen=True)
class Match:
    """What the variables stand for (Refs, Constants, numbers, attributes) and the matched nodes."""

    bound: Mapping[str, Any]
    nodes: tuple[Node, ...]
    terms: Mapping[Term, str]

    def bind(self, name: str, value: Any) -> Match | None:
        if name in self.bound:
            return self if _equal(self.bound[name], value) else None
        return dataclasses.replace(self, bound={**self.bound, name: value})


def _equal(a: Any, b: Any) -> bool:
    """Equality that tells 1 from True and 1.0."""
    return type(a) is type(b) and bool(a == b)


@dataclass(frozen=True)
class Matcher:
    """Finds patterns in a graph.

    producers   the node behind each local value
    constants   the pool
    """

    producers: Mapping[str, Node]
    constants: Mapping[str, Constant]

    def matches(self, term: Term, root: Node) -> Iterator[Match]:
        """All ways in which `term` describes the result of `root`."""
        start = Match({}, (), {})
        match term:
            case Either():
                for option in term.options:
                    yield from self.matches(option, root)
            case Call():
                yield from self._call(term, root, start)

    def _operand(self, term: Term, name: str | None, found: Match) -> Iterator[Match]:
        match term:
            case Absent(var=var):
                yield from _one(found.bind(var.name, None if name is None else Ref(name)))
            case Either(options=options):
                for option in options:
                    yield from self._operand(option, name, found)
            case _ if name is None:
                return
            case Wild():
                yield found
            case Var():
                yield from _one(found.bind(term.name, Ref(name)))
            case Stored(var=var):
                if name.startswith("@"):
                    yield from _one(found.bind(var.name, self.constants[name[1:]]))
            case Scalar():
                yield from self._scalar(term, name, found)
            case Call():
                yield from self._interior(term, name, found)

    def _interior(self, term: Call, name: str, found: Match) -> Iterator[Match]:
        if term in found.terms:
            if found.terms[term] == name:
                yield found
            return
        node = self.producers.get(name)
        if node is not None and node.outputs[0].name == name:
            for made in self._call(term, node, found):
                yield dataclasses.replace(made, terms={**made.terms, term: name})

    def _call(self, term: Call, node: Node, found: Match) -> Iterator[Match]:
        if node.op.name != term.op:
            return
        here: Match | None = dataclasses.replace(found, nodes=(*found.nodes, node))
        for key, wanted in term.attributes.items():
            actual = getattr(node.op, key)
            if isinstance(wanted, Var):
                here = here and here.bind(wanted.name, actual)
            elif not _equal(actual, wanted):
                return
        if here is not None and term.whole is not None:
            here = here.bind(term.whole.name, node.op)
        if here is None:
            return
        if term.operands is None:
            yield here
            return
        inputs = list(node.inputs) + [None] * (len(term.operands) - len(node.inputs))
        if any(name is not None for name in inputs[len(term.operands) :]):
            return
        yield from self._all(term.operands, inputs, here)
        if term.op in COMMUTATIVE and inputs[0] != inputs[1]:
            yield from self._all(term.operands, inputs[::-1], here)

    def _all(
        self, terms: Sequence[Term], names: Sequence[str | None], found: Match
    ) -> Iterator[Match]:
        if not terms:
            yield found
            return
        for made in self._operand(terms[0], names[0], found):
            yield from self._all(terms[1:], names[1:], made)

    def _scalar(self, term: Scalar, name: str, found: Match) -> Iterator[Match]:
        value = self.scalar(name, term.any_shape)
        if value is None:
            return
        if isinstance(term.value, Var):
            yield from _one(found.bind(term.value.name, value))
        elif math.isclose(value, term.value, rel_tol=term.tolerance) or value == term.value:
            yield found

    def scalar(self, name: str, any_shape: bool = True) -> float | int | bool | None:
        """The number behind a constant of one element or a `full`; None for anything else."""
        if name.startswith("@"):
            constant = self.constants[name[1:]]
            proper = constant.type.numel == 1 and (any_shape or constant.type.rank == 0)
            return constant.encoding.decode().item() if proper else None
        node = self.producers.get(name)
        if node is None or node.op.name != "full" or not (any_shape or node.output.type.rank == 0):
            return None
        value: float | int | bool = getattr(node.op, "value")  # noqa: B009 - a field of that op
        return value


def _one(match: Match | None) -> Iterator[Match]:
    if match is not None:
        yield match
