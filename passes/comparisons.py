"""What of a student is compared with its teacher: outputs, and values that both graphs have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from edgec.interpreter import Interpreter
from edgec.ir import Node, Program
from edgec.ir.graph import Graph
from edgec.passes.numerics import losses
from edgec.sequences import Call, CallSequence, Replay, links

Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Kind: TypeAlias = Literal["kl", "mse", "cosine"]

_NORMS = frozenset({"layer_norm", "rms_norm", "group_norm", "batch_norm"})
_PRODUCTS = frozenset({"linear", "conv", "conv_transpose"})


@dataclass(frozen=True)
class Compared:
    """In one function.

    outputs   index in the student's outputs -> that in the teacher's
    made      the same for outputs that go into other calls: states, memories
    hidden    local values: results of norms, of products where there is no norm
    attention local values: results of attention
    """

    outputs: Mapping[int, int]
    made: Mapping[int, int]
    hidden: frozenset[str]
    attention: frozenset[str]


def compared(student: Program, teacher: Program) -> dict[str, Compared]:
    """By function, what both have under one name with one type."""
    passed = {
        (source, output)
        for linked in links(student.graphs).values()
        for source, output in linked.values()
    }
    return {
        name: _in_function(graph, teacher.graphs[name], passed)
        for name, graph in student.graphs.items()
        if name in teacher.graphs
    }


def _in_function(graph: Graph, other: Graph, passed: set[tuple[str, str]]) -> Compared:
    theirs = dict(zip(other.output_names, enumerate(other.output_types()), strict=True))
    same = {
        i: theirs[name][0]
        for i, (name, kind) in enumerate(zip(graph.output_names, graph.output_types(), strict=True))
        if kind.dtype.is_float and name in theirs and str(theirs[name][1]) == str(kind)
    }
    made = {i: j for i, j in same.items() if (graph.name, graph.output_names[i]) in passed}
    nodes = _shared_values(graph, other)
    norms = frozenset(v for v, op in nodes.items() if op in _NORMS)
    return Compared(
        {i: j for i, j in same.items() if i not in made},
        made,
        norms or frozenset(v for v, op in nodes.items() if op in _PRODUCTS),
        frozenset(v for v, op in nodes.items() if op == "attention"),
    )


def _shared_values(graph: Graph, other: Graph) -> dict[str, str]:
    """Value -> op, of the first results of nodes that both have with one type."""
    theirs = {n.output.name: n for n in other.nodes}
    return {
        n.output.name: n.op.name
        for n in graph.nodes
        if (m := theirs.get(n.output.name)) is not None
        if m.op.name == n.op.name and str(m.output.type) == str(n.output.type)
    }


@dataclass(frozen=True)
class Weighting:
    """What a loss is made of.

    outputs       how outputs are compared; states and memories by the mean square
    temperature   of "kl"
    hidden, attention   weights of the mean square at hidden states and attention outputs
    """

    outputs: Kind = "mse"
    temperature: float = 1.0
    hidden: float = 0.0
    attention: float = 0.0

    def of_outputs(self) -> Loss:
        if self.outputs == "kl":
            return partial(losses.kl, temperature=self.temperature)
        return losses.mse if self.outputs == "mse" else losses.cosine


@dataclass
class Pair:
    """A student and its teacher, run on the same sequences of calls.

    precision   torch.bfloat16: products in that while gradients flow, by torch's autocast
    """

    student: Program
    teacher: Program
    weighting: Weighting
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable
    precision: torch.dtype = torch.float32
    compared: dict[str, Compared] = field(init=False)

    def __post_init__(self) -> None:
        self.compared = compared(self.student, self.teacher)
        self._teacher = Interpreter(self.teacher, self.device)
        self._fixed = Interpreter(self.student, self.device)
        self._replays = Replay(self.student.graphs), Replay(self.teacher.graphs)

    @property
    def is_comparable(self) -> bool:
        """Whether any output can be compared."""
        return any(c.outputs or c.made for c in self.compared.values())

    def loss(self, sequence: CallSequence, constants: Mapping[str, Tensor], grad: bool) -> Tensor:
        """Mean over the calls that have something to compare, each weighted by its rows.

        constants   of the student, by name, instead of its own
        grad        whether gradients reach them
        """
        used = set().union(*(g.used_constants() for g in self.student.graphs.values()))
        fixed = {n: self._fixed.constant(n) for n in used if n not in constants}
        student = Interpreter(self.student, self.device, constants={**fixed, **constants})
        alone = len(sequence) == 1
        total, weight = torch.zeros((), device=self.device), 0.0
        teacher_calls = self._calls(self._teacher, self._replays[1], sequence, False)
        low = grad and self.precision != torch.float32
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            for mine, theirs in zip(
                self._calls(student, self._replays[0], sequence, grad), teacher_calls, strict=True
            ):
                if terms := list(self._terms(mine, theirs, alone)):
                    rows = 1.0 if mine.call.rows is None else float(mine.call.rows.float().mean())
                    total = total + rows * torch.stack(terms).sum()
                    weight += rows
        return total / max(weight, 1e-9)

    def _calls(
        self, interpreter: Interpreter, replay: Replay, sequence: CallSequence, grad: bool
    ) -> Iterator[_Made]:
        """The calls of a sequence, one at a time: two of these run in step."""
        values: dict[str, Tensor] = {}

        def run(function: str, inputs: list[Tensor]) -> Sequence[Tensor]:
            values.clear()
            wanted = self._watched(function)

            def watch(node: Node, results: tuple[Tensor, ...]) -> None:
                if node.output.name in wanted:
                    values[node.output.name] = results[0]

            made = interpreter.run(inputs, function, watch if wanted else None, grad)
            return [t.float() if t.dtype == self.precision else t for t in made]

        for call, outputs in replay.run(sequence, run):
            yield _Made(call, outputs, dict(values))

    def _watched(self, function: str) -> frozenset[str]:
        found, w = self.compared.get(function), self.weighting
        if found is None:
            return frozenset()
        return (found.hidden if w.hidden else frozenset()) | (
            found.attention if w.attention else frozenset()
        )

    def _terms(self, mine: _Made, theirs: _Made, alone: bool) -> Iterator[Tensor]:
        found, w, rows = self.compared.get(mine.call.function), self.weighting, mine.call.rows
        if found is None:
            return
        rows = None if rows is None else rows.to(self.device)
        for i, j in found.outputs.items():
            yield w.of_outputs()(mine.outputs[i], theirs.outputs[j], rows)
        for i, j in found.made.items() if alone else ():
            yield losses.mse(mine.outputs[i], theirs.outputs[j], rows)
        for names, weight in ((found.hidden, w.hidden), (found.attention, w.attention)):
            if weight and names:
                pairs = [(mine.values[n], theirs.values[n]) for n in sorted(names)]
                yield weight * torch.stack([losses.mse(a, b, rows) for a, b in pairs]).mean()


@dataclass(frozen=True)
class _Made:
    """What a call gave: outputs, and the values that are watched."""

    call: Call
    outputs: Sequence[Tensor]
    values: Mapping[str, Tensor]
