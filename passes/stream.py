"""Calibration data sent through a graph, node by node: all calls pass a node before the next one.

A pass sees the operands of each node for all calls, may replace the node's constants, and what
follows is computed with them: quantization of a layer knows the error of the layers before it. Of
activations only those live at the present node are in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from edgec.context import Steps, unheard
from edgec.interpreter import check_inputs
from edgec.ir import Node, Program
from edgec.ir.graph import Graph


@dataclass(frozen=True)
class Visit:
    """A node that is about to be evaluated.

    graph      that it belongs to
    node       the node
    operands   of each call: one tensor per input of the node, None for an absent one
    """

    graph: Graph
    node: Node
    operands: Sequence[Sequence[torch.Tensor | None]]


def visits(
    program: Program, function: str, calls: Sequence[Sequence[torch.Tensor]], steps: Steps = unheard
) -> Iterator[Visit]:
    """Every node of `function` in order, with its operands in all `calls`.

    The node is evaluated after the consumer has looked at it, with the constants that `program`
    then has; `steps` hears how many were.
    Raises ValidationError for inputs that do not fit the signature.
    """
    graph = program.graphs[function]
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.operands}
    names = [v.name for v in graph.inputs]
    tensors = [check_inputs(graph, inputs) for inputs in calls]
    envs = [graph.bind(tuple(t.shape for t in inputs)) for inputs in tensors]
    values = [dict(zip(names, inputs, strict=True)) for inputs in tensors]
    for i, node in enumerate(graph.nodes):
        steps(i, len(graph.nodes))
        constants = _constants(program, node)
        yield Visit(graph, node, [_operands(node, known, constants) for known in values])
        constants = _constants(program, node)
        for env, known in zip(envs, values, strict=True):
            with torch.no_grad():
                made = node.op.bind(env).evaluate(*_operands(node, known, constants))
            results = made if isinstance(made, tuple) else (made,)
            known.update((v.name, t) for v, t in zip(node.outputs, results, strict=True))
            for name in node.operands:
                if last_use[name] == i:
                    known.pop(name, None)


def _constants(program: Program, node: Node) -> dict[str, torch.Tensor]:
    """The node's constants as they are now, decoded."""
    return {n: program.constants[n[1:]].encoding.decode() for n in node.operands if n[0] == "@"}


def _operands(
    node: Node, known: dict[str, torch.Tensor], constants: dict[str, torch.Tensor]
) -> list[torch.Tensor | None]:
    return [None if n is None else constants[n] if n[0] == "@" else known[n] for n in node.inputs]
