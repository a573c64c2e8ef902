"""eliminate-dead-code: nodes and constants that no output needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgec.context import NOTHING, Context
from edgec.ir import Exactness, Graph, Node, Program
from edgec.transform import Pass, PassResult


@dataclass(frozen=True)
class EliminateDeadCode(Pass):
    """Drop nodes whose results nothing reads, and constants that no function refers to.

    Given    %a = relu(%x)    %b = neg(%x)    return %a
    Result   %a = relu(%x)    return %a

    Keeps    inputs, also those that are not read: they are part of the signature
    Effect   EXACT
    """

    name: ClassVar[str] = "eliminate-dead-code"
    effect: ClassVar[Exactness] = Exactness.EXACT

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        after = program.map_graphs(_live).drop_unused_constants()
        return PassResult(after, _size(after) != _size(program))


def _live(graph: Graph) -> Graph:
    """The graph with only the nodes that its outputs need."""
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(v.name in needed for v in node.outputs):
            kept.append(node)
            needed.update(node.operands)
    return graph.replace(nodes=kept[::-1])


def _size(program: Program) -> tuple[int, int]:
    return len(program.constants), sum(len(g.nodes) for g in program.graphs.values())
