"""Sweeps over the elements of an axis: whole vectors, then the rest one by one; and sums of them.

Functions that are called for an element are called while code is written: with the expression of
its index, inside of a vector loop or a plain one, so that one function gives both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.deferred import T
from edgec.kernels.element_types import dtype_of

Element = Callable[[Any], Any]
Combine = Callable[[Any, Any], Any]

#: Vectors in flight, so that sums do not wait for one another.
UNROLL = 4

#: Columns of one item where lanes lie across the reduced axis.
COLUMNS = 64


def each(body: Body, count: Any, element: Element, lanes: int = 0) -> None:
    """element(i) for 0 <= i < count; `lanes` of a vector where elements are not of four bytes."""
    lanes = lanes or body.isa.lanes
    with body.loop(0, count // lanes) as v, body.vector(lanes) as lane:
        element(v * lanes + lane)
    done = body.let(count // lanes * lanes)
    with body.loop(0, count - done) as i:
        element(done + i)


def fold(
    body: Body,
    count: Any,
    start: Any,
    element: Element,
    combine: Combine,
    unroll: int = UNROLL,
) -> Any:
    """combine over element(i), 0 <= i < count, and `start`, the value that changes nothing.

    The order is the same for one count: partial results of each lane, combined as a tree.
    """
    lanes, dtype = body.isa.lanes, dtype_of(start)
    partial = body.registers((unroll * lanes,), dtype)
    with body.vector(lanes) as lane:
        for u in range(unroll):
            body.store(partial, start, u * lanes + lane)
    width = unroll * lanes

    def vectors(first: Any, last: Any, group: int) -> None:
        with body.loop(first, last) as v:
            for u in range(group):
                with body.vector(lanes) as lane:
                    value = element((v * group + u) * lanes + lane)
                    at = u * lanes + lane
                    body.store(partial, combine(partial[at], value), at)

    vectors(0, count // width, unroll)
    if unroll > 1:
        vectors(count // width * unroll, count // lanes, 1)
    rest = body.registers((1,), dtype)
    body.store(rest, start, 0)
    done = body.let(count // lanes * lanes)
    with body.loop(0, count - done) as i:
        body.store(rest, combine(rest[0], element(done + i)), 0)
    return body.let(combine(_across(body, partial, width, combine), rest[0]))


def _across(body: Body, partial: Any, width: int, combine: Combine) -> Any:
    """All elements of `partial` combined by halving."""
    while width > 1:
        width //= 2
        with body.vector(width) as lane:
            body.store(partial, combine(partial[lane], partial[lane + width]), lane)
    return partial[0]


# ------------------------------------------------------------------ lanes across the axis
def axis_items(sizes: Mapping[str, Dim], across: bool) -> Dim:
    """Items over [outer, n, inner]: rows along n; with lanes across it, COLUMNS columns each."""
    if not across:
        return sizes["outer"]
    blocks = dims.floordiv(dims.normal(sizes["inner"] + COLUMNS - 1), COLUMNS)
    return dims.product([sizes["outer"], blocks])


@dataclass(frozen=True)
class Columns:
    """Neighbouring columns that are worked on together: some vectors, or one column (0)."""

    body: Body
    start: Any
    vectors: int

    def registers(self, dtype: str) -> Any:
        """One element for each column."""
        return self.body.registers((max(self.vectors * self.body.isa.lanes, 1),), dtype)

    def each(self, visit: Callable[[Any, Any], None]) -> None:
        """visit(place in registers, column) for each column."""
        if self.vectors == 0:
            visit(self.body.i32(0), self.start)
            return
        lanes = self.body.isa.lanes
        for u in range(self.vectors):
            with self.body.vector(lanes) as lane:
                visit(u * lanes + lane, self.start + u * lanes + lane)


def over_columns(
    body: Body,
    item: Any,
    inner: Any,
    emit: Callable[[Any, Columns], None],
    unroll: int = UNROLL,
) -> None:
    """emit(index before the axis, columns) for all columns of one item.

    Up to `unroll` vectors are worked on together; 1 keeps code with long functions short.
    """
    blocks = body.let((inner + (COLUMNS - 1)) // COLUMNS)
    outer, first = body.let(item // blocks), body.let(item % blocks * COLUMNS)
    count, lanes = body.let(T.min(inner - first, body.i32(COLUMNS))), body.isa.lanes
    width = unroll * lanes
    with body.loop(0, count // width) as v:
        emit(outer, Columns(body, body.let(first + v * width), unroll))
    if unroll > 1:
        with body.loop(count // width * unroll, count // lanes) as v:
            emit(outer, Columns(body, body.let(first + v * lanes), 1))
    with body.loop(count // lanes * lanes, count) as i:
        emit(outer, Columns(body, body.let(first + i), 0))
