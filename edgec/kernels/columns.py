"""The windows of an image as columns, and back: plain copies and sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.element_types import from_storage, storage, to_storage
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size

Pair = tuple[int, int]
_SIZES = tuple(Size(s) for s in ("batch", "c", "xh", "xw", "oh", "ow"))


@dataclass(frozen=True)
class _Unfolding(Kernel):
    """What im2col and col2im share: the windows, x and y of one type."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    dtype: str = "float32"

    def parameters(self) -> tuple[Pointer | Size, ...]:
        kept = storage(self.dtype)
        return (Pointer("x", kept), Pointer("y", kept, output=True), *_SIZES)


@dataclass(frozen=True)
class Im2col(_Unfolding):
    """y[b, (c k1 + i) k2 + j, l] = x at channel c, place (i, j) of window l; 0 beside x.

    Pointers   x T[batch, c, xh, xw], y T[batch, c k1 k2, oh ow], T = dtype
    Sizes      batch, c, xh, xw, oh, ow: oh ow windows
    Items      batch * c * k1 * k2, rows of y
    """

    family: ClassVar[str] = "im2col"

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return dims.normal(sizes["batch"] * sizes["c"] * (self.kernel[0] * self.kernel[1]))

    def emit(self, body: Body, isa: InstructionSet) -> None:
        x, y, wide = body.buffer("x"), body.buffer("y"), body["ow"]
        with body.items() as item:
            tap = body.held(item % (self.kernel[0] * self.kernel[1]))
            plane = body.held(item // (self.kernel[0] * self.kernel[1]) * body["xh"])
            top = body.held(tap // self.kernel[1] * self.dilation[0] - self.padding[0])
            left = body.held(tap % self.kernel[1] * self.dilation[1] - self.padding[1])
            start = body.held(item * body["oh"] * wide)
            with body.loop(0, body["oh"]) as i, body.loop(0, wide) as j:
                iy = body.held(i * self.stride[0] + top)
                ix = body.held(j * self.stride[1] + left)
                inside = tir.all(iy >= 0, iy < body["xh"], ix >= 0, ix < body["xw"])
                zero = tir.const(0, storage(self.dtype))
                value = T.if_then_else(inside, x[(plane + iy) * body["xw"] + ix], zero)
                body.store(y, value, start + i * wide + j)


@dataclass(frozen=True)
class Col2im(_Unfolding):
    """y[b, c, p] = the sum of x[b, (c, i, j), l] over places (i, j) of windows l that lie on p.

    Pointers   x T[batch, c k1 k2, oh ow], y T[batch, c, xh, xw], T = dtype
    Sizes      batch, c, xh, xw, oh, ow: those of the image, and of its windows
    Items      batch * c * xh, rows of the image
    """

    family: ClassVar[str] = "col2im"

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return dims.normal(sizes["batch"] * sizes["c"] * sizes["xh"])

    def emit(self, body: Body, isa: InstructionSet) -> None:
        y, wide = body.buffer("y"), body["xw"]
        computed = "float64" if self.dtype == "float64" else "float32"
        with body.items() as item:
            row = body.held(item % body["xh"])
            plane = body.held(item // body["xh"] * (self.kernel[0] * self.kernel[1]))
            with body.loop(0, wide) as column:
                total = body.registers((1,), computed)
                body.store(total, tir.const(0, computed), 0)
                with body.loop(0, self.kernel[0]) as i, body.loop(0, self.kernel[1]) as j:
                    self._add(body, total, plane, (row, column), (i, j))
                body.store(y, to_storage(total[0], self.dtype), item * wide + column)

    def _add(
        self, body: Body, total: Any, plane: Any, place: tuple[Any, Any], tap: tuple[Any, Any]
    ) -> None:
        """The element that tap (i, j) of a window puts on a place, where there is one."""
        windows, conditions = [], []
        for axis, extent in enumerate((body["oh"], body["ow"])):
            away = place[axis] + self.padding[axis] - tap[axis] * self.dilation[axis]
            away, stride = body.held(away), tir.const(self.stride[axis], "int32")
            window = body.held(tir.truncdiv(away, stride))
            windows.append(window)
            conditions += [away >= 0, tir.EQ(window * stride, away), window < extent]
        x = body.buffer("x")
        with body.when(tir.all(*conditions)):
            channel = plane + tap[0] * self.kernel[1] + tap[1]
            at = (channel * body["oh"] + windows[0]) * body["ow"] + windows[1]
            body.store(total, total[0] + from_storage(x[at], self.dtype), 0)
