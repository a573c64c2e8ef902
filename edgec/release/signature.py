"""Signatures of an artifact's functions: as graphs for callers, as records for release.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgec.ir import dims
from edgec.ir.graph import Graph, Node
from edgec.ir.op import Op
from edgec.ir.types import TensorType
from edgec.release.manifest import Function, Tensor
from edgec.target import Signature
from edgec.validate.settings import flops_of


@dataclass(frozen=True)
class Shipped(Op):
    """Stands for the whole of a shipped function: gives its results their types."""

    types: tuple[TensorType, ...] = ()

    def infer(self, *inputs: Any) -> tuple[TensorType, ...]:
        return self.types


def signature_graph(signature: Signature) -> Graph:
    """A graph of one node: names, types, dimensions and states, without the content."""
    inputs = tuple(v.name for v in signature.inputs)
    taken = set(inputs)
    outputs = tuple(
        type(v)(f"{v.name}_result" if v.name in taken else v.name, v.type)
        for v in signature.outputs
    )
    op = Shipped(tuple(v.type for v in outputs))
    return Graph(
        signature.name,
        signature.inputs,
        [Node(op, inputs, outputs)],
        tuple(v.name for v in outputs),
        tuple(v.name for v in signature.outputs),
        {},
        dict(signature.dims),
        signature.states,
        signature.input_tree,
        signature.output_tree,
    )


def function_record(signature: Signature, graph: Graph) -> Function:
    """The record of a function; `graph` is what it was emitted from."""
    return Function(
        name=signature.name,
        inputs=tuple(Tensor(v.name, str(v.type)) for v in signature.inputs),
        outputs=tuple(Tensor(v.name, str(v.type)) for v in signature.outputs),
        dims={n: (r.min, r.max) for n, r in signature.dims.items()},
        states={s.input: s.output for s in signature.states},
        input_tree=signature.input_tree,
        output_tree=signature.output_tree,
        flops=dims.show(flops_of(graph)),
    )
