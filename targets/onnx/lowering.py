"""The table of lowerings, and what surrounds each: operands, element types, names.

A lowering is a function `(w, node, *operands) -> name or names` that appends ONNX nodes. It
receives its operands in the type `w.kernel`; an operand that is not given is None, or is missing at
the end. A weight, at the position that `lowers(..., weight=)` says, arrives as a Constant where it
is one, so that the encoding decides; all other constants arrive decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from edgec.ir import Constant, DType, Node, TensorType
from edgec.targets.onnx.decode import decoded
from edgec.targets.onnx.legal import compute_type, data_type
from edgec.targets.onnx.writer import Name, Writer

Weight: TypeAlias = Constant | Name
Result: TypeAlias = Name | tuple[Name, ...]
Lowering: TypeAlias = Callable[..., Result]

LOWERINGS: dict[str, Lowering] = {}
WEIGHTS: dict[str, int] = {}  # op -> position of the operand that may come as a Constant


def lowers(*ops: str, weight: int | None = None) -> Callable[[Any], Any]:
    """Register the lowering of ops; `weight` is the position of an operand that is left encoded."""

    def register(function: Any) -> Any:
        for op in ops:
            LOWERINGS[op] = function
            if weight is not None:
                WEIGHTS[op] = weight
        return function

    return register


def lower(w: Writer, node: Node) -> tuple[Name, ...]:
    """Append the nodes of one IR node; the names of its results."""
    types = [None if n is None else w.graph.type(n) for n in node.inputs]
    data, kernel = data_type(node.op, types), compute_type(node.op, types)
    assert kernel is not None, f"{node.op} of {data}: legal.py promised a kernel"
    w.kernel = kernel
    operands = [
        None if name is None else _operand(w, node, i, data) for i, name in enumerate(node.inputs)
    ]
    made = LOWERINGS[node.op.name](w, node, *operands)
    results = made if isinstance(made, tuple) else (made,)
    return tuple(
        _restored(w, name, value.type, data)
        for name, value in zip(results, node.outputs, strict=True)
    )


def _operand(w: Writer, node: Node, position: int, data: DType | None) -> Weight:
    """An operand in the kernel's type, if it is of the op's data type."""
    name = node.inputs[position]
    assert name is not None
    constant = w.graph.constant(name)
    own = node.op.name == "where" and position == 0  # a condition is bool in every kernel
    same_type = own or w.graph.type(name).dtype is not data or data is w.kernel
    if constant is not None and same_type and WEIGHTS.get(node.op.name) == position:
        return constant
    value = dense(w, constant) if constant is not None else w.local(name)
    return value if same_type else w.cast(value, w.kernel)


def dense(w: Writer, weight: Weight) -> Name:
    """A weight as a dense tensor."""
    return decoded(w, weight) if isinstance(weight, Constant) else weight


def _restored(w: Writer, name: Name, declared: TensorType, data: DType | None) -> Name:
    """A result in its declared type, where the kernel had a wider one."""
    if declared.dtype is data and data is not w.kernel:
        return w.cast(name, declared.dtype)
    return name


def operand_type(w: Writer, node: Node, position: int) -> TensorType:
    """Type of an operand that is given."""
    name = node.inputs[position]
    assert name is not None
    return w.graph.type(name)
