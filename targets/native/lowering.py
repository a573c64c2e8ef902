"""The table of lowerings: op name -> function `(w, node)` that appends calls, gives the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from edgec.ir import DType, Node, TensorType
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


def operand(w: Writer, node: Node, position: int) -> str | None:
    """Name of an operand, None where it is not given."""
    return node.inputs[position] if position < len(node.inputs) else None


def given(w: Writer, node: Node, position: int) -> str:
    """Name of an operand that is always given."""
    name = node.inputs[position]
    assert name is not None
    return name


def dense_as(w: Writer, name: str, dtype: DType) -> View:
    """An operand, row-major, in an element type that holds all its values."""
    from edgec.targets.native.lower_elementwise import cast

    view = w.dense(name)
    return view if view.type.dtype is dtype else cast(w, view, dtype)


def result(w: Writer, node: Node, type: TensorType | None = None) -> View:
    """Room for the node's (first) result."""
    return w.temporary(type or node.output.type, node.output.name)
