"""Follows units through a program: every axis of every value and constant that has to shrink.

From one labelled axis (the heads of an attention, the inputs of a linear layer) labels spread over
the ties of the nodes that read or make the value, through all functions, until they end where a
product sums over them. On the way:

constants    a matrix that several nodes use is one constant: its units are those of all of them.
             Vectors (biases, norms, activations' slopes) are taken per use; nodes may share equal
             ones without having anything to do with each other.
signature    a state's input and output have the same units, and so has the output of one function
             that is the input of another by name (`encode` gives what `step` takes).
cuts         where an elementwise operand or a mask cannot give up its units (an input, a table that
             other layers read) it keeps them, and those that stay are gathered from it.

After Fang et al. 2023, arXiv:2301.12900, whose groups are of layers; here they are of axes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from edgec.ir import Dense, Node, Program
from edgec.ir.graph import Graph
from edgec.passes.structure.couplings import is_soft, reached
from edgec.passes.structure.labels import Blocked, Labels
from edgec.passes.structure.regrouping import Place, Types

Axis: TypeAlias = tuple[str, str, int]
"""(function, value, axis); constants, "@name", belong to function ""."""

Use: TypeAlias = tuple[str, str, int]
"""(function, first result of a node, operand)."""

Signature: TypeAlias = Literal["keep", "prune"]


@dataclass(frozen=True)
class Sink:
    """Where units end: `node` sums over `axis` of its operand `slot`, a weight over its own."""

    function: str
    node: Node
    labels: Labels

    @property
    def key(self) -> tuple[str, str]:
        return self.function, self.node.output.name


@dataclass
class Trace:
    """Units and all that shrinks with them.

    axes     labels of values and matrices
    uses     labels of vectors, and of values that are gathered from, at one operand
    sinks    the products that sum over the units
    gathered the uses of values
    """

    axes: dict[Axis, Labels] = field(default_factory=dict)
    uses: dict[Use, tuple[int, Labels]] = field(default_factory=dict)
    sinks: list[Sink] = field(default_factory=list)
    gathered: set[Use] = field(default_factory=set)


class View:
    """What a trace asks a program: readers and makers of names, the ties of its signature."""

    def __init__(self, program: Program, signature: Signature = "keep") -> None:
        self.program, self.signature = program, signature
        self.makers = {f: g.producers() for f, g in program.graphs.items()}
        self.users: dict[tuple[str, str], list[tuple[str, Node]]] = {}
        for f, g in program.graphs.items():
            for node in g.nodes:
                for name in dict.fromkeys(node.operands):
                    home = "" if name.startswith("@") else f
                    self.users.setdefault((home, name), []).append((f, node))
        self.types = {
            (f, n.output.name): _types(g, n) for f, g in program.graphs.items() for n in g.nodes
        }
        self.inputs = {f: {v.name for v in g.inputs} for f, g in program.graphs.items()}

    def tied(self, function: str, name: str) -> list[tuple[str, str]]:
        """The values that an input or output of a function is, elsewhere: (function, value).

        Raises Blocked for one that nothing inside the program feeds or reads.
        """
        graph = self.program.graphs[function]
        found: list[tuple[str, str]] = []
        external = [name] if name in self.inputs[function] else []
        external += [n for n, o in zip(graph.output_names, graph.outputs, strict=True) if o == name]
        for each in external:
            ends = self._ends(each)
            if self.signature == "keep" and not self.is_inside(each):
                kind = "an input" if each in self.inputs[function] else "an output"
                raise Blocked(f"{each} is {kind} of {function}")
            found += [(f, value) for f, value, _ in ends]
        return found

    def is_inside(self, external: str) -> bool:
        """Whether a name of the signature is a state's, or made by one function for another."""
        kinds = {kind for _, _, kind in self._ends(external)}
        return "state" in kinds or kinds == {"in", "out"}

    def _ends(self, external: str) -> list[tuple[str, str, str]]:
        """(function, value, "in" | "out" | "state") of all that carry a name, or its state's."""
        names = {external}
        states = [s for g in self.program.graphs.values() for s in g.states]
        for s in states:
            if s.input in names or s.output in names:
                names |= {s.input, s.output}
        kept = {n for s in states for n in (s.input, s.output)}
        found = []
        for f, g in self.program.graphs.items():
            for v in g.inputs:
                if v.name in names:
                    found.append((f, v.name, "state" if v.name in kept else "in"))
            for n, value in zip(g.output_names, g.outputs, strict=True):
                if n in names:
                    found.append((f, value, "state" if n in kept else "out"))
        return found


