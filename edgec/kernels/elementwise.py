"""The kernel of fused groups of elementwise ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body, outer_index
from edgec.kernels.deferred import T
from edgec.kernels.element_types import const, from_storage, storage, to_storage
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.op_expressions import step_value
from edgec.kernels.steps import Step
from edgec.kernels.sweep import each

#: Elements of one item where all axes are one.
BLOCK = 4096


@dataclass(frozen=True)
class Operand:
    """An operand of a fused group: element type, and along which axes it has an extent."""

    dtype: str
    axes: tuple[bool, ...]


@dataclass(frozen=True)
class Elementwise(Kernel):
    """y[i_0, .., i_r] = chain(x_0[..], x_1[..], ...), every operand broadcast along some axes.

    operands   each is row-major over the axes that it has
    steps      the last one is stored
    Sizes      n0, n1, ...: extents of the axes
    Items      blocks of BLOCK elements with one axis, else rows along the last axis
    """

    family: ClassVar[str] = "elementwise"

    rank: int
    operands: tuple[Operand, ...]
    steps: tuple[Step, ...]

    @property
    def result(self) -> str:
        return self.steps[-1].dtype

    def parameters(self) -> tuple[Pointer | Size, ...]:
        inputs = [Pointer(f"x{i}", storage(o.dtype)) for i, o in enumerate(self.operands)]
        sizes = [Size(f"n{a}") for a in range(self.rank)]
        return (*inputs, Pointer("y", storage(self.result), output=True), *sizes)

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        if self.rank == 1:
            return dims.floordiv(dims.normal(sizes["n0"] + BLOCK - 1), BLOCK)
        return dims.product([sizes[f"n{a}"] for a in range(self.rank - 1)])

    def item_elements(self, sizes: Mapping[str, Dim]) -> Dim:
        return BLOCK if self.rank == 1 else sizes[f"n{self.rank - 1}"]

    def emit(self, body: Body, isa: InstructionSet) -> None:
        extents = [body[f"n{a}"] for a in range(self.rank)]
        views = [body.buffer(f"x{i}") for i in range(len(self.operands))]
        y = body.buffer("y")
        with body.items() as item:
            outer = self._outer(body, item, extents)
            last = extents[-1]
            count = last
            if self.rank == 1:
                count = body.let(T.min(last - item * BLOCK, body.i32(BLOCK)))
            starts = [body.let(self._start(o, outer, extents)) for o in self.operands]
            start = body.let(item * BLOCK if self.rank == 1 else item * last)

            def element(i: Any) -> None:
                loaded = [
                    from_storage(v[s + i if o.axes[-1] else s], o.dtype)
                    for v, s, o in zip(views, starts, self.operands, strict=True)
                ]
                body.store(y, to_storage(self._value(loaded), self.result), start + i)

            each(body, count, element)

    def _outer(self, body: Body, item: Any, extents: Sequence[Any]) -> list[Any]:
        """Indices of all axes but the last; with one axis, the block's first element."""
        if self.rank == 1:
            return [item * BLOCK]
        return outer_index(body, item, extents[:-1])

    def _start(self, operand: Operand, outer: Sequence[Any], extents: Sequence[Any]) -> Any:
        """Offset of an operand's element at the start of a row."""
        if self.rank == 1:
            return outer[0] if operand.axes[0] else const(0, "int32")
        offset = const(0, "int32")
        for index, extent, present in zip(outer, extents, operand.axes, strict=False):
            if present:
                offset = offset * extent + index
        return offset * extents[-1] if operand.axes[-1] else offset

    def _value(self, loaded: list[Any]) -> Any:
        values = list(loaded)
        for step in self.steps:
            values.append(step_value(step, [values[i] for i in step.inputs]))
        return values[-1]
