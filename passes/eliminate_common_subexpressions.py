"""eliminate-common-subexpressions: compute and store everything once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from edgec.context import NOTHING, Context
from edgec.ir import Constant, Exactness, Graph, Node, Program
from edgec.ir.pattern import COMMUTATIVE
from edgec.ir.rewrite import rename_constants
from edgec.transform import Pass, PassResult


@dataclass(frozen=True)
class EliminateCommonSubexpressions(Pass):
    """Merge nodes of equal op, attributes and operands, and constants of equal content.

    Given    %a = add(%x, %y)    %b = add(%y, %x)    %c = mul(%a, %b)
    Result   %a = add(%x, %y)    %c = mul(%a, %a)

    Keeps    the first of equal nodes and of equal constants, with its name
    Effect   EXACT
    """

    name: ClassVar[str] = "eliminate-common-subexpressions"
    effect: ClassVar[Exactness] = Exactness.EXACT

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        renames = _equal_constants(program.constants)
        merged = rename_constants(program, renames)
        after = merged.map_graphs(_once)
        dropped = [len(a.nodes) != len(b.nodes) for a, b in _pairs(merged, after)]
        return PassResult(after, bool(renames) or any(dropped))


def _pairs(a: Program, b: Program) -> list[tuple[Graph, Graph]]:
    return list(zip(a.graphs.values(), b.graphs.values(), strict=True))


# ------------------------------------------------------------------ constants
def _equal_constants(pool: dict[str, Constant]) -> dict[str, str]:
    """Name -> name of the first constant with the same content."""
    groups: defaultdict[Hashable, list[Constant]] = defaultdict(list)
    for constant in pool.values():
        encoding = constant.encoding
        groups[str(constant.type), encoding.describe(), encoding.nbytes].append(constant)
    renames: dict[str, str] = {}
    for group in groups.values():
        first: dict[str, str] = {}
        for constant in group if len(group) > 1 else ():
            name = first.setdefault(constant.encoding.digest, constant.name)
            if name != constant.name:
                renames[constant.name] = name
    return renames


# ------------------------------------------------------------------ nodes
def _once(graph: Graph) -> Graph:
    alias: dict[str, str] = {}
    first: dict[Hashable, Node] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        node = node.renamed(alias)
        known = first.setdefault(_key(node), node)
        if known is node:
            kept.append(node)
        else:
            pairs = zip(node.outputs, known.outputs, strict=True)
            alias |= {own.name: other.name for own, other in pairs}
    outputs = tuple(alias.get(o, o) for o in graph.outputs)
    return graph.replace(nodes=kept, outputs=outputs)


def _key(node: Node) -> Hashable:
    """Equal for nodes that compute the same. An op's text tells 0.0 from -0.0, 1 from True."""
    inputs = node.inputs
    if node.op.name in COMMUTATIVE:
        inputs = tuple(sorted(inputs, key=str))
    return repr(node.op), inputs
