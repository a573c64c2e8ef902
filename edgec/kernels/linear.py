"""Linear layers: y[m, n] = epilogue(bias[n] + sum over k of x[m, k] w[n, k]), f32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm.script.ir_builder import tirx as T

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.epilogues import PLAIN, Finish, operand_parameters, result_pointer
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.products import Product, depth_parts
from edgec.kernels.steps import Epilogue
from edgec.kernels.tiles import BLOCKINGS, PANEL, ROWS, Blocking


@dataclass(frozen=True)
class Linear(Kernel):
    """y[m, n] = epilogue(bias[n] + sum over k of x[m, k] w[n, k]).

    Pointers   x f32[m, x_stride], w (see `panels.py`: f32 panels [ceil(n/32)][k][32]), bias f32[n]
               where `bias`, y [m, y_stride]; e1, e2, ... the operands of the epilogue: f32
    Sizes      m, n, k, x_stride, y_stride; e1_stride, ... of the operands of extent "full"
    Items      ceil(n/32) * ceil(m/ROWS), the row blocks of a panel together
    blocking   tiles to use instead of the tuned ones
    """

    family: ClassVar[str] = "linear"

    bias: bool = True
    epilogue: Epilogue = PLAIN
    blocking: Blocking | None = None

    def parameters(self) -> tuple[Pointer | Size, ...]:
        bias = (Pointer("bias"),) if self.bias else ()
        *operands, y = (*operand_parameters(self.epilogue), result_pointer(self.epilogue))
        pointers = [p for p in operands if isinstance(p, Pointer)]
        strides = [s for s in operands if isinstance(s, Size)]
        sizes = [Size(s) for s in ("m", "n", "k", "x_stride", "y_stride")]
        return (Pointer("x"), Pointer("w"), *bias, *pointers, y, *sizes, *strides)

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        panels = dims.floordiv(dims.normal(sizes["n"] + PANEL - 1), PANEL)
        blocks = dims.floordiv(dims.normal(sizes["m"] + ROWS - 1), ROWS)
        return dims.normal(panels * blocks)

    def workspace_bytes(self, isa: InstructionSet) -> int:
        return 4 * ROWS * PANEL

    def emit(self, body: Body, isa: InstructionSet) -> None:
        m, n, k = body["m"], body["n"], body["k"]
        blocks = body.let((m + ROWS - 1) // ROWS)
        with body.items() as item:
            panel = body.let(item // blocks)
            row = body.let(item % blocks * ROWS)
            rows = body.let(T.min(m - row, body.i32(ROWS)))
            columns = body.let(T.min(n - panel * PANEL, body.i32(PANEL)))
            self._start(body, isa, panel, rows, columns)
            self._sum(body, isa, panel, row, rows, k)
            self._finish(body, isa, panel, row, rows, columns)

    def _start(self, body: Body, isa: InstructionSet, panel: Any, rows: Any, columns: Any) -> None:
        """The sums start as the bias."""
        sums = body.workspace((ROWS, PANEL))
        lanes = isa.lanes
        if not self.bias:
            with body.loop(0, rows) as r, body.loop(0, PANEL // lanes) as v:
                with body.vector(lanes) as lane:
                    body.store(sums, body.f32(0), r, v * lanes + lane)
            return
        bias = body.buffer("bias")
        with body.loop(0, columns) as c:
            body.store(sums, bias[panel * PANEL + c], 0, c)
        with body.loop(columns, PANEL) as c:
            body.store(sums, body.f32(0), 0, c)
        with body.loop(1, rows) as r, body.loop(0, PANEL // lanes) as v:
            with body.vector(lanes) as lane:
                body.store(sums, sums[0, v * lanes + lane], r, v * lanes + lane)

    def _sum(
        self, body: Body, isa: InstructionSet, panel: Any, row: Any, rows: Any, k: Any
    ) -> None:
        blocking = self.blocking or BLOCKINGS[isa.name]
        sums = body.workspace((ROWS, PANEL))
        x, w = body.buffer("x"), body.buffer("w")
        stride = body["x_stride"]
        count, each = depth_parts(body, k, blocking)
        with body.loop(0, count) as part:
            depth = body.let(T.min(each, k - part * each))
            x_start = body.let(row * stride + part * each)
            w_start = body.let((panel * k + part * each) * PANEL)
            Product(
                body,
                blocking,
                isa.lanes,
                left=lambda r, i: x[x_start + r * stride + i],
                right=lambda i, c: w[w_start + i * PANEL + c],
                sums=sums,
            ).emit(rows, depth)

    def _finish(
        self, body: Body, isa: InstructionSet, panel: Any, row: Any, rows: Any, columns: Any
    ) -> None:
        sums = body.workspace((ROWS, PANEL))
        finish = Finish.of(body, self.epilogue)
        lanes = isa.lanes
        first = panel * PANEL
        with body.loop(0, rows) as r:
            with body.loop(0, columns // lanes) as v:
                with body.vector(lanes) as lane:
                    at = v * lanes + lane
                    finish.element(sums[r, at], row + r, first + at)
            with body.loop(columns // lanes * lanes, columns) as c:
                finish.element(sums[r, c], row + r, first + c)
