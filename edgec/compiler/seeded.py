"""Seeded inputs to compare two programs with, where nobody gives data."""

from __future__ import annotations

from collections.abc import Container, Mapping

from edgec.errors import ValidationError
from edgec.ir.graph import Graph
from edgec.ir.program import Program
from edgec.ir.types import TensorType
from edgec.metrics import Tensors
from edgec.metrics.predict import answers
from edgec.runner import Runner
from edgec.validate.inputs import chain, linked_inputs
from edgec.validate.settings import settings, smallest_sizes, state_dims

SEEDS = 4  # samples per function


def seeded(program: Program, functions: Container[str] | None = None) -> Tensors:
    """Valid inputs at typical sizes, for every function.

    functions   only these, with states as they are before the first call: empty, or zeros
    """
    run = Runner.of_program(program).run
    calls = []
    for name, graph in program.graphs.items():
        if functions is not None and name not in functions:
            continue
        env = dict(settings(graph)[0].env)
        if functions is not None:
            sizes = smallest_sizes(graph)
            env |= {n: sizes[n] for n in state_dims(graph)}
        states = {s.input for s in graph.states} if functions is not None else set()
        for seed in range(1, SEEDS + 1):
            made = zip(graph.inputs, chain(program.graphs, name, env, run, seed), strict=True)
            calls.append((name, tuple(t.zero_() if v.name in states else t for v, t in made)))
    return Tensors(tuple(calls))


def comparable(before: Program, after: Program) -> set[str]:
    """Functions that a pass has given other inputs, but whose answers have the types they had.

    Empty where no function has other inputs. Raises ValidationError where none can be compared.
    """
    types = {name: [v.type for v in g.inputs] for name, g in before.graphs.items()}
    if all([v.type for v in g.inputs] == types[name] for name, g in after.graphs.items()):
        return set()
    found = {
        name
        for name, graph in after.graphs.items()
        if _answer_types(graph) == _answer_types(before.graphs[name])
        and _given(after.graphs, name) == _given(before.graphs, name)
    }
    if not found:
        got = "no function that takes and gives what it did before the passes"
        raise ValidationError("evaluation", got, "data to compare with", "give evaluation data")
    return found


def _answer_types(graph: Graph) -> list[TensorType]:
    return [graph.output_types()[i] for i in answers(graph)]


def _given(graphs: Mapping[str, Graph], name: str) -> list[TensorType]:
    """Types of what a caller has to find for a first call: no states, no results of others."""
    own = {s.input for s in graphs[name].states} | set(linked_inputs(graphs, name))
    return [v.type for v in graphs[name].inputs if v.name not in own]
