"""Batched matrix products of two run-time operands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.deferred import T
from edgec.kernels.element_types import computed_in, from_storage, storage, to_storage
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.products import Product
from edgec.kernels.tiles import PANEL, ROWS, Blocking
from edgec.kernels.tuning import blocking_of
from edgec.kernels.vectors import load, store, transpose

#: Length along k of the part of b that is packed at a time.
_DEPTH = 256
_SUMS = ROWS * PANEL

#: Side of the squares by which b is transposed, at most.
_SQUARE = 8


def _sizes(batch: int) -> tuple[Size, ...]:
    """m, n, k, the strides, and for each leading axis its extent and the strides along it."""
    axes = [f"{name}{i}" for i in range(batch) for name in ("extent", "a_axis", "b_axis", "y_axis")]
    return tuple(Size(s) for s in ("m", "n", "k", "a_row", "a_col", "b_row", "y_row", *axes))


def _batches(batch: int, sizes: Mapping[str, Dim]) -> Dim:
    return dims.product([sizes[f"extent{i}"] for i in range(batch)])


def _offsets(body: Body, batch: int, number: Any) -> tuple[Any, Any, Any]:
    """Starts of the matrices of a, b and y for batch `number`, row-major over the leading axes."""
    starts: list[Any] = [body.i32(0)] * 3
    for i in reversed(range(batch)):
        extent = body[f"extent{i}"]
        index = body.held(number % extent if i else number)
        number = body.held(number // extent)
        names = (f"a_axis{i}", f"b_axis{i}", f"y_axis{i}")
        starts = [s + index * body[name] for s, name in zip(starts, names, strict=True)]
    a, b, y = (body.held(s) for s in starts)
    return a, b, y


@dataclass(frozen=True)
class Matmul(Kernel):
    """y[.., m, n] = sum over k of a[.., m, k] b[.., k, n], f32; leading axes have strides.

    batch       number of leading axes
    transposed  b lies as [.., n, k]: b_row is the stride along n and k has stride 1; otherwise
                b_row is the stride along k and n has stride 1
    Pointers    a, b, y f32
    Sizes       m, n, k, a_row, a_col, b_row, y_row; for each leading axis i extent{i}, a_axis{i},
                b_axis{i}, y_axis{i}: its extent and strides, 0 where an operand is broadcast
    Items       the product of all extents * ceil(n/32) * ceil(m/ROWS)
    blocking    tiles to use instead of the tuned ones

    b is packed in panels of the workspace, part by part, for each item.
    """

    family: ClassVar[str] = "matmul"

    batch: int = 1
    transposed: bool = False
    blocking: Blocking | None = None

    def parameters(self) -> tuple[Pointer | Size, ...]:
        return (Pointer("a"), Pointer("b"), Pointer("y", output=True), *_sizes(self.batch))

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        panels = dims.floordiv(dims.normal(sizes["n"] + PANEL - 1), PANEL)
        blocks = dims.floordiv(dims.normal(sizes["m"] + ROWS - 1), ROWS)
        return dims.normal(_batches(self.batch, sizes) * panels * blocks)

    def workspace_bytes(self, isa: InstructionSet) -> int:
        return 4 * (_SUMS + _DEPTH * PANEL)

    def emit(self, body: Body, isa: InstructionSet) -> None:
        m, n, k = body["m"], body["n"], body["k"]
        blocks = body.held((m + ROWS - 1) // ROWS)
        panels = body.held((n + PANEL - 1) // PANEL)
        sums, packed = body.workspace((ROWS, PANEL)), body.workspace((_DEPTH, PANEL), at=_SUMS)
        with body.items() as item:
            row = body.held(item % blocks * ROWS)
            panel = body.held(item // blocks % panels)
            a, b, y = _offsets(body, self.batch, body.held(item // blocks // panels))
            rows = body.held(T.min(m - row, body.i32(ROWS)))
            columns = body.held(T.min(n - panel * PANEL, body.i32(PANEL)))
            with body.loop(0, rows) as r, body.loop(0, PANEL // isa.lanes) as v:
                with body.vector(isa.lanes) as lane:
                    body.store(sums, body.f32(0), r, v * isa.lanes + lane)
            with body.loop(0, (k + _DEPTH - 1) // _DEPTH) as part:
                depth = body.held(T.min(k - part * _DEPTH, body.i32(_DEPTH)))
                first = part * _DEPTH
                self._pack(body, isa, packed, b, first, depth, panel * PANEL, columns)
                self._add(body, isa, a + row * body["a_row"], first, rows, depth)
            start = body.held(y + row * body["y_row"] + panel * PANEL)
            _copy_out(body, isa.lanes, sums, start, rows, columns)

    def _add(
        self, body: Body, isa: InstructionSet, start: Any, first: Any, rows: Any, depth: Any
    ) -> None:
        a, row, col = body.buffer("a"), body["a_row"], body["a_col"]
        sums, packed = body.workspace((ROWS, PANEL)), body.workspace((_DEPTH, PANEL), at=_SUMS)
        begin = body.held(start + first * col)

        def left(r: Any, i: Any) -> Any:
            return a[begin + r * row + i * col]

        def right(i: Any, c: Any) -> Any:
            return packed[i, c]

        blocking = self.blocking or blocking_of(self.family, isa)
        Product(body, blocking, isa.lanes, left, right, sums).emit(rows, depth)

    def _pack(
        self,
        body: Body,
        isa: InstructionSet,
        packed: Any,
        start: Any,
        first: Any,
        depth: Any,
        column: Any,
        columns: Any,
    ) -> None:
        """packed[i, c] = b[first + i, column + c], 0 for c >= columns."""
        b, stride = body.buffer("b"), body["b_row"]
        with body.when(columns < PANEL), body.loop(0, depth) as i, body.loop(columns, PANEL) as c:
            body.store(packed, body.f32(0), i, c)
        if self.transposed:
            flat = body.workspace((_DEPTH * PANEL,), at=_SUMS)
            begin = body.held(start + column * stride + first)
            _pack_transposed(body, isa, flat, begin, depth, columns)
            return
        begin, lanes = body.held(start + first * stride + column), isa.lanes
        with body.loop(0, depth) as i:
            with body.loop(0, columns // lanes) as v, body.vector(lanes) as lane:
                c = v * lanes + lane
                body.store(packed, b[begin + i * stride + c], i, c)
            with body.loop(columns // lanes * lanes, columns) as c:
                body.store(packed, b[begin + i * stride + c], i, c)


def _pack_transposed(
    body: Body, isa: InstructionSet, flat: Any, begin: Any, depth: Any, columns: Any
) -> None:
    """flat[i * PANEL + c] = b[begin + c * b_row + i], in squares and one by one at the edges."""
    b, stride, side = body.buffer("b"), body["b_row"], min(_SQUARE, isa.lanes)
    whole_c = body.held(columns // side * side)
    whole_i = body.held(depth // side * side)
    with body.loop(0, columns // side) as u, body.loop(0, depth // side) as v:
        at = body.held(begin + u * side * stride + v * side)
        rows = [load(b, at + r * stride, side) for r in range(side)]
        for i, vector in enumerate(transpose(rows)):
            store(flat, vector, (v * side + i) * PANEL + u * side, side)
    with body.loop(0, columns) as c:
        with body.loop(T.if_then_else(c < whole_c, whole_i, body.i32(0)), depth) as i:
            body.store(flat, b[begin + c * stride + i], i * PANEL + c)


def _copy_out(body: Body, lanes: int, sums: Any, start: Any, rows: Any, columns: Any) -> None:
    y, stride = body.buffer("y"), body["y_row"]
    with body.loop(0, rows) as r:
        with body.loop(0, columns // lanes) as v, body.vector(lanes) as lane:
            body.store(y, sums[r, v * lanes + lane], start + r * stride + v * lanes + lane)
        with body.loop(columns // lanes * lanes, columns) as c:
            body.store(y, sums[r, c], start + r * stride + c)


@dataclass(frozen=True)
class PlainMatmul(Kernel):
    """The same for any dtype, by the plain loops: integers, f64, and half types summed in f32.

    dtype      of all three, as TVM spells it
    Sizes      as Matmul, and b_col: both axes of b have strides
    Items      the product of all extents * m, rows of y
    """

    family: ClassVar[str] = "plain_matmul"

    dtype: str
    batch: int = 1

    def parameters(self) -> tuple[Pointer | Size, ...]:
        kept = storage(self.dtype)
        pointers = (Pointer("a", kept), Pointer("b", kept), Pointer("y", kept, output=True))
        return (*pointers, *_sizes(self.batch), Size("b_col"))

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return dims.normal(_batches(self.batch, sizes) * sizes["m"])

    def emit(self, body: Body, isa: InstructionSet) -> None:
        m, n, k = body["m"], body["n"], body["k"]
        left, right, y = body.buffer("a"), body.buffer("b"), body.buffer("y")
        computed = computed_in(self.dtype)
        with body.items() as item:
            row = body.held(item % m)
            a, b, start = _offsets(body, self.batch, body.held(item // m))
            with body.loop(0, n) as c:
                total = body.registers((1,), computed)
                body.store(total, T.cast(body.i32(0), computed), 0)
                with body.loop(0, k) as i:
                    x = from_storage(left[a + row * body["a_row"] + i * body["a_col"]], self.dtype)
                    w = from_storage(right[b + i * body["b_row"] + c * body["b_col"]], self.dtype)
                    body.store(total, total[0] + x * w, 0)
                body.store(y, to_storage(total[0], self.dtype), start + row * body["y_row"] + c)
