"""Calibration data sent through a graph: at each node, a pass sees its operands in all calls.

A pass may replace the node's constants, and what follows is computed with them: quantization of a
layer knows the error of the layers before it. Only some of the activations are in memory: those of
all calls in front of one node, and those of one call from there to the node that is looked at.
What lies between is computed when it is asked for, and again for the next node, until a place is
reached where less has to be held (the end of a block) or that little is held that it does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from edgec.context import Steps, unheard
from edgec.errors import ValidationError
from edgec.interpreter import check_inputs
from edgec.ir import Encoding, Node, Op, Program, dims
from edgec.ir.graph import Graph

Operands: TypeAlias = Sequence[Tensor | None]
"""One tensor per input of a node, None for an absent one."""

LITTLE_BYTES, PART_OF_PROGRAM = 2**24, 4  # of activations; whichever is more may always be held


@dataclass(frozen=True)
class Visit:
    """A node that is about to be evaluated.

    graph      that it belongs to
    node       the node
    operands   of each call; computed when it is asked for
    """

    graph: Graph
    node: Node
    operands: Sequence[Operands]


def visits(
    program: Program,
    function: str,
    calls: Sequence[Sequence[Tensor]],
    steps: Steps = unheard,
    held_bytes: int | None = None,
) -> Iterator[Visit]:
    """Every node of `function` in order, with its operands in all `calls`.

    What follows is computed with the constants that `program` has when it is asked for: they are to
    be replaced at the first node that reads them, or else it matters how much is computed again.
    `steps` hears how many nodes were visited. `held_bytes`: how many bytes of activations are held
    rather than computed again; None: a quarter of the program's, at least 16 MiB.
    Raises ValidationError for inputs that do not fit the signature, or whose values do not.
    """
    graph = program.graphs[function]
    if held_bytes is None:
        held_bytes = max(LITTLE_BYTES, program.nbytes // PART_OF_PROGRAM)
    flow = _Flow(program, graph, calls, held_bytes)
    for i, node in enumerate(graph.nodes):
        steps(i, len(graph.nodes))
        yield Visit(graph, node, _OperandsAt(flow, i))


class _Flow:
    """All calls of a function as they are in front of node `at`."""

    def __init__(
        self,
        program: Program,
        graph: Graph,
        calls: Sequence[Sequence[Tensor]],
        held_bytes: int,
    ) -> None:
        self.program, self.graph, self.held_bytes = program, graph, held_bytes
        self.nodes = list(graph.nodes)
        self.last_use = {name: i for i, node in enumerate(self.nodes) for name in node.operands}
        tensors = [check_inputs(graph, inputs) for inputs in calls]
        self.envs = [graph.bind(tuple(t.shape for t in inputs)) for inputs in tensors]
        names = [v.name for v in graph.inputs]
        self.values = [dict(zip(names, inputs, strict=True)) for inputs in tensors]
        self.live_bytes = self._live_bytes()
        self.at = 0
        self.decoded: dict[str, tuple[Encoding, Tensor]] = {}

    def _live_bytes(self) -> list[int]:
        """Bytes of what is needed from each node on, over all calls."""
        live = [0] * (len(self.nodes) + 1)
        made = [(v, -1) for v in self.graph.inputs]
        made += [(v, i) for i, node in enumerate(self.nodes) for v in node.outputs]
        envs = [dict(items) for items in {tuple(sorted(env.items())) for env in self.envs}]
        counts = [self.envs.count(env) for env in envs]
        for value, index in made:
            nbytes = value.type.nbytes
            taken = sum(c * dims.evaluate(nbytes, env) for c, env in zip(counts, envs, strict=True))
            for i in range(index + 1, self.last_use.get(value.name, -1) + 1):
                live[i] += taken
        return live

    def advance(self, index: int) -> None:
        """Move `at` towards node `index`: to the last place with little, else to the least."""
        backwards, live = range(index, self.at - 1, -1), self.live_bytes
        little = (i for i in backwards if live[i] <= self.held_bytes)
        place = next(little, None) or min(backwards, key=lambda i: live[i])
        if place > self.at:
            for call in range(len(self.values)):
                self.values[call] = self.run(call, place)
            self.at = place
        used = {r[1:] for n in self.nodes[self.at : index + 1] for r in n.operands if r[0] == "@"}
        self.decoded = {name: made for name, made in self.decoded.items() if name in used}

    def run(self, call: int, stop: int) -> dict[str, Tensor]:
        """What a call has in front of node `stop`."""
        known, env = dict(self.values[call]), self.envs[call]
        for i in range(self.at, stop):
            node = self.nodes[i]
            made = self.evaluate(call, node.op.bind(env), self.operands(node, known))
            results = made if isinstance(made, tuple) else (made,)
            for value, result in zip(node.outputs, results, strict=True):
                if self.last_use.get(value.name, -1) > i:
                    known[value.name] = result
            for name in node.operands:
                if self.last_use[name] == i:
                    known.pop(name, None)
        return known

    def evaluate(self, call: int, op: Op, operands: list[Tensor | None]) -> Any:
        """Raises ValidationError that names the call, where its values are none for the op.

        As an IndexError, it would end a loop over the calls as if there were no more of them.
        """
        try:
            with torch.no_grad():
                return op.evaluate(*operands)
        except (IndexError, RuntimeError) as error:
            where = f"{self.graph.name}, call {call}"
            got = f"inputs that {op.name} cannot compute with ({str(error).splitlines()[0]})"
            raise ValidationError(where, got, "inputs that the model can take") from error

    def operands(self, node: Node, known: dict[str, Tensor]) -> list[Tensor | None]:
        return [
            None if n is None else self.constant(n[1:]) if n[0] == "@" else known[n]
            for n in node.inputs
        ]

    def constant(self, name: str) -> Tensor:
        """The constant as it is now, decoded."""
        stored = self.program.constants[name].encoding
        if name not in self.decoded or self.decoded[name][0] is not stored:
            self.decoded[name] = stored, stored.decode()
        return self.decoded[name][1]


class _OperandsAt(Sequence[Operands]):
    """Operands of one node, by call."""

    def __init__(self, flow: _Flow, place: int) -> None:
        self.flow, self.place = flow, place

    def __len__(self) -> int:
        return len(self.flow.values)

    def __getitem__(self, call: int) -> Operands:  # type: ignore[override]  # slices: not needed
        if not -len(self) <= call < len(self):
            raise IndexError(call)
        flow = self.flow
        if self.place < flow.at:
            raise RuntimeError(f"node {self.place} was looked at after a later one")
        flow.advance(self.place)
        return flow.operands(flow.nodes[self.place], flow.run(call, self.place))
