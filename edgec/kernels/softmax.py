"""softmax and log_softmax along an axis of [outer, n, inner]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels import scalars
from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.element_types import (
    computed_in,
    const,
    dtype_of,
    from_storage,
    storage,
    to_storage,
)
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.sweep import Columns, axis_items, each, fold, over_columns


@dataclass(frozen=True)
class Softmax(Kernel):
    """y[o, j, i] = exp(x[o, j, i] - m) / sum_j exp(x[o, j, i] - m),   m = max_j x[o, j, i].

    Where all elements are -inf, or one is NaN or inf, all results are NaN.

    Parameters  x T[outer, n, inner], y T[outer, n, inner]; outer, n, inner. Without `across` inner
                is 1, and lanes lie along n.
    Fields      log: the logarithm of it; dtype: half precision is computed in f32
    Items       outer; across: outer * ceil(inner / 64)
    """

    family: ClassVar[str] = "softmax"

    log: bool = False
    dtype: str = "float32"
    across: bool = False

    def parameters(self) -> tuple[Pointer | Size, ...]:
        x, y = Pointer("x", storage(self.dtype)), Pointer("y", storage(self.dtype), output=True)
        return (x, y, Size("outer"), Size("n"), Size("inner"))

    def item_elements(self, sizes: Mapping[str, Dim]) -> Dim:
        return dims.normal(6 * sizes["n"])

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return axis_items(sizes, self.across)

    def emit(self, body: Body, isa: InstructionSet) -> None:
        with body.items() as item:
            if self.across:
                over_columns(body, item, body["inner"], partial(self._columns, body), unroll=1)
            else:
                self._row(body, item)

    def _row(self, body: Body, row: Any) -> None:
        x, y, n = body.buffer("x"), body.buffer("y"), body["n"]
        computed = computed_in(self.dtype)
        start = body.let(row * n)

        def value(i: Any) -> Any:
            return from_storage(x[start + i], self.dtype)

        m = fold(body, n, const(-math.inf, computed), value, _larger)
        kept = self.dtype == "float32" and not self.log  # y holds the exponentials meanwhile

        def exponential(i: Any) -> Any:
            e = body.let(_exp(value(i) - m))
            if kept:
                body.store(y, e, start + i)
            return e

        total = fold(body, n, const(0, computed), exponential, _add, unroll=2)
        if self.log:
            shift = body.let(_log(total))
            each(
                body,
                n,
                lambda i: body.store(y, self._log_of(value(i) - m, shift), start + i),
            )
            return
        scale = body.let(const(1, computed) / total)
        if kept:
            each(body, n, lambda i: body.store(y, y[start + i] * scale, start + i))
        else:
            each(body, n, lambda i: body.store(y, self._stored(value(i) - m, scale), start + i))

    def _columns(self, body: Body, outer: Any, c: Columns) -> None:
        x, y, n, inner = body.buffer("x"), body.buffer("y"), body["n"], body["inner"]
        computed = computed_in(self.dtype)
        m, total = c.registers(computed), c.registers(computed)

        def value(i: Any) -> Any:
            return from_storage(x[i], self.dtype)

        def sweep(visit: Any) -> None:
            with body.loop(0, n) as j:
                base = body.let((outer * n + j) * inner)
                c.each(lambda at, i: visit(at, base + i))

        c.each(lambda at, _: body.store(m, const(-math.inf, computed), at))
        c.each(lambda at, _: body.store(total, const(0, computed), at))
        sweep(lambda at, i: body.store(m, _larger(m[at], value(i)), at))
        sweep(lambda at, i: body.store(total, total[at] + _exp(value(i) - m[at]), at))
        if self.log:
            c.each(lambda at, _: body.store(total, _log(total[at]), at))
            sweep(lambda at, i: body.store(y, self._log_of(value(i) - m[at], total[at]), i))
        else:
            one = const(1, computed)
            c.each(lambda at, _: body.store(total, one / total[at], at))
            sweep(lambda at, i: body.store(y, self._stored(value(i) - m[at], total[at]), i))

    def _log_of(self, shifted: Any, log_total: Any) -> Any:
        return to_storage(shifted - log_total, self.dtype)

    def _stored(self, shifted: Any, scale: Any) -> Any:
        return to_storage(_exp(shifted) * scale, self.dtype)


def _larger(m: Any, x: Any) -> Any:
    """Drops NaN: it comes back by exp(NaN - m), which makes the sum NaN."""
    return tir.Select(x > m, x, m)


def _add(a: Any, b: Any) -> Any:
    return a + b


def _exp(x: Any) -> Any:
    """For x <= 0."""
    return scalars.exp_negative(x) if dtype_of(x) == "float32" else T.exp(x)


def _log(x: Any) -> Any:
    return scalars.log(x) if dtype_of(x) == "float32" else T.log(x)
