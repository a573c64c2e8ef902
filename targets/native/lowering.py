"""The table of lowerings: op name -> function `(w, node)` that appends calls, gives the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from edgec.ir import Node
from edgec.ir.text import show_node
from edgec.targets.native.views import View
from edgec.targets.native.writer import Writer

Lowering: TypeAlias = Callable[[Writer, Node], View | Sequence[View]]

LOWERINGS: dict[str, Lowering] = {}


def lowers(*ops: str) -> Callable[[Lowering], Lowering]:
    """Register the lowering of ops."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(ops, function))
        return function

    return register


def lower(w: Writer, node: Node) -> None:
    """Append the calls of one node, and say where its results are."""
    w.comment(show_node(node))
    made = LOWERINGS[node.op.name](w, node)
    views = [made] if isinstance(made, View) else list(made)
    for value, view in zip(node.outputs, views, strict=True):
        assert view.type.same(value.type), f"{node.op}: {view.type} for {value.type}"
        w.define(value.name, view)


def operand(node: Node, position: int) -> str | None:
    """Name of an operand, None where it is not given."""
    return node.inputs[position] if position < len(node.inputs) else None


def given(node: Node, position: int) -> str:
    """Name of an operand that is always given."""
    name = node.inputs[position]
    assert name is not None
    return name


def result(w: Writer, node: Node) -> View:
    """Room for the node's (first) result."""
    return w.temporary(node.output.type, node.output.name)
