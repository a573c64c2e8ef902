"""One IR function as statements of a C function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgec.ir import Graph, dims
from edgec.targets.native import (  # noqa: F401  - importing a module registers its lowerings
    lower_attention,
    lower_elementwise,
    lower_gather,
    lower_linear,
    lower_movement,
    lower_normalize,
    lower_reduce,
)
from edgec.targets.native.lower_elementwise import is_deferred
from edgec.targets.native.lowering import LOWERINGS, lower
from edgec.targets.native.statements import Statement
from edgec.targets.native.views import Storage, View
from edgec.targets.native.weights import Weights
from edgec.targets.native.writer import Writer


@dataclass(frozen=True)
class Lowered:
    """A function before its memory is planned.

    inputs, outputs   the caller's memory, in order
    """

    graph: Graph
    statements: list[Statement]
    inputs: tuple[Storage, ...]
    outputs: tuple[Storage, ...]


def lower_function(graph: Graph, weights: Weights, states: Mapping[str, Storage]) -> Lowered:
    """Lower a legalized function; `states` has memory for the function's state inputs, by name."""
    w = Writer(graph, weights, states)
    inputs = tuple(Storage("input", v.name, _nbytes(v.type)) for v in graph.inputs)
    for value, storage in zip(graph.inputs, inputs, strict=True):
        view = View.whole(storage, value.type)
        if value.name in states:
            kept = View.whole(states[value.name], value.type)
            w.copy_state(view, kept, storage)
            view = kept
        w.define(value.name, view)
    for node in graph.nodes:
        if node.output.name in w.absorbed:
            continue
        if is_deferred(w, node):
            w.deferred[node.output.name] = node
        else:
            lower(w, node)
    outputs = _outputs(w, graph)
    return Lowered(graph, w.statements, inputs, outputs)


def _outputs(w: Writer, graph: Graph) -> tuple[Storage, ...]:
    """Write the results: in place where a value has its memory to itself, else by a copy."""
    fed = {s.output: s.input for s in graph.states}
    outputs, placed = [], set()
    for result, external in zip(graph.outputs, graph.output_names, strict=True):
        view = w.view(result)
        storage = Storage("output", external, _nbytes(view.type))
        outputs.append(storage)
        if external in fed:
            kept = View.whole(w.states[fed[external]], view.type)
            w.copy(view, kept)
            w.copy_state(kept, View.whole(storage, view.type), storage)
            continue
        owner = view.storage
        if owner.kind == "arena" and view.is_dense and view.offset == 0 and owner not in placed:
            if dims.same(owner.nbytes, storage.nbytes):
                placed.add(owner)
                owner.kind, owner.name = "output", external
                outputs[-1] = owner
                continue
        w.copy(view, View.whole(storage, view.type))
    return tuple(outputs)


def _nbytes(type: object) -> dims.Dim:
    return dims.normal(type.numel * type.dtype.nbytes)  # type: ignore[attr-defined]


__all__ = ["LOWERINGS", "Lowered", "lower_function"]
