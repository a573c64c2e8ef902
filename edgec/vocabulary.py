"""What token ids mean after some were left out: the same data for a program before and after.

A program that has kept only some of its tokens says so in metadata["vocabulary"]:

    original   number of ids before
    kept       the old id of every new one, ascending: new ids are the places in this list
    inputs     {function: [inputs that hold token ids]}
    outputs    {function: {output: axis with one element for each id}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from edgec.ir.graph import Graph
from edgec.ir.program import Program
from edgec.sequences import Call, Calls, CallSequence

KEY = "vocabulary"


@dataclass(frozen=True)
class Vocabulary:
    """Old and new ids, and where they occur; see the module's docstring."""

    original: int
    kept: tuple[int, ...]
    inputs: Mapping[str, Sequence[str]]
    outputs: Mapping[str, Mapping[str, int]]

    @staticmethod
    def of(program: Program) -> Vocabulary | None:
        """What a program says; None where it has all of its tokens."""
        found: Mapping[str, Any] | None = program.metadata.get(KEY)
        return Vocabulary(**{**found, "kept": tuple(found["kept"])}) if found else None

    def to_json(self) -> dict[str, Any]:
        names = {function: list(found) for function, found in self.inputs.items()}
        outputs = {function: dict(found) for function, found in self.outputs.items()}
        return {**asdict(self), "kept": list(self.kept), "inputs": names, "outputs": outputs}

    # -------------------------------------------------------------- ids
    def new(self, ids: Tensor) -> Tensor:
        """Old ids -> new ones, -1 where they were left out."""
        places = torch.full((self.original,), -1, dtype=torch.int64)
        places[list(self.kept)] = torch.arange(len(self.kept))
        inside = (ids >= 0) & (ids < self.original)
        found = places[ids.long().clamp(0, self.original - 1)]
        return torch.where(inside, found, -1).to(ids.dtype)

    def old(self, ids: Tensor) -> Tensor:
        """New ids -> old ones."""
        return torch.tensor(self.kept)[ids.long()].to(ids.dtype)

    # -------------------------------------------------------------- calls
    def new_inputs(self, function: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs by name with new ids, -1 where they were left out."""
        held = self.inputs.get(function, ())
        return {n: self.new(t) if n in held else t for n, t in inputs.items()}

    def new_call(self, graph: Graph, inputs: Sequence[Tensor]) -> list[Tensor] | None:
        """Flat inputs with new ids; None where one of them was left out."""
        names = [v.name for v in graph.inputs]
        made = self.new_inputs(graph.name, dict(zip(names, inputs, strict=True)))
        held = self.inputs.get(graph.name, ())
        return None if any(bool((made[n] < 0).any()) for n in held) else list(made.values())

    def old_call(self, graph: Graph, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Flat inputs with old ids."""
        held = self.inputs.get(graph.name, ())
        pairs = zip(graph.inputs, inputs, strict=True)
        return [self.old(t) if v.name in held else t for v, t in pairs]

    def new_calls(
        self, graphs: Mapping[str, Graph], calls: Mapping[str, Sequence[Sequence[Tensor]]]
    ) -> Calls:
        """All calls with new ids, without those that have a token that was left out."""
        made = {
            name: [new for c in found if (new := self.new_call(graphs[name], c)) is not None]
            for name, found in calls.items()
        }
        sequences = calls.sequences if isinstance(calls, Calls) else []
        renumbered = (self._new_sequence(s) for s in sequences)
        return Calls(made, [s for s in renumbered if s is not None])

    def _new_sequence(self, sequence: CallSequence) -> CallSequence | None:
        made = [replace(c, inputs=self.new_inputs(c.function, c.inputs)) for c in sequence]
        return None if any(map(self._has_lost, made)) else made

    def _has_lost(self, call: Call) -> bool:
        held = self.inputs.get(call.function, ())
        return any(bool((call.inputs[n] < 0).any()) for n in held if n in call.inputs)

    def narrowed(self, graph: Graph, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Flat outputs of the function before, with the elements of kept tokens alone."""
        axes = self.outputs.get(graph.name, {})
        kept = torch.tensor(self.kept)
        return [
            t.index_select(axes[n], kept) if n in axes else t
            for n, t in zip(graph.output_names, outputs, strict=True)
        ]


def changed(before: Program, after: Program) -> Vocabulary | None:
    """The ids of `after` in terms of those of `before`; None where they are the same."""
    old, new = Vocabulary.of(before), Vocabulary.of(after)
    if new is None or (old is not None and old.kept == new.kept):
        return None
    if old is None:
        return new
    places = {i: place for place, i in enumerate(old.kept)}
    return replace(new, original=len(old.kept), kept=tuple(places[i] for i in new.kept))
