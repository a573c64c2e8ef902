"""Calls that belong together: what a later call gets from earlier ones is not recorded, but made.

A decoder's step reads the caches of the step before and what its encoder gave. Replaying the calls
gives any program of the same functions its own caches, of whatever shapes they are by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from edgec.errors import ValidationError
from edgec.ir import dims
from edgec.ir.graph import Graph

Run: TypeAlias = Callable[[str, list[Tensor]], Sequence[Tensor]]


@dataclass(frozen=True)
class Call:
    """One call of a function.

    inputs   by name; those that an earlier call of the sequence makes may be absent
    rows     bool[B]: rows of the batch whose results count, None for all
    """

    function: str
    inputs: Mapping[str, Tensor]
    rows: Tensor | None = None


CallSequence: TypeAlias = Sequence[Call]


class Calls(dict[str, list[list[Tensor]]]):
    """Flat inputs by function, and the sequences in which they occur."""

    def __init__(
        self,
        calls: Mapping[str, Iterable[Sequence[Tensor]]],
        sequences: Iterable[CallSequence] = (),
    ) -> None:
        super().__init__({name: [list(c) for c in found] for name, found in calls.items()})
        self.sequences: list[CallSequence] = list(sequences)


def links(graphs: Mapping[str, Graph]) -> dict[str, dict[str, tuple[str, str]]]:
    """{function: {input: (function, output) of an earlier call that it continues}}.

    A state continues its own function; any other input the output of the same name, dtype and rank
    of another function.
    """
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for name, graph in graphs.items():
        made = {s.input: (name, s.output) for s in graph.states}
        for other, source in graphs.items():
            if other == name:
                continue
            types = dict(zip(source.output_names, source.output_types(), strict=True))
            for value in graph.inputs:
                t = types.get(value.name)
                if t is not None and (t.dtype, t.rank) == (value.type.dtype, value.type.rank):
                    made.setdefault(value.name, (other, value.name))
        found[name] = made
    return found


class Replay:
    """Runs sequences of calls with one program's functions; each input given wins over one made."""

    def __init__(self, graphs: Mapping[str, Graph]) -> None:
        self.graphs, self.links = graphs, links(graphs)

    def run(self, sequence: CallSequence, run: Run) -> Iterator[tuple[Call, Sequence[Tensor]]]:
        """Each call with its flat outputs.

        Raises ValidationError for a call of no function, and for inputs that nothing makes.
        """
        made: dict[tuple[str, str], Tensor] = {}
        for call in sequence:
            if call.function not in self.graphs:
                need = f"one of {', '.join(self.graphs)}"
                raise ValidationError("sequence", f"function {call.function}", need)
            outputs = run(call.function, self.inputs(call, made))
            names = self.graphs[call.function].output_names
            made |= {(call.function, n): t for n, t in zip(names, outputs, strict=True)}
            yield call, outputs

    def inputs(self, call: Call, made: Mapping[tuple[str, str], Tensor]) -> list[Tensor]:
        """Flat inputs of a call: given, made before, or states of zeros and the least size."""
        graph, linked = self.graphs[call.function], self.links[call.function]
        found = dict(call.inputs)
        for value in graph.inputs:
            if value.name not in found and linked.get(value.name) in made:
                found[value.name] = made[linked[value.name]]
        missing = [v.name for v in graph.inputs if v.name not in found]
        states = {s.input for s in graph.states}
        if lost := [n for n in missing if n not in states]:
            got = f"{call.function} without {', '.join(lost)}"
            raise ValidationError("sequence", got, "inputs that are given or made by earlier calls")
        if missing:
            found |= _empty(graph, missing, found)
        return [found[v.name] for v in graph.inputs]


def _empty(graph: Graph, names: Sequence[str], known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """States before the first call: zeros, a size that no input tells is the least."""
    env = {name: limits.min for name, limits in graph.dims.items()}
    for value in graph.inputs:
        if value.name in known:
            for dim, size in zip(value.type.shape, known[value.name].shape, strict=True):
                if (solved := dims.solve(dim, size)) is not None:
                    env[solved[0]] = solved[1]
    types = {v.name: v.type for v in graph.inputs}
    return {n: torch.zeros(types[n].bind(env), dtype=types[n].dtype.torch_dtype) for n in names}
