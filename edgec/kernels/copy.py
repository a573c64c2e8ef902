"""Copies between strided views: every op that only moves data is one or more of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body, outer_index
from edgec.kernels.deferred import T
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.sweep import each

#: What an element of so many bytes is moved as, whatever its type.
WORDS = {1: "int8", 2: "int16", 4: "int32", 8: "int64"}


@dataclass(frozen=True)
class Copy(Kernel):
    """y[sum_a i_a d_a] = x[sum_a i_a s_a] for all i in the box n_0 x .. x n_r.

    word_bytes  size of an element, whatever its type: 1, 2, 4 or 8
    unit        the last axis is dense on both sides: s = d = 1
    Sizes       n0.. extents, s0.. and d0.. strides in elements (0 repeats, negative reverses)
    Items       rows along the last axis
    """

    family: ClassVar[str] = "copy"

    rank: int
    word_bytes: int
    unit: bool

    def parameters(self) -> tuple[Pointer | Size, ...]:
        word = WORDS[self.word_bytes]
        sizes = [Size(f"{kind}{a}") for kind in "nsd" for a in range(self.rank)]
        return (Pointer("x", word), Pointer("y", word, output=True), *sizes)

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return dims.product([sizes[f"n{a}"] for a in range(self.rank - 1)])

    def item_elements(self, sizes: Mapping[str, Dim]) -> Dim:
        return sizes[f"n{self.rank - 1}"]

    def emit(self, body: Body, isa: InstructionSet) -> None:
        x, y = body.buffer("x"), body.buffer("y")
        last = self.rank - 1
        lanes = isa.lanes * 4 // self.word_bytes
        with body.items() as item:
            source, to = self._starts(body, item)
            count = body[f"n{last}"]
            if not self.unit:
                with body.loop(0, count) as i:
                    body.store(y, x[source + i * body[f"s{last}"]], to + i * body[f"d{last}"])
                return
            each(body, count, lambda i: body.store(y, x[source + i], to + i), lanes)

    def _starts(self, body: Body, item: Any) -> tuple[Any, Any]:
        """Offsets of a row in x and y."""
        axes = range(self.rank - 1)
        index = outer_index(body, item, [body[f"n{a}"] for a in axes])
        source, to = body.i32(0), body.i32(0)
        for axis, i in zip(axes, index, strict=True):
            source = source + i * body[f"s{axis}"]
            to = to + i * body[f"d{axis}"]
        return body.let(source), body.let(to)


@dataclass(frozen=True)
class Iota(Kernel):
    """y[i] = start + i step for i in [0, n).

    Sizes   n, start, step
    Items   one
    """

    family: ClassVar[str] = "iota"

    dtype: str

    def parameters(self) -> tuple[Pointer | Size, ...]:
        sizes = (Size("n"), Size("start"), Size("step"))
        return (Pointer("y", self.dtype, output=True), *sizes)

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return 1

    def emit(self, body: Body, isa: InstructionSet) -> None:
        y = body.buffer("y")
        with body.items():
            with body.loop(0, body["n"]) as i:
                body.store(y, T.cast(body["start"] + i * body["step"], self.dtype), i)
