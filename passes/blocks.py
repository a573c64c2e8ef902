"""Graphs cut into blocks, and calls that flow through a program and its original side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from edgec.interpreter import check_inputs
from edgec.ir import Node, Program
from edgec.ir.graph import Graph

Kind: TypeAlias = Literal["residual", "layer"]
Values: TypeAlias = dict[str, Tensor]

_PRODUCTS = frozenset({"linear", "conv", "conv_transpose", "matmul", "lstm", "gru", "rnn"})


@dataclass(frozen=True)
class Block:
    """Neighbouring nodes of one function.

    inputs    local values from outside that its nodes read
    outputs   values of its nodes that later nodes, or the function's results, read
    """

    function: str
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def constants(self) -> set[str]:
        """Names of those that its nodes read."""
        return {r[1:] for n in self.nodes for r in n.operands if r.startswith("@")}


def blocks(graph: Graph, kind: Kind) -> list[Block]:
    """All nodes in order, cut behind each residual sum, or behind each product with a constant.

    A graph without residual sums is cut into layers. What follows the last cut is the last block.
    """
    cuts = [i for i, n in enumerate(graph.nodes) if _is_residual(graph, n)]
    if kind == "layer" or not cuts:
        cuts = [i for i, n in enumerate(graph.nodes) if _is_layer(n)]
    ends = sorted({*cuts, len(graph.nodes) - 1})
    starts = [0, *(end + 1 for end in ends[:-1])]
    return [_block(graph, a, b + 1) for a, b in zip(starts, ends, strict=True) if b >= a]


def _is_residual(graph: Graph, node: Node) -> bool:
    """The sum of two values of its own type, one of which is read elsewhere too or given."""
    refs = list(node.operands)
    if node.op.name != "add" or any(r.startswith("@") for r in refs) or len(set(refs)) < 2:
        return False
    return (
        all(str(graph.type(r)) == str(node.output.type) for r in refs) and node.output.type.rank > 1
    )


def _is_layer(node: Node) -> bool:
    return node.op.name in _PRODUCTS and any(r.startswith("@") for r in node.operands)


def _block(graph: Graph, start: int, stop: int) -> Block:
    nodes = tuple(graph.nodes[start:stop])
    made = {v.name for n in nodes for v in n.outputs}
    later = {r for n in graph.nodes[stop:] for r in n.operands} | set(graph.outputs)
    read = dict.fromkeys(r for n in nodes for r in n.operands if not r.startswith("@"))
    inputs = tuple(r for r in read if r not in made)
    outputs = tuple(v.name for n in nodes for v in n.outputs if v.name in later)
    return Block(graph.name, nodes, inputs, outputs)


def run(
    block: Block, env: Mapping[str, int], known: Values, constants: Mapping[str, Tensor]
) -> Values:
    """The block's outputs, with gradients where they are enabled."""
    values = {name: known[name] for name in block.inputs}
    for node in block.nodes:
        operands = [
            None if r is None else constants[r[1:]] if r.startswith("@") else values[r]
            for r in node.inputs
        ]
        made = node.op.bind(dict(env)).evaluate(*operands)
        results = made if isinstance(made, tuple) else (made,)
        values.update((v.name, t) for v, t in zip(node.outputs, results, strict=True))
    return {name: values[name] for name in block.outputs}


@dataclass
class Passage:
    """Calls on their way through one function of a program.

    known   of each call, the values that are read later
    """

    program: Program
    graph: Graph
    envs: list[dict[str, int]]
    known: list[Values]

    @staticmethod
    def start(program: Program, function: str, calls: Sequence[Sequence[Tensor]]) -> Passage:
        graph = program.graphs[function]
        tensors = [check_inputs(graph, inputs) for inputs in calls]
        names = [v.name for v in graph.inputs]
        envs = [graph.bind(tuple(t.shape) for t in inputs) for inputs in tensors]
        return Passage(program, graph, envs, [dict(zip(names, i, strict=True)) for i in tensors])

    def constants(self, block: Block) -> Values:
        """The block's constants as they are stored now."""
        pool = self.program.constants
        return {name: pool[name].encoding.decode() for name in block.constants}

    def made(self, block: Block) -> list[Values]:
        """The block's outputs for each call."""
        constants = self.constants(block)
        with torch.no_grad():
            pairs = zip(self.envs, self.known, strict=True)
            return [run(block, env, known, constants) for env, known in pairs]

    def advance(self, made: Sequence[Values], needed: set[str]) -> None:
        """Go behind a block; only what is `needed` later is kept."""
        for known, values in zip(self.known, made, strict=True):
            known.update(values)
            for name in [n for n in known if n not in needed]:
                del known[name]


def side_by_side(
    program: Program,
    original: Program,
    function: str,
    calls: Sequence[Sequence[Tensor]],
    kind: Kind,
) -> Iterator[tuple[Block, Passage, list[Values]]]:
    """Each block, the calls before it in `program`, and what `original` gives there.

    The consumer may change the block's constants in `program`; what follows is computed with them.
    """
    now = Passage.start(program, function, calls)
    before = Passage.start(original, function, calls)
    found = blocks(now.graph, kind)
    needed = _needed(found)
    for block, later in zip(found, needed, strict=True):
        wanted = before.made(block)
        yield block, now, wanted
        now.advance(now.made(block), later)
        before.advance(wanted, later)


def _needed(found: Sequence[Block]) -> list[set[str]]:
    """Behind each block, the values that later ones read."""
    needed: list[set[str]] = []
    later: set[str] = set()
    for block in reversed(found):
        needed.append(set(later))
        later |= set(block.inputs)
    return needed[::-1]
