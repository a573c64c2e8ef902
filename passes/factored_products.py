"""Products with a weight as two products, with its factors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from edgec.ir import Encoding, Node, Program, Value
from edgec.ir.graph import Graph, fresh_name, put_constant
from edgec.ir.op import Op
from edgec.ops.conv import Conv
from edgec.passes.inputs import is_product
from edgec.passes.weights import Weight


def unfit(program: Program, weight: Weight) -> str:
    """Why not every reader of a weight can multiply by its factors; "" where all can."""
    for graph in program.graphs.values():
        ref = f"@{weight.name}"
        if ref in graph.outputs:
            return "an output"
        for node in graph.nodes:
            count = node.inputs.count(ref)
            if node.op.name == "gather" and count:
                return "a table; see factorize-embeddings"
            if count and (count > 1 or not is_product(node, weight)):
                return f"read by {node.op.name}, which is no product with all of it"
    return ""


def split_products(
    program: Program, weight: Weight, stored: Encoding, up: Tensor, down: Tensor
) -> None:
    """Let every product with the weight be one with down f32[R, K], then one with up f32[N, R].

    stored   how the weight was stored: the factors are stored alike
    """
    shape = [int(d) for d in stored.type.shape]
    if len(shape) > 2:
        down = down.reshape(-1, *shape[1:])
        up = up.reshape(*up.shape, *[1] * (len(shape) - 2))
    elif weight.axis == 1:
        down, up = down.T, up.T
    pool = program.constants
    refs = [
        put_constant(pool, f"{weight.name}.{end}", stored.encode(factor.contiguous())).ref
        for end, factor in (("down", down), ("up", up))
    ]
    del pool[weight.name]
    for graph in program.graphs.values():
        nodes: list[Node] = []
        taken = set(graph.value_types())
        for node in graph.nodes:
            if f"@{weight.name}" in node.operands:
                nodes += _split(graph, node, f"@{weight.name}", refs, taken)
            else:
                nodes.append(node)
        graph.nodes[:] = nodes


def _split(graph: Graph, node: Node, old: str, refs: list[str], taken: set[str]) -> list[Node]:
    place = node.inputs.index(old)
    x = node.inputs[1 - place]
    assert x is not None
    given = graph.type(x), graph.type(refs[0])
    made: Any = node.op.infer(*(given if place else given[::-1]))
    value = Value(fresh_name(f"{node.output.name}_down", taken), made)
    taken.add(value.name)
    first = (x, refs[0]) if place else (refs[0], x)
    second = (value.name, refs[1]) if place else (refs[1], value.name)
    return [
        Node(node.op, first, (value,), node.source),
        Node(_second(node.op), (*second, *node.inputs[2:]), node.outputs, node.source),
    ]


def _second(op: Op) -> Op:
    """What multiplies by `up`: a convolution of single positions, else the same op."""
    if not isinstance(op, Conv):
        return op
    ones = (1,) * len(op.stride)
    return replace(op, stride=ones, padding=((0, 0),) * len(ones), dilation=ones)
