"""Linear layers: y[m, n] = epilogue(bias[n] + sum over k of x[m, k] w[n, k]), f32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import sympy

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.decode import workspace_decoder
from edgec.kernels.deferred import T
from edgec.kernels.epilogues import PLAIN, Finish, operand_parameters, result_pointer
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.panel_decoding import scratch
from edgec.kernels.panels import DEPTH, F32, Panels
from edgec.kernels.prefetch import Ahead
from edgec.kernels.products import Product, depth_parts
from edgec.kernels.steps import Epilogue
from edgec.kernels.tiles import PANEL, ROWS, Blocking
from edgec.kernels.tuning import blocking_of

_SUMS = ROWS * PANEL

#: Elements of x that stay in the L2 cache while panels pass by: half a megabyte.
_RESIDENT = 1 << 17


@dataclass(frozen=True)
class Linear(Kernel):
    """y[m, n] = epilogue(bias[n] + sum over k of x[m, k] w[n, k]).

    Pointers   x f32[m, x_stride], those of the weight's spec (f32: `w` f32[ceil(n/32)][k][32]),
               bias f32[n] where `bias`, e1, e2, ... f32: the operands of the epilogue,
               y [m, y_stride]
    Sizes      m, n, k, x_stride, y_stride; e1_stride, ... of the operands of extent "full"
    Items      ceil(n/32) * ceil(m/ROWS): as many row blocks as the L2 cache holds, all of them with
               one panel after the other
    blocking   tiles to use instead of the tuned ones

    An encoded weight is decoded in parts of the workspace, once for each item.
    """

    family: ClassVar[str] = "linear"

    weight: Panels = F32
    bias: bool = True
    epilogue: Epilogue = PLAIN
    blocking: Blocking | None = None

    def parameters(self) -> tuple[Pointer | Size, ...]:
        bias = (Pointer("bias"),) if self.bias else ()
        operands = operand_parameters(self.epilogue)
        pointers = [p for p in operands if isinstance(p, Pointer)]
        strides = [s for s in operands if isinstance(s, Size)]
        inputs = (Pointer("x"), *self.weight.pointers(), *bias, *pointers)
        sizes = [Size(s) for s in ("m", "n", "k", "x_stride", "y_stride")]
        return (*inputs, result_pointer(self.epilogue), *sizes, *strides)

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        panels = dims.floordiv(dims.normal(sizes["n"] + PANEL - 1), PANEL)
        blocks = dims.floordiv(dims.normal(sizes["m"] + ROWS - 1), ROWS)
        return dims.normal(panels * blocks)

    def item_elements(self, sizes: Mapping[str, Dim]) -> Dim:
        """A panel is read once for all rows of an item, each of which takes its products."""
        rows = sympy.Min(sizes["m"], ROWS)
        return dims.floordiv(dims.normal((rows + 1) * sizes["k"] * PANEL), 16)

    def workspace_bytes(self, isa: InstructionSet) -> int:
        return 4 * (_SUMS + scratch(self.weight))

    @property
    def _tuned(self) -> str:
        """Name in the tuning database: panels that were just decoded are in the L1 cache."""
        return self.family if self.weight == F32 else f"{self.family}_decoded"

    def emit(self, body: Body, isa: InstructionSet) -> None:
        m, n = body["m"], body["n"]
        order = _Order.of(body)
        with body.items() as item:
            panel, row = order.place(item)
            block = _Block(
                body,
                isa,
                panel,
                row,
                rows=body.held(T.min(m - row, body.i32(ROWS))),
                columns=body.held(T.min(n - panel * PANEL, body.i32(PANEL))),
                sums=body.workspace((ROWS, PANEL)),
            )
            block.start("bias" if self.bias else None)
            blocking = self.blocking or blocking_of(self._tuned, isa)
            if self.weight == F32:
                block.add_f32(blocking)
            else:
                block.add_decoded(blocking, self.weight)
            block.finish(self.epilogue)


@dataclass(frozen=True)
class _Order:
    """Which item is which: `blocks` of ROWS rows and `panels`, in groups of up to `group` blocks.

    Weights are read once for each group, and x comes from the L2 cache but for the first panel.
    """

    body: Body
    blocks: Any
    panels: Any
    group: Any

    @staticmethod
    def of(body: Body) -> _Order:
        blocks = body.held((body["m"] + ROWS - 1) // ROWS)
        panels = body.held((body["n"] + PANEL - 1) // PANEL)
        # k may be 0. Measure a change: with T.max(k, 1) * ROWS instead, LLVM keeps registers of the
        # innermost loop in memory, which takes a fifth of the speed.
        fit = T.min(_RESIDENT // T.max(body["k"] * ROWS, body.i32(1)), blocks)
        return _Order(body, blocks, panels, body.held(T.max(fit, body.i32(1))))

    def place(self, item: Any) -> tuple[Any, Any]:
        """Panel and first row of an item."""
        body = self.body
        whole = body.held(item // (self.group * self.panels) * self.group)
        inside = body.held(item - whole * self.panels)
        count = body.held(T.min(self.group, self.blocks - whole))
        return body.held(inside // count), body.held((whole + inside % count) * ROWS)


@dataclass(frozen=True)
class _Block:
    """One item: rows [row, row + rows) of x times one panel, of `columns` columns."""

    body: Body
    isa: InstructionSet
    panel: Any
    row: Any
    rows: Any
    columns: Any
    sums: Any

    def start(self, bias_name: str | None) -> None:
        """The sums start as the bias, or 0."""
        body, lanes, sums = self.body, self.isa.lanes, self.sums
        if bias_name is None:
            with body.loop(0, self.rows) as r, body.loop(0, PANEL // lanes) as v:
                with body.vector(lanes) as lane:
                    body.store(sums, body.f32(0), r, v * lanes + lane)
            return
        bias = body.buffer(bias_name)
        with body.loop(0, self.columns) as c:
            body.store(sums, bias[self.panel * PANEL + c], 0, c)
        with body.loop(self.columns, PANEL) as c:
            body.store(sums, body.f32(0), 0, c)
        with body.loop(1, self.rows) as r, body.loop(0, PANEL // lanes) as v:
            with body.vector(lanes) as lane:
                body.store(sums, sums[0, v * lanes + lane], r, v * lanes + lane)

    def add_f32(self, blocking: Blocking) -> None:
        """The products with an f32 weight, which is read where it is."""
        body, k = self.body, self.body["k"]
        w = body.buffer("w")
        count, each = depth_parts(body, k, blocking)
        with body.loop(0, count) as part:
            depth = body.held(T.min(each, k - part * each))
            start = body.held((self.panel * k + part * each) * PANEL)
            ahead = Ahead(body, lambda i: w[start + depth * PANEL + i])
            self._add(blocking, part * each, depth, lambda i, c: w[start + i * PANEL + c], ahead)

    def add_decoded(self, blocking: Blocking, weight: Panels) -> None:
        """The products with an encoded weight, part by part."""
        body, k = self.body, self.body["k"]
        decoder = workspace_decoder(body, self.isa, at=_SUMS)
        with body.loop(0, (k + DEPTH - 1) // DEPTH) as part:
            depth = body.held(T.min(body.i32(DEPTH), k - part * DEPTH))
            decoder.part(weight, self.panel, part, depth)
            self._add(blocking, part * DEPTH, depth, lambda i, c: decoder.out[i, c])

    def _add(
        self, blocking: Blocking, k: Any, depth: Any, right: Any, ahead: Ahead | None = None
    ) -> None:
        body, x, stride = self.body, self.body.buffer("x"), self.body["x_stride"]
        start = body.held(self.row * stride + k)

        def left(r: Any, i: Any) -> Any:
            return x[start + r * stride + i]

        product = Product(body, blocking, self.isa.lanes, left, right, self.sums, ahead=ahead)
        product.emit(self.rows, depth)

    def finish(self, epilogue: Epilogue) -> None:
        """y from the sums; columns behind n are not stored."""
        body, sums = self.body, self.sums
        finish = Finish.of(body, epilogue)
        first = self.panel * PANEL
        with body.loop(0, self.rows) as r:

            def step(c: Any) -> None:
                finish.element(sums[r, c], self.row + r, first + c)

            finish.rows(self.columns, self.isa.lanes, step)
