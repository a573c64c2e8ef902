"""Rows and elements by index. Indices are in range: callers check them first.

Elements are words of 1, 2, 4 or 8 bytes, whatever their type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.copy import WORDS
from edgec.kernels.deferred import T
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.sweep import each


@dataclass(frozen=True)
class Selection(Kernel):
    """What the kernels of this file share: word_bytes of an element, dtype of the indices."""

    word_bytes: int = 4
    ids: str = "int64"

    def item_elements(self, sizes: Mapping[str, Dim]) -> Dim:
        return sizes["inner"]

    def tensors(self, *ids: str) -> tuple[Pointer, ...]:
        word = WORDS[self.word_bytes]
        given = [Pointer(name, self.ids) for name in ids]
        return (Pointer("x", word), *given, Pointer("y", word, output=True))


@dataclass(frozen=True)
class _AlongAxis(Selection):
    """Selections along the middle axis of x [outer, rows, inner], into y [outer, count, inner]."""

    def parameters(self) -> tuple[Pointer | Size, ...]:
        return (*self.tensors("ids"), *map(Size, ("outer", "rows", "count", "inner")))

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return dims.product([sizes["outer"], sizes["count"]])


@dataclass(frozen=True)
class Gather(_AlongAxis):
    """y[o, i, :] = x[o, ids[i], :].

    Parameters  x [outer, rows, inner], ids [count], y [outer, count, inner];
                outer, rows, count, inner
    Items       outer * count
    """

    family: ClassVar[str] = "gather"

    def emit(self, body: Body, isa: InstructionSet) -> None:
        x, ids, y = (body.buffer(name) for name in ("x", "ids", "y"))
        rows, count, inner = body["rows"], body["count"], body["inner"]
        with body.items() as item:
            row = item // count * rows + T.cast(ids[item % count], "int32")
            source, to = body.let(row * inner), body.let(item * inner)
            each(body, inner, lambda i: body.store(y, x[source + i], to + i))


@dataclass(frozen=True)
class TakeAlong(_AlongAxis):
    """y[o, j, i] = x[o, ids[o, j, i], i].

    Parameters  x [outer, rows, inner], ids and y [outer, count, inner];
                outer, rows, count, inner. An x with larger axes than ids is cut to them first.
    Items       outer * count
    """

    family: ClassVar[str] = "take_along"

    def emit(self, body: Body, isa: InstructionSet) -> None:
        x, ids, y = (body.buffer(name) for name in ("x", "ids", "y"))
        rows, count, inner = body["rows"], body["count"], body["inner"]
        with body.items() as item:
            first, to = body.let(item // count * rows), body.let(item * inner)
            with body.loop(0, inner) as i:
                row = first + T.cast(ids[to + i], "int32")
                body.store(y, x[row * inner + i], to + i)


@dataclass(frozen=True)
class GatherNd(Selection):
    """y[i, :] = x[ids_0[i], .., ids_m[i], :].

    Parameters  x [n0, .., nm, inner], ids0.. [count] each, y [count, inner];
                n0, .., nm, count, inner. Indices that broadcast are expanded first.
    Fields      axes: m + 1, the number of index operands
    Items       count
    """

    family: ClassVar[str] = "gather_nd"

    axes: int = 1

    def parameters(self) -> tuple[Pointer | Size, ...]:
        sizes = [Size(f"n{a}") for a in range(self.axes)]
        names = [f"ids{a}" for a in range(self.axes)]
        return (*self.tensors(*names), *sizes, Size("count"), Size("inner"))

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return sizes["count"]

    def emit(self, body: Body, isa: InstructionSet) -> None:
        x, y, inner = body.buffer("x"), body.buffer("y"), body["inner"]
        indices = [body.buffer(f"ids{a}") for a in range(self.axes)]
        with body.items() as item:
            row: Any = body.i32(0)
            for a, ids in enumerate(indices):
                row = row * body[f"n{a}"] + T.cast(ids[item], "int32")
            source, to = body.let(row * inner), body.let(item * inner)
            each(body, inner, lambda i: body.store(y, x[source + i], to + i))
