"""Which constants are weights: found by how nodes use them, never by names or classes of models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from edgec.ir import Dense, Node, Program

Operands = Iterable[tuple[int, int]]
"""(index of the operand that is a weight, axis of its output channels)."""


@dataclass(frozen=True)
class Weight:
    """A constant that is the weight of some node.

    ops    names of the ops that use it as their weight
    axis   the axis of output channels, along which rows are scaled; the others are reduced
    """

    name: str
    ops: frozenset[str]
    axis: int

    @property
    def is_table(self) -> bool:
        """Whether rows of it are gathered: an embedding, perhaps shared with the output layer."""
        return "gather" in self.ops


def _fixed(*operands: tuple[int, int]) -> Callable[[Node], Operands]:
    return lambda node: operands


def _after(states: int) -> Callable[[Node], Operands]:
    """All operands of a recurrent op behind x and its states."""
    return lambda node: ((i, 0) for i in range(1 + states, len(node.inputs)))


def _table(node: Node) -> Operands:
    op: Any = node.op
    return ((0, 0),) if op.axis == 0 else ()


# How each op uses weights. A gather reads whole rows: those of the output layer that shares them.
_OPERANDS: Mapping[str, Callable[[Node], Operands]] = {
    "linear": _fixed((1, 0)),
    "conv": _fixed((1, 0)),
    "conv_transpose": _fixed((1, 1)),
    "matmul": _fixed((1, 1), (0, 0)),
    "gather": _table,
    "lstm": _after(2),
    "gru": _after(1),
    "rnn": _after(1),
}
# A matmul with a stack of matrices, and the biases of an lstm, are no weights in this sense.
_RANKS: Mapping[str, range] = {
    "linear": range(2, 3),
    "matmul": range(2, 3),
    "lstm": range(2, 3),
    "gru": range(2, 3),
    "rnn": range(2, 3),
}
_ANY_RANK = range(2, 9)


def find_weights(program: Program) -> dict[str, Weight]:
    """The weights of all functions by name, in the order of the pool; floats of two axes or more.

    Where two uses disagree about the axis of the rows, a gather's or linear's wins, then the lower.
    """
    uses: dict[str, list[tuple[str, int]]] = {}
    for graph in program.graphs.values():
        for node in graph.nodes:
            for name, axis in _weights_of(node, program):
                uses.setdefault(name, []).append((node.op.name, axis))
    found = {}
    for name in program.constants:
        if name in uses:
            first = min(uses[name], key=lambda use: (use[0] not in ("gather", "linear"), use[1]))
            found[name] = Weight(name, frozenset(op for op, _ in uses[name]), first[1])
    return found


def _weights_of(node: Node, program: Program) -> Iterator[tuple[str, int]]:
    operands = _OPERANDS.get(node.op.name)
    for index, axis in operands(node) if operands else ():
        ref = node.inputs[index] if index < len(node.inputs) else None
        if ref is None or not ref.startswith("@"):
            continue
        kind = program.constants[ref[1:]].type
        if kind.dtype.is_float and kind.rank in _RANKS.get(node.op.name, _ANY_RANK):
            yield ref[1:], axis


def find_other_matrices(program: Program, min_numel: int) -> dict[str, list[str]]:
    """Dense floats of two axes or more that are no such weights, with the ops that use them."""
    weights = find_weights(program)
    users: dict[str, set[str]] = {}
    for graph in program.graphs.values():
        for ref, nodes in graph.users().items():
            users.setdefault(ref, set()).update(n.op.name for n in nodes)
    return {
        name: sorted(users[constant.ref])
        for name, constant in program.constants.items()
        if constant.ref in users and name not in weights and isinstance(constant.encoding, Dense)
        if constant.type.dtype.is_float and constant.type.rank >= 2
        if constant.encoding.numel >= min_numel
    }


@dataclass(frozen=True)
class Selection:
    """Constants by patterns of names (`*`, `?`, `[...]`): any of `include`, none of `skip`."""

    include: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __contains__(self, name: object) -> bool:
        wanted = not self.include or any(fnmatchcase(str(name), p) for p in self.include)
        return wanted and not any(fnmatchcase(str(name), p) for p in self.skip)

    def idle(self, names: Iterable[str]) -> list[str]:
        """Patterns that match none of `names`: misspelt, most likely."""
        known = list(names)
        patterns = (*self.include, *self.skip)
        return [p for p in patterns if not any(fnmatchcase(n, p) for n in known)]

    def idle_notes(self, names: Iterable[str]) -> list[str]:
        """What a pass says of them."""
        return [f"pattern {p!r} matches no constant" for p in self.idle(names)]
