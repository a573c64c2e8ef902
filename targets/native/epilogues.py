"""Elementwise nodes behind a product that the product's own kernel can compute as it stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edgec.ir import DType, Node, dims
from edgec.ir.dims import Dim, Shape
from edgec.kernels.steps import Epilogue, Extent, Step
from edgec.ops.movement import same_shapes
from edgec.targets.native.lower_elementwise import ELEMENTWISE, LONGEST_CHAIN, literal
from edgec.targets.native.views import View
from edgec.targets.native.writer import Writer


@dataclass
class Absorbed:
    """The chain that a product takes in.

    epilogue   for the kernel; its operands are `views`, row strides are those of `strides`
    last       the node whose result the kernel stores, None for the product's own
    """

    last: Node
    views: list[View] = field(default_factory=list)
    extents: list[Extent] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    strides: dict[str, Dim] = field(default_factory=dict)

    @property
    def epilogue(self) -> Epilogue:
        """Values numbered as the kernel has them: the element, the operands, the steps."""
        base = 1 + len(self.views)
        steps = tuple(
            Step(s.op, tuple(i if i >= 0 else base - 1 - i for i in s.inputs), s.dtype)
            for s in self.steps
        )
        return Epilogue(tuple(self.extents), steps)


#: How an operand follows a result of some shape, and the view that the kernel reads; None where it
#: cannot be an operand of the epilogue.
Follows = Callable[[View, Shape], tuple[Extent, View] | None]


def absorb(w: Writer, node: Node, follows: Follows | None = None) -> Absorbed:
    """Follow the result of `node` through its only users as far as they can be taken in.

    follows   of the kernel's layout; by default results are rows [*S, N], as a linear layer has

    While steps are gathered, value 0 is the element, i > 0 operand i, and -1 - s step s.
    """
    found = Absorbed(node)
    value = 0
    while len(found.steps) < LONGEST_CHAIN and w.only_user(found.last.output.name):
        (user,) = w.users_of(found.last.output.name)
        operands = _operands(w, found, user, value, follows or as_rows)
        if operands is None:
            break
        found.steps.append(Step(user.op, tuple(operands), "float32"))
        value = -len(found.steps)
        found.last = user
        w.absorbed.add(user.output.name)
    return found


def _operands(
    w: Writer, found: Absorbed, user: Node, value: int, follows: Follows
) -> list[int] | None:
    """Numbers of the values that a user reads; None where the kernel cannot compute it."""
    made, type = found.last.output, user.output.type
    fits = user.op.name in ELEMENTWISE and type.dtype is DType.F32
    if not fits or not same_shapes(type.shape, made.type.shape):
        return None
    others = [n for n in user.operands if n != made.name]
    read: dict[str, tuple[Extent, View]] = {}
    for name in others:
        if w.scalar(name) is None:
            fit = _available(w, name, type.shape, follows)
            if fit is None:
                return None
            read[name] = fit
    numbers: dict[str, int] = {made.name: value}
    for name in dict.fromkeys(others):
        number = w.scalar(name)
        if number is not None:
            found.steps.append(literal(number, w.graph.type(name).dtype))
            numbers[name] = -len(found.steps)
        else:
            numbers[name] = _added(found, *read[name])
    return [numbers[n] for n in user.operands]


def _added(found: Absorbed, extent: Extent, view: View) -> int:
    """Number of a further operand."""
    number = len(found.views) + 1
    found.extents.append(extent)
    found.views.append(view)
    if extent == "full":
        found.strides[f"e{number}_stride"] = view.strides[0]
    return number


def _available(w: Writer, name: str, shape: Shape, follows: Follows) -> tuple[Extent, View] | None:
    """How an operand follows the result, where it is f32 and exists already."""
    if not name.startswith("@") and name not in w.views:
        return None
    view = w.view(name)
    if view.type.dtype is not DType.F32:
        return None
    return ("scalar", view) if view.type.numel == 1 else follows(view, shape)


def as_rows(view: View, shape: Shape) -> tuple[Extent, View] | None:
    """Of a result [*S, N]: an element for each, by rows, or one for each n."""
    if same_shapes(view.shape, shape):
        rows = rows_of(view)
        return None if rows is None else ("full", rows)
    row = dims.same(view.type.numel, shape[-1]) and dims.same(view.shape[-1], shape[-1])
    return ("row", view) if row and view.is_dense else None


def as_channels(view: View, shape: Shape) -> tuple[Extent, View] | None:
    """Of a result [B, N, *O]: an element for each, or one for each channel n."""
    if same_shapes(view.shape, shape):
        return ("full", view) if view.is_dense else None
    axis = view.type.rank - (len(shape) - 1)
    channel = axis >= 0 and dims.same(view.type.numel, shape[1])
    return ("column", view) if channel and view.shape[axis] != 1 and view.is_dense else None


def rows_of(view: View) -> View | None:
    """The view as [M, N] with dense rows; None where no stride says it."""
    if view.type.rank == 0:
        return view.reshaped((1, 1))
    last = view.shape[-1]
    rows = view.reshaped((dims.product(view.shape[:-1]), last))
    if rows is None or not (last == 1 or rows.strides[1] == 1):
        return None
    return rows
