"""Inputs of linear layers scaled per channel: y = (w s) (x / s), with 1 / s in what makes x."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor

from edgec.context import Context
from edgec.ir import Constant, Dense, DType, Encoding, Node, Program, Value
from edgec.ir.graph import Graph, fresh_name, put_constant
from edgec.ops.elementwise import Mul
from edgec.passes.stream import Visit, visits
from edgec.passes.weight_pass import WeightPass
from edgec.passes.weights import Weight, find_weights
from edgec.transform import PassResult

Otherwise: TypeAlias = Literal["leave", "multiply"]
"""Where 1 / s has no place to go: leave the layers, or multiply their input by it."""

Takes: TypeAlias = Callable[[Weight, Encoding], bool]
"""Whether a pass wants the inputs of a weight scaled."""


Find: TypeAlias = "Callable[[Site, Sequence[Tensor], Visit], Tensor | str]"
"""s f32[K] > 0 for a site with these weights, at the first layer that reads it; or why none."""


@dataclass(frozen=True)
class Site:
    """A value, the weights of the linear layers that read it, the constants that can take 1 / s."""

    value: str
    weights: tuple[Weight, ...]
    folded: tuple[str, ...] | None


class Sites:
    """The values of a function that linear layers with weights of `takes` read.

    The weights are plain finite f32 constants, each of one linear alone.
    """

    def __init__(self, program: Program, function: str, takes: Takes) -> None:
        self.program, self.graph, self.takes = program, program.graphs[function], takes
        self.found = {name: w for name, w in find_weights(program).items() if self._usable(w)}
        self.users, self.producers = self.graph.users(), self.graph.producers()
        self.done: set[str] = set()

    def _usable(self, weight: Weight) -> bool:
        stored = self.program.constants[weight.name].encoding
        single = weight.ops == {"linear"} and uses(self.program, f"@{weight.name}") == 1
        chosen = single and is_plain(self.program, weight.name) and self.takes(weight, stored)
        return chosen and bool(stored.decode().isfinite().all())

    def first_at(self, node: Node) -> Site | None:
        """The site of what a linear reads, at the first of its layers."""
        x = node.inputs[0] if node.inputs else None
        if node.op.name != "linear" or x is None or x.startswith("@") or x in self.done:
            return None
        self.done.add(x)
        layers = list(self._layers(x))
        if not layers:
            return None
        alone = len(layers) == len(self.users[x]) and x not in self.graph.outputs
        return Site(x, tuple(layers), self._place(x) if alone else None)

    def _layers(self, x: str) -> Iterator[Weight]:
        for node in self.users[x]:
            free = node.op.name == "linear" and getattr(node.op, "activations", "") != "static"
            w = node.inputs[1] if free else None
            if w is not None and w[1:] in self.found and list(node.operands).count(x) == 1:
                yield self.found[w[1:]]

    def _place(self, x: str) -> tuple[str, ...] | None:
        """The constants of the node that makes x which 1 / s can go into."""
        node = self.producers.get(x)
        if node is None or len(node.inputs) < 2 or node.inputs[1] is None:
            return None
        op: Any = node.op
        norm = op.name == "layer_norm" and op.axes_count == 1
        root = op.name == "rms_norm" and op.axis in (-1, len(node.output.type.shape) - 1)
        if not (norm or root or op.name == "linear"):
            return None
        refs = [ref for ref in node.inputs[1:] if ref is not None]
        constant = all(ref.startswith("@") and uses(self.program, ref) == 1 for ref in refs)
        if not constant or not all(is_plain(self.program, ref[1:]) for ref in refs):
            return None
        return tuple(ref[1:] for ref in refs)


def uses(program: Program, ref: str) -> int:
    """How often nodes and outputs of all functions read a constant."""
    return sum(
        sum(node.inputs.count(ref) for node in g.nodes) + list(g.outputs).count(ref)
        for g in program.graphs.values()
    )


def is_plain(program: Program, name: str) -> bool:
    """Whether a constant is stored as the f32 numbers that it is."""
    stored = program.constants[name].encoding
    return isinstance(stored, Dense) and stored.as_dtype is None and stored.type.dtype is DType.F32


def scale_sites(
    options: WeightPass,
    otherwise: Otherwise,
    program: Program,
    context: Context,
    takes: Takes,
    find: Find,
) -> PassResult:
    """Scale the inputs of all layers with a place for it by what `find` says; note what is left.

    A scale of ones is nothing to do, and nothing to tell.
    """
    after, changed = program.copy(), False
    notes = options.selected.idle_notes(program.constants)
    for function, calls in context.calls(options.name).items():
        sites = Sites(program, function, takes)
        for visit in visits(program, function, calls, context.steps):
            site = sites.first_at(visit.node)
            if site is None:
                continue
            s = _scale_of(after, site, visit, otherwise, find)
            if isinstance(s, str):
                notes.append(f"%{site.value}: {s}; left")
            elif not bool((s == 1).all()):
                scale_inputs(after, function, site, s)
                changed = True
    if not changed:
        notes.append("nothing to do: no inputs were scaled")
    return PassResult(after, changed, tuple(notes))


def _scale_of(
    program: Program, site: Site, visit: Visit, otherwise: Otherwise, find: Find
) -> Tensor | str:
    if site.folded is None and otherwise == "leave":
        return "read by more than linear layers, or made by no norm"
    weights = [program.constants[w.name].encoding.decode() for w in site.weights]
    return find(site, weights, visit)


def scale_inputs(program: Program, function: str, site: Site, s: Tensor) -> None:
    """Multiply the columns of the site's weights by s f32[K] > 0, and their input by 1 / s."""
    for weight in site.weights:
        _store(program, weight.name, program.constants[weight.name].encoding.decode() * s)
    if site.folded is None:
        _multiply(program, function, site, 1 / s)
    for ref in site.folded or ():
        vector = program.constants[ref].encoding.decode()
        _store(program, ref, vector / s.view(-1, *[1] * (vector.dim() - 1)))


def _store(program: Program, name: str, value: Tensor) -> None:
    program.constants[name] = Constant(name, Dense(value))


def _multiply(program: Program, function: str, site: Site, factor: Tensor) -> None:
    """Let the layers of the site read the value times `factor`."""
    graph: Graph = program.graphs[function]
    constant = put_constant(program.constants, f"{site.value}.scale", Dense(factor))
    scaled = Value(fresh_name(f"{site.value}_scaled", graph.value_types()), graph.type(site.value))
    refs = {f"@{w.name}" for w in site.weights}
    nodes: list[Node] = []
    for node in graph.nodes:
        if refs & set(node.operands):
            if not any(scaled in n.outputs for n in nodes):
                nodes.append(Node(Mul(), (site.value, constant.ref), (scaled,), node.source))
            node = node.renamed({site.value: scaled.name})
        nodes.append(node)
    graph.nodes[:] = nodes
