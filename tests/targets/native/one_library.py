"""Programs as functions of one library: a kernel that several of them need is compiled once."""

from __future__ import annotations

import dataclasses

from edgec.ir import Constant, Node, Program


def add(program: Program, other: Program, name: str) -> None:
    """Add the main function of `other` under a name of its own, and its constants likewise."""
    names = {f"@{c}": f"@{name}_{c}" for c in other.constants}
    for constant in other.constants.values():
        own = f"{name}_{constant.name}"
        program.constants[own] = Constant(own, constant.encoding)

    def renamed(node: Node) -> Node:
        return node.renamed(names)

    graph = other.main.map_nodes(renamed)
    outputs = tuple(names.get(o, o) for o in graph.outputs)
    program.graphs[name] = dataclasses.replace(
        graph, name=name, outputs=outputs, constants=program.constants
    )
