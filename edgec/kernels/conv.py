"""Convolutions as products of packed weights and packed patches of x, f32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body, element_bytes
from edgec.kernels.deferred import T, tir
from edgec.kernels.epilogues import PLAIN, Finish, full_names, result_dtype, result_pointer
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.panel_decoding import DECODED, Decoder, scratch
from edgec.kernels.panels import DEPTH, F32, Panels
from edgec.kernels.patches import Block, Patches, Windows
from edgec.kernels.prefetch import LINE_BYTES, fetch
from edgec.kernels.products import Element, Product
from edgec.kernels.staged_patches import StagedBlock, StagedPatches, bands_of, is_staged
from edgec.kernels.steps import Epilogue
from edgec.kernels.tiles import PANEL, Blocking
from edgec.kernels.tuning import blocking_of

#: Panels of weights, of 32 channels each, that share one packed panel of patches.
_GROUP = 4
_SUMS = _GROUP * PANEL * PANEL
_SIDES = ("xd", "xh", "xw")
_PLACES = ("od", "oh", "ow")


@dataclass(frozen=True)
class Conv(Kernel):
    """y[b, n, o] = epilogue(bias[n] + sum over c, i of w[n, c, i] x[b, c, o and i]).

    windows    kernel, stride, padding in front and dilation; transposed for conv_transpose
    grouped    whether there is more than one group of channels
    Pointers   x f32[batch, c, xd, xh, xw], those of the spec of the matrix w[n, c / groups * taps],
               bias f32[n] where `bias`, e1, e2, ...: operands of the epilogue, "full" ones as y,
               "column" ones f32[n], "row" ones f32[od * oh * ow]; y [batch, n, od, oh, ow]
    Sizes      batch, c, xd, xh, xw, n, od, oh, ow; groups where grouped
    blocking   tiles to use instead of the tuned ones
    Items      batch * ceil(od oh ow / 32) * ceil(n / 128), or of ceil(n / 32) where grouped
    """

    family: ClassVar[str] = "conv"

    windows: Windows
    weight: Panels = F32
    bias: bool = True
    epilogue: Epilogue = PLAIN
    grouped: bool = False
    blocking: Blocking | None = None

    def parameters(self) -> tuple[Pointer | Size, ...]:
        bias = (Pointer("bias"),) if self.bias else ()
        operands = [Pointer(name) for name in self.epilogue.names()]
        inputs = (Pointer("x"), *self.weight.pointers(), *bias, *operands)
        sizes = [Size(s) for s in ("batch", "c", *_SIDES, "n", *_PLACES)]
        groups = (Size("groups"),) if self.grouped else ()
        return (*inputs, result_pointer(self.epilogue), *sizes, *groups)

    @property
    def together(self) -> int:
        """Panels of weights of one item."""
        return 1 if self.grouped else _GROUP

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        places = dims.product([sizes[s] for s in _PLACES])
        blocks = dims.floordiv(dims.normal(places + PANEL - 1), PANEL)
        channels = self.together * PANEL
        rows = dims.floordiv(dims.normal(sizes["n"] + channels - 1), channels)
        return dims.normal(sizes["batch"] * blocks * rows)

    def workspace_bytes(self, isa: InstructionSet) -> int:
        staged = bands_of(self.windows).plane if is_staged(self.windows) else 0
        return 4 * (_SUMS + DEPTH * self.width(isa) + scratch(self.weight) + staged)

    def width(self, isa: InstructionSet) -> int:
        """Elements of a row of patches: staged ones are stored over its end."""
        return PANEL + isa.lanes if is_staged(self.windows) else PANEL

    def emit(self, body: Body, isa: InstructionSet) -> None:
        od, oh, ow = (body[s] for s in _PLACES)
        places = body.held(od * oh * ow)
        blocks = body.held((places + PANEL - 1) // PANEL)
        channels = self.together * PANEL
        rows = body.held((body["n"] + channels - 1) // channels)
        with body.items() as item:
            block = body.held(item // rows % blocks)
            first = body.held(item % rows * self.together)
            image = body.held(item // rows // blocks)
            panels = T.min((body["n"] + PANEL - 1) // PANEL - first, body.i32(self.together))
            made = _Item(self, body, isa, image, block * PANEL, first, body.held(panels), places)
            made.emit()


@dataclass(frozen=True)
class _Part:
    """Part `number` of the rows k: `depth` of them; `image`: elements of x of one group."""

    number: Any
    depth: Any
    k: Any
    image: Any


@dataclass(frozen=True)
class _Item:
    """One block of 32 places of one image, for `panels` panels of channels from `first` on."""

    conv: Conv
    body: Body
    isa: InstructionSet
    image: Any
    place: Any
    first: Any
    panels: Any
    places: Any

    def emit(self) -> None:
        body, conv = self.body, self.conv
        groups = body["groups"] if conv.grouped else body.i32(1)
        inner = body.held(body["c"] // groups)
        k = body.held(inner * conv.windows.taps)
        area = body.held(body["xd"] * body["xh"] * body["xw"])
        begin = body.held(self.image * body["c"] * area)
        block = self._patches(area).block(self.place)
        self._fetch()
        parts = T.max((k + DEPTH - 1) // DEPTH, body.i32(1))  # the first one starts the sums
        with body.loop(0, body.held(parts)) as part:
            depth = body.held(T.min(k - part * DEPTH, body.i32(DEPTH)))
            step = _Part(part, depth, k, inner * area)
            if conv.grouped:
                self._add_groups(block, step, begin, groups)
            else:
                self._add_all(block, step, begin)
        self._finish()

    def _add_all(self, block: Block | StagedBlock, part: _Part, begin: Any) -> None:
        """Every panel of channels with the same patches."""
        body = self.body
        block.pack(begin, part.number * DEPTH, part.depth)
        with body.loop(0, self.panels) as q:
            left = self._weights(self.first + q, part)
            rows = T.min(body["n"] - (self.first + q) * PANEL, body.i32(PANEL))
            self._add(left, q * PANEL, body.i32(0), body.held(rows), part)

    def _add_groups(self, block: Block | StagedBlock, part: _Part, begin: Any, groups: Any) -> None:
        """The channels of each group that the one panel has, with the patches of its own."""
        body = self.body
        left = self._weights(self.first, part)
        each = body.held(body["n"] // groups)
        top = body.held(self.first * PANEL)
        end = body.held(T.min(top + PANEL, body["n"]))
        with body.loop(top // each, (end + each - 1) // each) as g:
            block.pack(begin + g * part.image, part.number * DEPTH, part.depth)
            low = body.held(T.max(g * each, top) - top)
            rows = body.held(T.min((g + 1) * each, end) - top - low)
            self._add(left, low, low, rows, part)

    @property
    def _behind(self) -> int:
        """Where the workspace goes on behind sums and patches."""
        return _SUMS + DEPTH * self.conv.width(self.isa)

    def _patches(self, area: Any) -> Patches | StagedPatches:
        body = self.body
        if is_staged(self.conv.windows):
            out = body.workspace((1 << 24,), at=_SUMS)
            staged = body.workspace((1 << 24,), at=self._behind + scratch(self.conv.weight))
            width = self.conv.width(self.isa)
            return StagedPatches(body, self.isa.lanes, self.conv.windows, out, width, staged)
        sides = (body["xd"], body["xh"], body["xw"])
        places = (body["od"], body["oh"], body["ow"])
        total = body.held(body["batch"] * body["c"] * area)
        out, flat = (body.workspace(s, at=_SUMS) for s in ((DEPTH, PANEL), (DEPTH * PANEL,)))
        windows, x = self.conv.windows, body.buffer("x")
        return Patches(body, self.isa.lanes, windows, x, total, sides, places, out, flat)

    def _start(self, row: Any) -> Any:
        """What the sums of a channel begin as."""
        if not self.conv.bias:
            return self.body.f32(0)
        return self.body.buffer("bias")[self.first * PANEL + row]

    def _fetch(self) -> None:
        """Ask for what is stored in the end: many short pieces, far from each other."""
        body = self.body
        y, top = body.buffer("y"), body.held(self.image * body["n"] + self.first * PANEL)
        step = LINE_BYTES // element_bytes(result_dtype(self.conv.epilogue))
        with body.loop(0, self._rows()) as r:
            for c in range(0, PANEL, step):
                fetch(y[(top + r) * self.places + self.place + c], write=True)

    def _rows(self) -> Any:
        """Channels of this item."""
        left = self.body["n"] - self.first * PANEL
        return self.body.held(T.min(left, self.panels * PANEL))

    def _weights(self, panel: Any, part: _Part) -> Element:
        """(row of the panel, k within the part) -> weight; an encoded one is decoded first."""
        body, conv = self.body, self.conv
        if conv.weight == F32:
            w, start = body.buffer("w"), body.held((panel * part.k + part.number * DEPTH) * PANEL)
            return lambda r, i: w[start + i * PANEL + r]
        out = body.workspace((DEPTH, PANEL), at=self._behind)
        half = body.workspace((DEPTH // 2, PANEL), at=self._behind + DECODED)
        decoder = Decoder(body, self.isa.lanes, body["n"], part.k, out, half)
        decoder.part(conv.weight, panel, part.number, part.depth)
        return lambda r, i: out[i, r]

    def _add(self, left: Element, at: Any, row: Any, rows: Any, part: _Part) -> None:
        """sums[at + r] += weights of row + r times the patches, for r < rows."""
        body = self.body
        sums = body.workspace((self.conv.together * PANEL, PANEL))
        patches = body.workspace((DEPTH, self.conv.width(self.isa)), at=_SUMS)
        blocking = self.conv.blocking or blocking_of(self.conv.family, self.isa)
        product = Product(
            body,
            blocking,
            self.isa.lanes,
            left=lambda r, i: left(row + r, i),
            right=lambda i, c: patches[i, c],
            sums=sums,
            first=at,
            start=(tir.EQ(part.number, 0), self._start),
        )
        product.emit(rows, part.depth)

    def _finish(self) -> None:
        body, epilogue = self.body, self.conv.epilogue
        strides = dict.fromkeys((*full_names(epilogue), "y"), self.places)
        finish = Finish.of(body, epilogue, strides)
        left = body.held(self.places - self.place)
        with T.If(left >= PANEL):
            with T.Then():
                self._finish_rows(finish, PANEL)
            with T.Else():
                self._finish_rows(finish, left)

    def _finish_rows(self, finish: Finish, count: Any) -> None:
        """`count` places of each channel; all of a block need no remainder's code."""
        body, lanes = self.body, self.isa.lanes
        sums = body.workspace((self.conv.together * PANEL, PANEL))
        with body.loop(0, self._rows()) as r:
            channel = body.held(self.first * PANEL + r)
            row = body.held(self.image * body["n"] + channel)

            def step(c: Any) -> None:
                finish.element(sums[r, c], row, self.place + c, channel)

            if count is PANEL:
                with body.loop(0, PANEL // lanes) as v, body.vector(lanes) as lane:
                    step(v * lanes + lane)
            else:
                finish.rows(count, lanes, step)