def _types(graph: Graph, node: Node) -> Types:
    types = {i: graph.type(n) for i, n in enumerate(node.inputs) if n is not None}
    return types | {-1 - k: v.type for k, v in enumerate(node.outputs)}


# ------------------------------------------------------------------ the trace
def trace(view: View, seeds: dict[Axis, Labels]) -> Trace:
    """All that shrinks when units of the seeds go. Raises Blocked, with the reason, where some
    axis cannot shrink."""
    cuts: set[Use] = set()
    while True:
        attempt = _Attempt(view, cuts)
        try:
            return attempt.run(seeds)
        except Blocked:
            if attempt.last_soft is None:
                raise
            cuts.add(attempt.last_soft)


class _Attempt:
    """One try with given cuts; `last_soft` is the last operand that could be cut on the way to
    what blocked it."""

    def __init__(self, view: View, cuts: set[Use]) -> None:
        self.view, self.cuts = view, cuts
        self.made = Trace()
        self.soft: dict[Axis, Use | None] = {}
        self.queue: deque[Axis] = deque()
        self.sinks: dict[tuple[str, str], Sink] = {}
        self.last_soft: Use | None = None

    def run(self, seeds: dict[Axis, Labels]) -> Trace:
        for axis, labels in seeds.items():
            self._label(axis, labels, None)
        while self.queue:
            axis = self.queue.popleft()
            self.last_soft = self.soft[axis]
            self._visit(axis)
        self.made.sinks = list(self.sinks.values())
        return self.made

    def _label(self, axis: Axis, labels: Labels, soft: Use | None) -> None:
        if not labels.names_units:
            return
        known = self.made.axes.get(axis)
        merged = labels if known is None else known.merged(labels)
        if merged == known:
            return
        self.made.axes[axis] = merged
        self.soft.setdefault(axis, soft)
        self.queue.append(axis)

    def _visit(self, axis: Axis) -> None:
        function, name, index = axis
        labels = self.made.axes[axis]
        if name.startswith("@"):
            self._check_constant(name)
        else:
            for f, value in self.view.tied(function, name):
                self._label((f, value, index), labels, self.soft[axis])
            maker = self.view.makers[function].get(name)
            if maker is not None:
                slot = -1 - [v.name for v in maker.outputs].index(name)
                self._spread(function, maker, (slot, index), labels, axis)
        for f, node in self.view.users.get((function, name), ()):
            for slot in [i for i, n in enumerate(node.inputs) if n == name]:
                if (f, node.output.name, slot) not in self.cuts:
                    self._spread(f, node, (slot, index), labels, axis)

    def _check_constant(self, name: str) -> None:
        encoding = self.view.program.constants[name[1:]].encoding
        if not isinstance(encoding, Dense):
            raise Blocked(f"{name} is stored {encoding.describe()}; prune before it is compressed")
        if any(name in g.outputs for g in self.view.program.graphs.values()):
            raise Blocked(f"{name} is an output")

    def _spread(self, function: str, node: Node, place: Place, labels: Labels, axis: Axis) -> None:
        types = self.view.types[function, node.output.name]
        if node.op.name == "attention" and place[0] == 3:
            if (function, node.output.name, 1) in self.made.axes and place[1] == types[3].rank - 3:
                return  # the mask of an attention whose heads these are
        for (slot, to), found, summed in reached(node, types, place, labels):
            if summed:
                self._sink(function, node, found)
            if slot < 0:
                self._label((function, node.outputs[-1 - slot].name, to), found, self.soft[axis])
            else:
                self._operand(function, node, (slot, to), found, self.soft[axis])

    def _sink(self, function: str, node: Node, labels: Labels) -> None:
        self.sinks[function, node.output.name] = Sink(function, node, labels)

    def _operand(
        self, function: str, node: Node, place: Place, labels: Labels, soft: Use | None
    ) -> None:
        slot, axis = place
        name = node.inputs[slot]
        assert name is not None
        use = (function, node.output.name, slot)
        vector = name.startswith("@") and self._type(function, node, slot).rank == 1
        if vector or use in self.cuts:
            if labels.names_units:
                known = self.made.uses.get(use)
                merged = labels if known is None else known[1].merged(labels)
                self.made.uses[use] = (axis, merged)
                if not name.startswith("@"):
                    self.made.gathered.add(use)
            return
        home = "" if name.startswith("@") else function
        self._label((home, name, axis), labels, use if is_soft(node, slot) else soft)

    def _type(self, function: str, node: Node, slot: int) -> Any:
        return self.view.types[function, node.output.name][slot]
