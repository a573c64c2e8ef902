"""Pooling over one to three spatial axes; missing ones have size 1, kernel 1, stride 1, no pads.

Everything but the kind of pool is known at run time: a model's pools share one kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.deferred import T
from edgec.kernels.element_types import computed_in, const, from_storage, storage, to_storage
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.reduce import extremum

AXES = "dhw"


@dataclass(frozen=True)
class Spatial(Kernel):
    """y[p, o_d, o_h, :] for planes p = (b, c): one item is one row of y.

    Sizes       planes; for each axis a in d, h, w the numbers of elements n{a} of x, o{a} of y
    Items       planes * od * oh
    """

    dtype: str = "float32"

    def parameters(self) -> tuple[Pointer | Size, ...]:
        x, y = Pointer("x", storage(self.dtype)), Pointer("y", storage(self.dtype), output=True)
        sizes = [Size(f"{kind}{a}") for kind in ("n", "o", *self.attributes()) for a in AXES]
        return (x, y, Size("planes"), *sizes)

    def attributes(self) -> Sequence[str]:
        """Further sizes of each axis."""
        return ()

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return dims.product([sizes["planes"], sizes["od"], sizes["oh"]])

    def load(self, body: Body, at: Any) -> Any:
        return from_storage(body.buffer("x")[at], self.dtype)

    def store(self, body: Body, value: Any, at: Any) -> None:
        body.store(body.buffer("y"), to_storage(value, self.dtype), at)

    def place(self, body: Body, item: Any) -> tuple[Any, Any, Any]:
        """(offset of the plane, o_d, o_h)."""
        row = body.held(item // body["oh"])
        plane = body.held(row // body["od"] * (body["nd"] * body["nh"] * body["nw"]))
        return plane, body.held(row % body["od"]), body.held(item % body["oh"])


@dataclass(frozen=True)
class Pool(Spatial):
    """y = max or mean of x over the window that starts at o stride - low, one step is `dilation`.

    Sizes       behind those of Spatial, for each axis: kernel k, stride s, dilation g, low pads l,
                high pads h
    Fields      kind: "max" takes nothing outside of x, "mean" counts the places in the pads,
                "mean_inside" those inside of x only; unit: the stride along w is 1
    Items       planes * od * oh
    """

    family: ClassVar[str] = "pool"

    kind: Literal["max", "mean", "mean_inside"] = "max"
    unit: bool = False

    def attributes(self) -> Sequence[str]:
        return ("k", "s", "g", "l", "h")

    def emit(self, body: Body, isa: InstructionSet) -> None:
        lanes, width = isa.lanes, body["ow"]
        stride: Any = body.i32(1) if self.unit else body["sw"]
        reach = (body["kw"] - 1) * body["gw"]
        with body.items() as item:
            plane, od, oh = self.place(body, item)
            starts = [
                body.held(o * body[f"s{a}"] - body[f"l{a}"]) for o, a in ((od, "d"), (oh, "h"))
            ]
            row = body.held(item * width)
            # windows [first, last) are inside of x along w
            first = body.held(T.min((body["lw"] + stride - 1) // stride, width))
            room = body.held(body["nw"] - 1 - reach + body["lw"])
            inside = T.if_then_else(room < 0, 0, room // stride + 1)
            last = body.held(T.max(T.min(inside, width), first))
            done = body.held(first + (last - first) // lanes * lanes)

            def windows(o: Any, step: Any) -> None:
                """The window of output o, or with a step those of the lanes from o on."""
                start = body.held(o * stride - body["lw"])

                def finish(lane: Any, value: Any) -> None:
                    self.store(body, value, row + o + lane)

                self._windows(body, plane, [*starts, start], step, finish)

            with body.loop(0, first) as o:
                windows(o, None)
            with body.loop(0, (last - first) // lanes) as v:
                windows(body.held(first + v * lanes), stride)
            with body.loop(done, width) as o:
                windows(o, None)

    def _windows(
        self,
        body: Body,
        plane: Any,
        starts: list[Any],
        stride: Any,
        finish: Callable[[Any, Any], Any],
    ) -> None:
        """finish(lane, result) for one window; with `stride`, for a window of each lane."""
        computed = computed_in(self.dtype)
        lanes = body.isa.lanes if stride is not None else 1
        total = body.registers((lanes,), computed)
        start = -math.inf if self.kind == "max" else 0

        def every(visit: Callable[[Any], None]) -> None:
            if stride is None:
                visit(body.i32(0))
            else:
                with body.vector(lanes) as lane:
                    visit(lane)

        every(lambda at: body.store(total, const(start, computed), at))
        ranges = [self._taps(body, a, s) for a, s in zip(AXES, starts, strict=True)]
        with body.loop(*ranges[0]) as i, body.loop(*ranges[1]) as j:
            depth = (starts[0] + i * body["gd"]) * body["nh"] + starts[1] + j * body["gh"]
            line = body.held(plane + depth * body["nw"] + starts[2])
            with body.loop(*ranges[2]) as k:
                at = body.held(line + k * body["gw"])

                def add(lane: Any) -> None:
                    value = self.load(body, at if stride is None else at + lane * stride)
                    body.store(total, self._combined(total[lane], value), lane)

                every(add)
        scale = self._scale(body, ranges, starts)
        every(lambda at: finish(at, total[at] if scale is None else total[at] / scale))

    def _combined(self, total: Any, value: Any) -> Any:
        if self.kind == "max":
            return extremum(True, computed_in(self.dtype))(total, value)
        return total + value

    def _taps(self, body: Body, axis: str, start: Any) -> tuple[Any, Any]:
        """The steps of the window whose elements are inside of x along an axis."""
        step = body[f"g{axis}"]
        first = body.held((T.max(-start, 0) + step - 1) // step)
        behind = (T.max(body[f"n{axis}"] - start, 0) + step - 1) // step
        return first, body.held(T.max(T.min(behind, body[f"k{axis}"]), first))

    def _scale(self, body: Body, ranges: Any, starts: list[Any]) -> Any:
        """How many places a mean counts."""
        if self.kind == "max":
            return None
        count: Any = body.i32(1)
        for axis, (first, stop), start in zip(AXES, ranges, starts, strict=True):
            if self.kind == "mean_inside":
                count = count * (stop - first)
            else:  # up to the end of the high pads, which a window of ceil_mode leaves behind
                edge = body[f"n{axis}"] + body[f"h{axis}"] - start
                count = count * T.min(body[f"k{axis}"], edge)
        return body.let(T.cast(count, computed_in(self.dtype)))


@dataclass(frozen=True)
class AdaptivePool(Spatial):
    """y[p, o] = the mean of x[p, i] over floor(o n / O) <= i < ceil((o + 1) n / O), axis by axis.

    Parameters and items as Spatial. One bin for a whole plane is Reduce("mean"), which is faster.
    """

    family: ClassVar[str] = "adaptive_pool"

    def emit(self, body: Body, isa: InstructionSet) -> None:
        computed = computed_in(self.dtype)
        with body.items() as item:
            plane, od, oh = self.place(body, item)
            ranges = [self._bin(body, a, o) for a, o in (("d", od), ("h", oh))]
            with body.loop(0, body["ow"]) as ow:
                bins = [*ranges, self._bin(body, "w", ow)]
                total = body.registers((1,), computed)
                body.store(total, const(0, computed), 0)
                with body.loop(*bins[0]) as i, body.loop(*bins[1]) as j:
                    line = body.held(plane + (i * body["nh"] + j) * body["nw"])
                    with body.loop(*bins[2]) as k:
                        body.store(total, total[0] + self.load(body, line + k), 0)
                (d0, d1), (h0, h1), (w0, w1) = bins
                count = T.cast((d1 - d0) * (h1 - h0) * (w1 - w0), computed)
                self.store(body, total[0] / count, item * body["ow"] + ow)

    def _bin(self, body: Body, axis: str, o: Any) -> tuple[Any, Any]:
        n, count = body[f"n{axis}"], body[f"o{axis}"]
        return body.held(o * n // count), body.held(((o + 1) * n + count - 1) // count)
