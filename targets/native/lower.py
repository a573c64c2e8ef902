"""One IR function as statements of a C function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgec.ir import Graph, dims
from edgec.targets.native import (  # noqa: F401  - importing a module registers its lowerings
    lower_attention,
    lower_conv,
    lower_elementwise,
    lower_gather,
    lower_linear,
    lower_movement,
    lower_normalize,
    lower_pool,
    lower_recurrent,
    lower_reduce,
)
from edgec.targets.native.lower_elementwise import is_deferred
from edgec.targets.native.lowering import LOWERINGS, lower
from edgec.targets.native.statements import Statement
from edgec.targets.native.states import State
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


def lower_function(graph: Graph, weights: Weights, states: Sequence[State]) -> Lowered:
    """Lower a legalized function whose states have memory in the instance."""
    w = Writer(graph, weights, {s.input: s for s in states})
    inputs = tuple(Storage("input", v.name, v.type.nbytes) for v in graph.inputs)
    for value, storage in zip(graph.inputs, inputs, strict=True):
        view = View.whole(storage, value.type)
        if (state := w.states.get(value.name)) is not None:
            kept = state.view(value.type)
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
    return Lowered(graph, w.statements, inputs, tuple(_outputs(w, graph)))


def _outputs(w: Writer, graph: Graph) -> list[Storage]:
    """Write the results; states last, since other results may still be views of the old ones."""
    fed = {s.output: s for s in w.states.values()}
    pairs = list(zip(graph.outputs, graph.output_names, strict=True))
    views = [w.view(result) for result, _ in pairs]
    views = [
        w.copied(v) if n in fed and v.storage.kind == "state" and not _in_place(v, fed[n]) else v
        for v, (_, n) in zip(views, pairs, strict=True)
    ]
    outputs = {n: _result(w, v, n) for v, (_, n) in zip(views, pairs, strict=True) if n not in fed}
    for view, (_, name) in zip(views, pairs, strict=True):
        if name in fed:
            kept = fed[name].view(view.type)
            if not _in_place(view, fed[name]):
                w.copy(view, kept)
            outputs[name] = Storage("output", name, view.type.nbytes)
            w.copy_state(kept, View.whole(outputs[name], view.type), outputs[name])
    return [outputs[name] for _, name in pairs]


def _in_place(view: View, state: State) -> bool:
    return view == state.view(view.type)


def _result(w: Writer, view: View, name: str) -> Storage:
    """The caller's memory: what computes the value writes there if it can, else a copy does."""
    owner, nbytes = view.storage, view.type.nbytes
    alone = owner.kind == "arena" and view.is_dense and view.offset == 0
    if alone and dims.same(owner.nbytes, nbytes):
        owner.kind, owner.name = "output", name
        return owner
    storage = Storage("output", name, nbytes)
    w.copy(view, View.whole(storage, view.type))
    return storage


__all__ = ["LOWERINGS", "Lowered", "lower_function"]
