"""Takes layers out of a program: what read their result reads what entered them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch.utils import _pytree as pytree

from edgec.interpreter import Absent
from edgec.ir import Program
from edgec.ir.graph import Graph
from edgec.passes.eliminate_dead_code import EliminateDeadCode
from edgec.passes.structure.residual import Layer
from edgec.passes.structure.trace import Signature, View


def problem(program: Program, layer: Layer, signature: Signature) -> str:
    """Why a layer cannot be taken out; "" where it can."""
    if signature == "prune":
        return ""
    view = View(program)
    for block in layer.blocks:
        graph = program.graphs[block.function]
        for name, value in zip(graph.output_names, graph.outputs, strict=True):
            if value in block.inside and not view.is_inside(name):
                return f"it computes {name}, an output of {block.function}"
    return ""


def drop(program: Program, layers: Sequence[Layer]) -> Program:
    """The program without these layers, and without the part of the signature that only they had:
    caches, outputs of theirs, and inputs that nothing reads any more and another function made."""
    read = {f: _read(g) for f, g in program.graphs.items()}
    after = program.copy()
    for function, graph in program.graphs.items():
        blocks = [b for layer in layers for b in layer.blocks if b.function == function]
        alias: dict[str, str] = {}
        for block in sorted(blocks, key=lambda b: _position(graph, b.exit)):
            alias[block.exit] = alias.get(block.entry, block.entry)
        inside = frozenset().union(*(b.inside for b in blocks)) if blocks else frozenset()
        after.graphs[function] = _without(after.graphs[function], alias, inside)
    while (smaller := _unread(_live(after), read)) is not None:
        after = smaller
    return _live(after)


def _live(program: Program) -> Program:
    return EliminateDeadCode().apply(program).program


def _read(graph: Graph) -> set[str]:
    names = {n for node in graph.nodes for n in node.operands} | set(graph.outputs)
    return {v.name for v in graph.inputs if v.name in names}


def _position(graph: Graph, value: str) -> int:
    return next(i for i, n in enumerate(graph.nodes) if value in {v.name for v in n.outputs})


def _without(graph: Graph, alias: dict[str, str], inside: frozenset[str]) -> Graph:
    """Reads of what a block gave read what entered it; outputs from inside of blocks are gone."""
    nodes = [n.renamed(alias) for n in graph.nodes]
    gone = {
        name
        for name, value in zip(graph.output_names, graph.outputs, strict=True)
        if value in inside
    }
    graph = graph.replace(nodes=nodes, outputs=tuple(alias.get(o, o) for o in graph.outputs))
    states = tuple(s for s in graph.states if s.output not in gone)
    inputs = {s.input for s in graph.states} - {s.input for s in states}
    graph = graph.replace(states=states)
    return without_inputs(without_outputs(graph, gone), inputs)


def _unread(program: Program, read: dict[str, set[str]]) -> Program | None:
    """Less of the signature: inputs that were read and are not any more, where other functions
    make them, with those outputs; None where there are none."""
    made = {n for g in program.graphs.values() for n in g.output_names}
    idle: set[str] = set()
    for f, graph in program.graphs.items():
        states = {s.input for s in graph.states}
        idle |= ((read[f] - _read(graph)) & made & {v.name for v in graph.inputs}) - states
    for graph in program.graphs.values():
        idle -= _read(graph)
    if not idle:
        return None
    after = program.copy()
    for f, graph in after.graphs.items():
        after.graphs[f] = without_outputs(without_inputs(graph, idle), idle)
    return after


# ------------------------------------------------------------------ signatures
def without_inputs(graph: Graph, names: set[str]) -> Graph:
    """Inputs that nothing may read any more; nested arguments get None in their place."""
    return graph.replace(inputs=tuple(v for v in graph.inputs if v.name not in names))


def without_outputs(graph: Graph, names: set[str]) -> Graph:
    """Nested results have nothing in their place."""
    kept = [i for i, n in enumerate(graph.output_names) if n not in names]
    if len(kept) == len(graph.output_names):
        return graph
    return graph.replace(
        outputs=tuple(graph.outputs[i] for i in kept),
        output_names=tuple(graph.output_names[i] for i in kept),
        output_tree=_pruned(graph.output_tree, kept),
    )


def _pruned(tree: str, kept: Sequence[int]) -> str:
    if not tree:
        return tree
    spec = pytree.treespec_loads(tree)
    leaves = [_Leaf() if i in kept else Absent() for i in range(spec.num_leaves)]
    return pytree.treespec_dumps(pytree.tree_structure(pytree.tree_unflatten(leaves, spec)))


@dataclass(frozen=True)
class _Leaf:
    """A result that stays."""
