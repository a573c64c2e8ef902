"""Reductions along an axis, or along neighbouring axes as one.

Tensors are seen as [outer, n, inner]. Where inner is 1, lanes lie along n; `across` is the form for
any other inner, with lanes along it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.element_types import computed_in, const, from_storage, storage, to_storage
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.scalars import is_nan
from edgec.kernels.sweep import Columns, Combine, axis_items, fold, over_columns

Kind = Literal["sum", "mean", "max", "min"]


def is_float(dtype: str) -> bool:
    return "float" in dtype


def number_type(dtype: str) -> str:
    """What elements are computed in: truth values as the numbers 0 and 1."""
    return "uint8" if dtype == "bool" else computed_in(dtype)


def load(value: Any, dtype: str) -> Any:
    """An element of a buffer as a number."""
    return value if dtype == "bool" else from_storage(value, dtype)


def stored(value: Any, dtype: str) -> Any:
    """The number as an element of a buffer."""
    return value if dtype == "bool" else to_storage(value, dtype)


def least(dtype: str) -> Any:
    """The number below all others."""
    return const(-math.inf, dtype) if is_float(dtype) else tir.min_value(dtype)


def greatest(dtype: str) -> Any:
    return const(math.inf, dtype) if is_float(dtype) else tir.max_value(dtype)


def above(a: Any, b: Any, largest: bool, dtype: str) -> Any:
    """Whether a comes before b in the order of a largest-first (or smallest-first) sort.

    NaN is greater than every number, as torch.sort has it, and equal to itself.
    """
    before = a > b if largest else a < b
    if not is_float(dtype):
        return before
    first, second = (a, b) if largest else (b, a)
    return tir.Or(before, tir.And(is_nan(first), tir.Not(is_nan(second))))


def extremum(largest: bool, dtype: str) -> Combine:
    """The larger (or smaller) of two numbers, NaN where one is NaN."""

    def combine(m: Any, x: Any) -> Any:
        better = x > m if largest else x < m
        if is_float(dtype):
            better = tir.Or(better, is_nan(x))
        return tir.Select(better, x, m)

    return combine


@dataclass(frozen=True)
class Reduce(Kernel):
    """y[o, i] = sum, mean, max or min over j of x[o, j, i].

    Parameters  x T[outer, n, inner], y T[outer, inner]; outer, n, inner. Without `across` inner
                is 1.
    Fields      dtype: any; half precision is summed in f32, bool is "any" (max) or "all" (min)
    Values      sum of nothing 0, mean of nothing NaN; max and min are NaN where one element is,
                and need n >= 1. Integers wrap.
    Items       outer; across: outer * ceil(inner / 64)
    """

    family: ClassVar[str] = "reduce"

    kind: Kind
    dtype: str = "float32"
    across: bool = False

    def parameters(self) -> tuple[Pointer | Size, ...]:
        return (*_tensors(self.dtype, self.dtype), *_SIZES)

    def item_elements(self, sizes: Mapping[str, Dim]) -> Dim:
        return sizes["n"]

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return axis_items(sizes, self.across)

    def emit(self, body: Body, isa: InstructionSet) -> None:
        x, y = body.buffer("x"), body.buffer("y")
        start, combine = self._rule()
        n, inner = body["n"], body["inner"]

        def row(item: Any) -> None:
            total = fold(body, n, start, lambda i: load(x[item * n + i], self.dtype), combine)
            body.store(y, self._finished(total, n), item)

        def columns(outer: Any, c: Columns) -> None:
            total = c.registers(number_type(self.dtype))
            c.each(lambda at, _: body.store(total, start, at))
            with body.loop(0, n) as j:
                base = body.let((outer * n + j) * inner)
                c.each(
                    lambda at, i: body.store(
                        total, combine(total[at], load(x[base + i], self.dtype)), at
                    )
                )
            c.each(lambda at, i: body.store(y, self._finished(total[at], n), outer * inner + i))

        with body.items() as item:
            over_columns(body, item, inner, columns) if self.across else row(item)

    def _rule(self) -> tuple[Any, Combine]:
        kind, computed = self.kind, number_type(self.dtype)
        if kind in ("max", "min"):
            start = least(computed) if kind == "max" else greatest(computed)
            return start, extremum(kind == "max", computed)
        return const(0, computed), lambda a, b: a + b

    def _finished(self, total: Any, n: Any) -> Any:
        if self.kind == "mean":
            total = total / T.cast(n, number_type(self.dtype))
        return stored(total, self.dtype)


@dataclass(frozen=True)
class Arg(Kernel):
    """y[o, i] = the index j of the largest (or smallest) x[o, j, i], the first of equal ones.

    NaN counts as larger, and as smaller, than every number, as in torch.

    Parameters  x T[outer, n, inner], y i64[outer, inner]; outer, n >= 1, inner. Without `across`
                inner is 1.
    Items       as Reduce
    """

    family: ClassVar[str] = "arg"

    largest: bool
    dtype: str = "float32"
    across: bool = False

    def parameters(self) -> tuple[Pointer | Size, ...]:
        return (*_tensors(self.dtype, "int64"), *_SIZES)

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return axis_items(sizes, self.across)

    def emit(self, body: Body, isa: InstructionSet) -> None:
        with body.items() as item:
            if self.across:
                over_columns(body, item, body["inner"], lambda o, c: self._columns(body, o, c))
            else:
                self._row(body, item)

    def _row(self, body: Body, item: Any) -> None:
        """The extremum first, then the smallest index that has it: both are plain reductions."""
        x, y, n = body.buffer("x"), body.buffer("y"), body["n"]
        computed, behind = number_type(self.dtype), body.i32(2**31 - 1)
        start = least(computed) if self.largest else greatest(computed)

        def value(i: Any) -> Any:
            return load(x[item * n + i], self.dtype)

        m = fold(body, n, start, value, extremum(self.largest, computed))

        def place(i: Any) -> Any:
            hit = tir.EQ(value(i), m)
            if is_float(computed):  # where m is no NaN there is none, and else the first counts
                hit = tir.Or(hit, is_nan(value(i)))
            return tir.Select(hit, i, behind)

        at = fold(body, n, behind, place, lambda a, b: tir.Select(b < a, b, a))
        body.store(y, T.cast(at, "int64"), item)

    def _columns(self, body: Body, outer: Any, c: Columns) -> None:
        x, y, n, inner = body.buffer("x"), body.buffer("y"), body["n"], body["inner"]
        computed = number_type(self.dtype)
        m, found = c.registers(computed), c.registers("int32")

        def one(at: Any, i: Any, j: Any) -> None:
            value = body.let(load(x[i], self.dtype))
            better = _before(value, m[at], self.largest, computed)
            body.store(found, tir.Select(better, j, found[at]), at)
            body.store(m, tir.Select(better, value, m[at]), at)

        c.each(lambda at, i: body.store(m, load(x[outer * n * inner + i], self.dtype), at))
        c.each(lambda at, _: body.store(found, body.i32(0), at))
        with body.loop(1, n) as j:
            base = body.let((outer * n + j) * inner)
            c.each(lambda at, i: one(at, base + i, j))
        c.each(lambda at, i: body.store(y, T.cast(found[at], "int64"), outer * inner + i))


def _before(x: Any, m: Any, largest: bool, dtype: str) -> Any:
    """Whether x is a better extremum than m; a NaN is, but not than another."""
    better = x > m if largest else x < m
    if is_float(dtype):
        better = tir.Or(better, tir.And(is_nan(x), tir.Not(is_nan(m))))
    return better


_SIZES = (Size("outer"), Size("n"), Size("inner"))


def _tensors(x: str, y: str) -> tuple[Pointer, Pointer]:
    return Pointer("x", storage(x)), Pointer("y", storage(y), output=True)
