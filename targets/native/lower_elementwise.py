"""Elementwise ops: chains of one shape become one kernel."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgec.ir import DType, Node, TensorType, dims
from edgec.ir.dims import Dim, Shape
from edgec.kernels.elementwise import Elementwise, Operand
from edgec.kernels.op_expressions import SCALARS, has_vectors
from edgec.kernels.steps import Step
from edgec.ops.creation import Full
from edgec.ops.elementwise import Add, Cast
from edgec.ops.movement import same_shapes
from edgec.targets.native.lowering import lowers, result
from edgec.targets.native.views import View
from edgec.targets.native.writer import TVM_TYPES, Writer

ELEMENTWISE = (*SCALARS, "cast")

#: Nodes that one kernel takes in: enough for what models have, and LLVM takes longer than linearly.
LONGEST_CHAIN = 64


@dataclass
class Chain:
    """Steps that are gathered for one kernel, over the names of the operands that it loads.

    A value is ("x", i) for operand i or ("s", i) for the result of step i.
    """

    operands: dict[str, int] = field(default_factory=dict)
    steps: list[tuple[Step, tuple[tuple[str, int], ...]]] = field(default_factory=list)
    made: dict[str, tuple[str, int]] = field(default_factory=dict)

    def finished(self) -> tuple[Step, ...]:
        """The steps with values numbered: operands first."""
        base = len(self.operands)

        def number(value: tuple[str, int]) -> int:
            return value[1] if value[0] == "x" else base + value[1]

        return tuple(
            Step(step.op, tuple(number(v) for v in values), step.dtype)
            for step, values in self.steps
        )


@lowers(*ELEMENTWISE)
def elementwise(w: Writer, node: Node) -> View:
    """The node with all it can take in: producers that nobody else reads, of the same shape."""
    chain = Chain()
    _gather(w, node, chain)
    to = result(w, node)
    _emit(w, chain, to)
    return to


def is_deferred(w: Writer, node: Node) -> bool:
    """Whether an elementwise node is left to its only user, which is elementwise of its shape."""
    if node.op.name not in ELEMENTWISE or not w.only_user(node.output.name):
        return False
    if not has_vectors(node.op, TVM_TYPES[node.output.type.dtype]):
        return False
    (user,) = w.users_of(node.output.name)
    shape = node.output.type.shape
    fits = user.op.name in ELEMENTWISE and same_shapes(user.output.type.shape, shape)
    return fits and _count(w, node) < LONGEST_CHAIN


def _count(w: Writer, node: Node) -> int:
    """Nodes of the chain that ends with a node, as far as it was deferred."""
    before = [w.deferred[n] for n in dict.fromkeys(node.operands) if n in w.deferred]
    return 1 + sum(_count(w, n) for n in before)


def _gather(w: Writer, node: Node, chain: Chain) -> tuple[str, int]:
    """Append the steps of a node; what it reads first."""
    values = tuple(_value(w, name, chain) for name in node.operands)
    step = Step(node.op, (), TVM_TYPES[node.output.type.dtype])
    chain.steps.append((step, values))
    return "s", len(chain.steps) - 1


def _value(w: Writer, name: str, chain: Chain) -> tuple[str, int]:
    if name not in chain.made:
        chain.made[name] = _new_value(w, name, chain)
    return chain.made[name]


def _new_value(w: Writer, name: str, chain: Chain) -> tuple[str, int]:
    if (deferred := w.deferred.get(name)) is not None:
        return _gather(w, deferred, chain)
    number = w.scalar(name)
    if number is not None:
        chain.steps.append((literal(number, w.graph.type(name).dtype), ()))
        return "s", len(chain.steps) - 1
    return "x", chain.operands.setdefault(name, len(chain.operands))


def _emit(w: Writer, chain: Chain, to: View) -> None:
    views = [_broadcastable(w, name, to.shape) for name in chain.operands]
    run(w, views, chain.finished(), to)


def run(w: Writer, views: list[View], steps: tuple[Step, ...], to: View) -> None:
    """One call: operands that broadcast to the shape of `to`, which is row-major."""
    axes = _collapsed([v.type for v in views], to.shape)
    operands = tuple(
        Operand(TVM_TYPES[v.type.dtype], tuple(present[i] for _, present in axes))
        for i, v in enumerate(views)
    )
    kernel = Elementwise(len(axes), operands, steps)
    sizes: dict[str, Dim | float] = {f"n{a}": n for a, (n, _) in enumerate(axes)}
    w.call(kernel, [*views, to], **sizes)


def literal(value: float | int | bool, dtype: DType) -> Step:
    """A number as a step without operands."""
    return Step(Full((), value, dtype), (), TVM_TYPES[dtype])


def fill(w: Writer, to: View, value: float) -> None:
    """One value everywhere in a row-major view."""
    run(w, [], (literal(value, to.type.dtype),), to)


def sum_of(w: Writer, a: View, b: View) -> View:
    """a + b, row-major, where b broadcasts to the shape of a."""
    to = w.temporary(a.type, a.storage.name)
    run(w, [a, b], (Step(Add(), (0, 1), TVM_TYPES[a.type.dtype]),), to)
    return to


def cast(w: Writer, view: View, dtype: DType) -> View:
    """A row-major view in another element type."""
    to = w.temporary(view.type.with_dtype(dtype), view.storage.name)
    run(w, [view], (Step(Cast(dtype), (0,), TVM_TYPES[dtype]),), to)
    return to


def dense_as(w: Writer, name: str, dtype: DType) -> View:
    """An operand, row-major, in an element type that holds all its values."""
    view = w.dense(name)
    return view if view.type.dtype is dtype else cast(w, view, dtype)


def _broadcastable(w: Writer, name: str, shape: Shape) -> View:
    """An operand row-major over the axes that it has; a repeated axis is a stride of 0 in the call.

    A view that repeats elements (an expand) is taken without its repetition.
    """
    view = w.view(name)
    if view.is_dense:
        return view
    sizes = tuple(1 if s == 0 else n for n, s in zip(view.shape, view.strides, strict=True))
    shrunk = View(view.storage, view.type.with_shape(*sizes), view.strides, view.offset)
    return shrunk if shrunk.is_dense else w.dense(name)


def _collapsed(types: list[TensorType], shape: Shape) -> list[tuple[Dim, tuple[bool, ...]]]:
    """(extent, which operands have the axis), adjacent axes of equal use merged."""
    axes: list[tuple[Dim, tuple[bool, ...]]] = []
    for a, n in enumerate(shape):
        if n == 1:
            continue
        present = tuple(_has_axis(t, a - len(shape), n) for t in types)
        if axes and axes[-1][1] == present:
            axes[-1] = (dims.normal(axes[-1][0] * n), present)
        else:
            axes.append((n, present))
    return axes or [(1, tuple(True for _ in types))]


def _has_axis(type: TensorType, axis: int, extent: Dim) -> bool:
    """Whether an operand has elements along an axis (counted from the back) of the result."""
    return -axis <= type.rank and type.shape[axis] != 1
