"""Finds hidden units: channels that one layer makes and others sum over, with nothing else between.

The second layer shows them: the inputs of every `linear` (its last axis) and `conv` (its channels)
are followed back by `trace`. That ends well in feed-forward blocks, `linear -> activation ->
linear`, gated ones, `silu(gate) * up -> down` with or without one fused product for both, and
`conv -> batch_norm -> activation -> conv`, depthwise convolutions between included. It is blocked,
as it should be, in the channels of a residual stream (a norm takes a mean over them) and of heads
(a reshape takes them apart).
"""

from __future__ import annotations

from collections.abc import Iterator

from edgec.ir import Program
from edgec.passes.structure.heads import Found, Seed, collect
from edgec.passes.structure.labels import Labels
from edgec.passes.structure.trace import Signature, Trace, View

_INPUTS = {"linear": -1, "conv": 1}


def find_neurons(program: Program, least: int, signature: Signature = "keep") -> Found:
    """Hidden units of all layers that have at least `least` of them."""
    view = View(program, signature)
    found = collect(view, _seeds(view, least), "neurons")
    made = [s for s in found.structures if _is_hidden(view, s.trace)]
    return Found(made, found.refused)


def _seeds(view: View, least: int) -> Iterator[list[Seed]]:
    for function, graph in view.program.graphs.items():
        for node in graph.nodes:
            axis, w = _INPUTS.get(node.op.name), node.inputs[1] if len(node.inputs) > 1 else None
            if axis is None or w is None or not w.startswith("@") or _in_groups(node.op):
                continue
            x = node.inputs[0]
            assert x is not None
            type_ = graph.type(x)
            size = type_.shape[axis]
            if isinstance(size, int) and size >= least:
                seed = (function, x, axis % type_.rank)
                where = f"{function}/{node.output.name}"
                yield [Seed(where, seed, Labels.of(range(size)), size)]


def _in_groups(op: object) -> bool:
    return getattr(op, "groups", 1) != 1


def _is_hidden(view: View, made: Trace) -> bool:
    """Whether layers make the units, and not tables or inputs, and none is gathered."""
    rows = [(name, axis) for function, name, axis in made.axes if not function]
    makers = {
        node.op.name
        for name, axis in rows
        if axis == 0
        for _, node in view.users[("", name)]
        if node.op.name in _INPUTS and node.inputs[1] == name
    }
    tables = {n.op.name for name, _ in rows for _, n in view.users[("", name)]} & {"gather"}
    return bool(makers) and not tables and not made.gathered
