"""Running sums, and the k largest elements in order, along an axis of [outer, n, inner]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.element_types import const, storage
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.reduce import above, load, number_type, stored
from edgec.kernels.sweep import Columns, axis_items, over_columns


@dataclass(frozen=True)
class Cumsum(Kernel):
    """y[o, j, i] = x[o, 0, i] + .. + x[o, j, i], half precision in f32; integers wrap.

    Parameters  x T[outer, n, inner], y T[outer, n, inner]; outer, n, inner
    Items       outer * ceil(inner / 64)
    """

    family: ClassVar[str] = "cumsum"

    dtype: str = "float32"

    def parameters(self) -> tuple[Pointer | Size, ...]:
        x, y = Pointer("x", storage(self.dtype)), Pointer("y", storage(self.dtype), output=True)
        return (x, y, Size("outer"), Size("n"), Size("inner"))

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return axis_items(sizes, across=True)

    def emit(self, body: Body, isa: InstructionSet) -> None:
        x, y = body.buffer("x"), body.buffer("y")
        n, inner, computed = body["n"], body["inner"], number_type(self.dtype)

        def columns(outer: Any, c: Columns) -> None:
            total = c.registers(computed)

            def add(at: Any, i: Any) -> None:
                value = body.let(total[at] + load(x[i], self.dtype))
                body.store(total, value, at)
                body.store(y, stored(value, self.dtype), i)

            c.each(lambda at, _: body.store(total, const(0, computed), at))
            with body.loop(0, n) as j:
                base = body.let((outer * n + j) * inner)
                c.each(lambda at, i: add(at, base + i))

        with body.items() as item:
            over_columns(body, item, inner, columns)


@dataclass(frozen=True)
class Topk(Kernel):
    """The k first elements of x[o, :, i] in a stable sort, and their indices.

    By insertion: one comparison for most elements where k is small; k n / 2 steps at worst. NaN
    is greater than every number.

    Parameters  x T[outer, n, inner], values T[outer, k, inner], indices i64[the same];
                outer, n, inner, 0 <= k <= n
    Items       outer * inner
    """

    family: ClassVar[str] = "topk"

    largest: bool
    dtype: str = "float32"

    def parameters(self) -> tuple[Pointer | Size, ...]:
        values = Pointer("values", storage(self.dtype), output=True)
        indices = Pointer("indices", "int64", output=True)
        sizes = (Size("outer"), Size("n"), Size("inner"), Size("k"))
        return (Pointer("x", storage(self.dtype)), values, indices, *sizes)

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return dims.product([sizes["outer"], sizes["inner"]])

    def emit(self, body: Body, isa: InstructionSet) -> None:
        x, values, indices = (body.buffer(name) for name in ("x", "values", "indices"))
        n, k, inner = body["n"], body["k"], body["inner"]
        place = body.registers((1,), "int32")
        with body.items() as item:
            outer, column = body.let(item // inner), body.let(item % inner)
            source = body.let(outer * n * inner + column)
            to = body.let(outer * k * inner + column)

            def before(a: Any, at: Any) -> Any:
                """Whether a comes before the value that was found for a place."""
                return above(a, load(values[to + at * inner], self.dtype), self.largest, self.dtype)

            with body.when(k > 0), body.loop(0, n) as i:
                kept = body.let(T.min(i, k))
                value = body.let(x[source + i * inner])
                number = body.let(load(value, self.dtype))
                last = body.let(T.max(T.min(i, k) - 1, 0))
                with body.when(tir.Or(i < k, before(number, last))):
                    body.store(place, T.min(kept, k - 1), 0)
                    with T.While(tir.And(place[0] > 0, before(number, T.max(place[0] - 1, 0)))):
                        now = body.let(place[0])
                        body.store(values, values[to + (now - 1) * inner], to + now * inner)
                        body.store(indices, indices[to + (now - 1) * inner], to + now * inner)
                        body.store(place, now - 1, 0)
                    body.store(values, value, to + place[0] * inner)
                    body.store(indices, T.cast(i, "int64"), to + place[0] * inner)
