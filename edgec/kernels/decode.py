"""Encoded constants as f32: all rows of one, or the rows that indices name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.deferred import T
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.panel_decoding import DECODED, SCRATCH, Decoder
from edgec.kernels.panels import DEPTH, F32, Panels
from edgec.kernels.tiles import PANEL


def workspace_decoder(body: Body, isa: InstructionSet, at: int = 0) -> Decoder:
    """A decoder that works in SCRATCH numbers of the workspace from `at` on; sizes n and k."""
    out = body.workspace((DEPTH, PANEL), at=at)
    half = body.workspace((DEPTH // 2, PANEL), at=at + DECODED)
    return Decoder(body, isa.lanes, body["n"], body["k"], out, half)


@dataclass(frozen=True)
class Decode(Kernel):
    """y[r, k] = w[r, k]: a whole constant as f32, bit for bit as its encoding decodes it.

    Pointers   those of the spec; y f32[n, y_stride]
    Sizes      n, k, y_stride
    Items      ceil(n/32), panels: items [begin, end) are the rows [32 begin, 32 end)
    """

    family: ClassVar[str] = "decode"

    weight: Panels = F32

    def parameters(self) -> tuple[Pointer | Size, ...]:
        sizes = (Size("n"), Size("k"), Size("y_stride"))
        return (*self.weight.pointers(), Pointer("y", output=True), *sizes)

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return dims.floordiv(dims.normal(sizes["n"] + PANEL - 1), PANEL)

    def workspace_bytes(self, isa: InstructionSet) -> int:
        return 4 * SCRATCH

    def emit(self, body: Body, isa: InstructionSet) -> None:
        n, k, y = body["n"], body["k"], body.buffer("y")
        decoder = workspace_decoder(body, isa)
        with body.items() as panel, body.loop(0, (k + DEPTH - 1) // DEPTH) as part:
            depth = body.let(T.min(k - part * DEPTH, body.i32(DEPTH)))
            decoder.part(self.weight, panel, part, depth)
            first = body.let(panel * PANEL)
            with body.loop(0, T.min(n - first, body.i32(PANEL))) as c, body.loop(0, depth) as i:
                at = (first + c) * body["y_stride"] + part * DEPTH + i
                body.store(y, decoder.out[i, c], at)


@dataclass(frozen=True)
class DecodeRows(Kernel):
    """y[r] = w[index[r]]: rows of a constant that indices name, as in an embedding.

    Pointers   those of the spec; index int64[m] or int32[m] in [0, n), y f32[m, y_stride]
    Sizes      m, n, k, y_stride
    Items      m, rows of y
    """

    family: ClassVar[str] = "decode_rows"

    weight: Panels = F32
    index: str = "int64"

    def parameters(self) -> tuple[Pointer | Size, ...]:
        sizes = (Size("m"), Size("n"), Size("k"), Size("y_stride"))
        index = Pointer("index", self.index)
        return (*self.weight.pointers(), index, Pointer("y", output=True), *sizes)

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return sizes["m"]

    def workspace_bytes(self, isa: InstructionSet) -> int:
        return 4 * SCRATCH

    def emit(self, body: Body, isa: InstructionSet) -> None:
        k, y, index = body["k"], body.buffer("y"), body.buffer("index")
        decoder = workspace_decoder(body, isa)
        with body.items() as r:
            row: Any = body.let(T.cast(index[r], "int32"))
            column = body.let(row % PANEL)
            with body.loop(0, (k + DEPTH - 1) // DEPTH) as part:
                depth = body.let(T.min(k - part * DEPTH, body.i32(DEPTH)))
                decoder.part(self.weight, row // PANEL, part, depth)
                with body.loop(0, depth) as i:
                    at = r * body["y_stride"] + part * DEPTH + i
                    body.store(y, decoder.out[i, column], at)
