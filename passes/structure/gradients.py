"""What the loss says of units: gradients through the graph, call by call, function by function.

The loss of a call, whose gradient with respect to a unit's contribution is asked for, needs no
labels. Of logits (the output "logits") it is the cross entropy with their own greatest one; other
outputs are multiplied with seeded normal numbers, so that the gradient is that of a random
direction (a squared norm would do for most, but not for embeddings of length 1, whose norm does not
change). An output of one function that is the input of another gets the gradients of those calls of
that other function that were given it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from edgec.context import Calibration, Steps
from edgec.interpreter import Interpreter
from edgec.ir import Dense, Node, Program, Value
from edgec.ir.graph import Graph, fresh_name, put_constant
from edgec.ops.elementwise import Mul
from edgec.passes.structure.heads import Structure
from edgec.passes.structure.relevance import relevance_op

Rule: TypeAlias = Literal["gradient", "relevance", "fisher"]
SEED = 0
GIVEN = "units.given"


@dataclass(frozen=True)
class Given:
    """A value that another function made, and the gradient of the loss with respect to it."""

    name: str
    value: Tensor
    gradient: Tensor


def gradient_scores(
    program: Program, structures: Sequence[Structure], calls: Calibration, rule: Rule, steps: Steps
) -> list[Tensor]:
    """f64[count] of each structure: mean over examples of |sum of x . dL/dx| over a unit's x.

    x are the inputs of the products that sum over units; an example is a row of their first axis.
    """
    sums = [torch.zeros(s.count, dtype=torch.float64) for s in structures]
    for place, x, gradient in _gradients(program, structures, calls, rule, steps):
        i = place.structure
        sums[i] += _of_units(x * gradient, place.units, structures[i].count)
    return sums


def moments(
    program: Program, structures: Sequence[Structure], calls: Calibration, steps: Steps
) -> dict[tuple[str, str], Tensor]:
    """f64[N, N] of each product that sums over units, by its sink: mean over rows of g g^T, g the
    gradient of its result. The loss of logits is here the cross entropy with a label drawn from
    themselves, which makes it the Fisher information."""
    found: dict[tuple[str, str], Tensor] = {}
    rows: dict[tuple[str, str], int] = {}
    for place, _, gradient in _gradients(program, structures, calls, "fisher", steps):
        g = gradient.double().reshape(-1, gradient.shape[-1])
        found[place.sink] = found.get(place.sink, 0) + g.T @ g
        rows[place.sink] = rows.get(place.sink, 0) + len(g)
    return {sink: total / rows[sink] for sink, total in found.items()}


def _gradients(
    program: Program, structures: Sequence[Structure], calls: Calibration, rule: Rule, steps: Steps
) -> Iterator[tuple[_Place, Tensor, Tensor]]:
    """What `_run` gives, of all calls."""
    run = _Runs(*_masked(program, structures, rule), rule)
    done, total = 0, sum(map(len, calls.values()))
    for function in _readers_first(program, calls):
        for inputs in calls[function]:
            steps(done, total)
            done += 1
            yield from run.call(function, inputs)


def _of_units(products: Tensor, units: Tensor, count: int) -> Tensor:
    """f64[count]: sum over examples of |sum over what a unit has|; products T[B, .., K]."""
    flat = products.double().reshape(products.shape[0], -1, products.shape[-1]).sum(1)
    named = units >= 0
    found = torch.zeros(len(flat), count, dtype=torch.float64)
    return found.index_add(1, units[named], flat[:, named]).abs().sum(0)


# ------------------------------------------------------------------ the program with masks
@dataclass(frozen=True)
class _Place:
    """A value that a product sums over, or that it gives, with its channels at `axis`."""

    sink: tuple[str, str]
    structure: int
    axis: int
    units: Tensor


def _masked(
    program: Program, structures: Sequence[Structure], rule: Rule
) -> tuple[Program, dict[tuple[str, str], _Place]]:
    """The program with a factor 1 in front of each product that sums over units."""
    program = program.copy()
    one = put_constant(program.constants, GIVEN, Dense(torch.ones(()))).ref
    wanted = {sink.key: (i, sink) for i, s in enumerate(structures) for sink in s.trace.sinks}
    places: dict[tuple[str, str], _Place] = {}
    for function, graph in program.graphs.items():
        taken, nodes = set(graph.value_types()), []
        for node in graph.nodes:
            if (function, node.output.name) in wanted:
                i, sink = wanted[function, node.output.name]
                x = graph.value(node.inputs[0] or "")
                made = Value(fresh_name(f"{x.name}_units", taken), x.type)
                taken.add(made.name)
                nodes.append(Node(Mul(), (x.name, one), (made,)))
                node = replace(node, inputs=(made.name, *node.inputs[1:]))
                axis = 1 if node.op.name == "conv" else x.type.rank - 1
                shown = node.output.name if rule == "fisher" else made.name
                units = torch.tensor(sink.labels.flat)
                places[function, shown] = _Place(sink.key, i, axis, units)
            if rule == "relevance":
                node = relevance_op(node)
            nodes.append(node)
        program.graphs[function] = graph.replace(nodes=nodes)
    return program, places


# ------------------------------------------------------------------ one call
@dataclass
class _Runs:
    """Calls of the program with masks, one after the other.

    places   of the values whose gradients are asked for
    given    what calls so far said of inputs that other functions made
    """

    program: Program
    places: Mapping[tuple[str, str], _Place]
    rule: Rule
    given: list[Given] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(SEED)

    def call(
        self, function: str, inputs: Sequence[Tensor]
    ) -> Iterator[tuple[_Place, Tensor, Tensor]]:
        """(place, x, dL/dx) with channels along the last axis."""
        tensors, leaves = self._leaves(function, inputs)
        kept: list[tuple[_Place, Tensor]] = []

        def keep(node: Node, results: tuple[Tensor, ...]) -> None:
            place = self.places.get((function, node.output.name))
            if place is not None:
                results[0].retain_grad()
                kept.append((place, results[0]))

        factor = torch.ones((), requires_grad=True)
        interpreter = Interpreter(self.program, constants={GIVEN: factor})
        outputs = interpreter.run(tensors, function, keep, grad=True)
        loss = self._loss(self.program.graphs[function], outputs)
        if not loss.requires_grad:
            return
        loss.backward()
        for name, leaf in leaves:
            if leaf.grad is not None:
                self.given.append(Given(name, leaf.detach(), leaf.grad))
        for place, x in kept:
            if x.grad is not None:
                gradient = x.grad.movedim(place.axis, -1)
                yield place, x.detach().movedim(place.axis, -1), gradient

    def _leaves(
        self, function: str, inputs: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[tuple[str, Tensor]]]:
        """The inputs, and those of them that other functions made, to have gradients."""
        graphs = self.program.graphs
        made = {n for f, g in graphs.items() if f != function for n in g.output_names}
        made -= {s.input for s in graphs[function].states}
        tensors = list(inputs)
        leaves = []
        for i, value in enumerate(graphs[function].inputs):
            if value.name in made and tensors[i].is_floating_point():
                tensors[i] = tensors[i].detach().clone().requires_grad_()
                leaves.append((value.name, tensors[i]))
        return tensors, leaves

    def _loss(self, graph: Graph, outputs: Sequence[Tensor]) -> Tensor:
        states = {s.output for s in graph.states}
        losses = [torch.zeros(())]
        for name, y in zip(graph.output_names, outputs, strict=True):
            if name in states or not y.is_floating_point() or not y.requires_grad:
                continue
            known = [g for g in self.given if g.name == name and _equal(g.value, y)]
            if name == "logits":
                losses.append(self._own_label(y.reshape(-1, y.shape[-1])))
            elif known:
                losses += [(g.gradient * y).sum() for g in known]
            else:
                losses.append((torch.randn(y.shape, generator=self.generator) * y).sum())
        return torch.stack([loss.float() for loss in losses]).sum()

    def _own_label(self, rows: Tensor) -> Tensor:
        """Cross entropy with the greatest of the logits T[S, V], or with one drawn from them."""
        labels = rows.argmax(-1)
        if self.rule == "fisher":
            chances = torch.softmax(rows.detach().float(), -1)
            labels = torch.multinomial(chances, 1, generator=self.generator)[:, 0]
        return torch.nn.functional.cross_entropy(rows, labels, reduction="sum")


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b.detach(), rtol=1e-3, atol=1e-4)


def _readers_first(program: Program, calls: Calibration) -> list[str]:
    """Functions with calls, those that read what others make before those."""
    made = {f: set(g.output_names) for f, g in program.graphs.items()}

    def depth(function: str) -> int:
        names = {v.name for v in program.graphs[function].inputs}
        return sum(bool(names & made[f]) for f in program.graphs if f != function)

    return sorted((f for f in program.graphs if calls.get(f)), key=depth, reverse=True)
