"""Resizing of images along one or two spatial axes, [planes, nh, nw] to [planes, oh, ow].

The weights of a row are the same in all planes, so that callers make them once, as the op's
decomposition does, or here for each item: places are cheap beside the reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.element_types import computed_in, const, from_storage, storage, to_storage
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size

_CUBIC = -0.75  # Keys 1981, as in torch


@dataclass(frozen=True)
class Resize(Kernel):
    """y[p, o_h, o_w] = x at the places of o_h and o_w, as edgec/ops/resize.py says.

    Parameters  x T[planes, nh, nw], y T[planes, oh, ow]; planes, nh, nw, oh, ow, f32 rh, rw: the
                ratios r, 1 / scale or n / o; with align_corners (n - 1) / (o - 1), or 0 for o = 1
    Fields      mode; corners: align_corners; dtype: half precision is computed in f32
    Items       planes * oh. One axis: nh = oh = 1, rh = 1. Three: first the two behind, then the
                axis ahead as h of planes whose w is both of them, rw = 1 (not for cubic).
    """

    family: ClassVar[str] = "resize"

    mode: Literal["nearest", "linear", "cubic"] = "linear"
    corners: bool = False
    dtype: str = "float32"

    def parameters(self) -> tuple[Pointer | Size, ...]:
        x, y = Pointer("x", storage(self.dtype)), Pointer("y", storage(self.dtype), output=True)
        sizes = [Size(name) for name in ("planes", "nh", "nw", "oh", "ow")]
        return (x, y, *sizes, Size("rh", "float32"), Size("rw", "float32"))

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return dims.product([sizes["planes"], sizes["oh"]])

    def emit(self, body: Body, isa: InstructionSet) -> None:
        x, y, nh, nw = body.buffer("x"), body.buffer("y"), body["nh"], body["nw"]
        with body.items() as item:
            plane = body.held(item // body["oh"] * nh)
            rows = self._taps(body, item % body["oh"], nh, body["rh"])
            lines = [body.held((plane + index) * nw) for index, _ in rows]
            with body.loop(0, body["ow"]) as o:
                total: Any = None
                columns = self._taps(body, o, nw, body["rw"])
                for line, (_, down) in zip(lines, rows, strict=True):
                    part: Any = None
                    for index, right in columns:
                        value = from_storage(x[line + index], self.dtype)
                        value = value if right is None else value * right
                        part = value if part is None else body.let(part + value)
                    part = part if down is None else part * down
                    total = part if total is None else body.let(total + part)
                body.store(y, to_storage(total, self.dtype), item * body["ow"] + o)

    def _taps(self, body: Body, o: Any, size: Any, ratio: Any) -> list[tuple[Any, Any]]:
        """(index, weight) of what output o reads along an axis; no weight is 1."""
        place = self._place(body, T.cast(o, "float32"), ratio)
        if self.mode == "nearest":
            return [(body.held(T.min(T.cast(place, "int32"), size - 1)), None)]
        # floor, by the integer below: places are above -2**31
        low = body.held(T.cast(T.floor(place), "int32"))
        weights = self._weights(body, body.let(place - T.cast(low, "float32")))
        first = 0 if self.mode == "linear" else -1
        return [
            (body.held(T.max(T.min(low + (first + i), size - 1), 0)), w)
            for i, w in enumerate(weights)
        ]

    def _place(self, body: Body, o: Any, ratio: Any) -> Any:
        if self.mode == "nearest" or self.corners:
            return body.let(o * ratio)
        half = const(0.5, "float32")
        place = body.let((o + half) * ratio - half)
        if self.mode == "cubic":
            return place
        zero = const(0, "float32")
        return body.let(tir.Select(place < zero, zero, place))

    def _weights(self, body: Body, t: Any) -> list[Any]:
        """By the distance t of the place from the element below it."""
        computed = computed_in(self.dtype)
        t = body.let(T.cast(t, computed))
        rest = body.let(const(1, computed) - t)
        if self.mode == "linear":
            return [rest, t]
        one = const(1, computed)
        return [body.let(w) for w in (_outer(t + one), _inner(t), _inner(rest), _outer(rest + one))]


def _inner(t: Any) -> Any:
    """(a + 2) t^3 - (a + 3) t^2 + 1, the weight at distance t <= 1."""
    return _polynomial(t, (_CUBIC + 2, -(_CUBIC + 3), 0.0, 1.0))


def _outer(t: Any) -> Any:
    """a t^3 - 5 a t^2 + 8 a t - 4 a, the weight at distance 1 < t <= 2."""
    return _polynomial(t, (_CUBIC, -5 * _CUBIC, 8 * _CUBIC, -4 * _CUBIC))


def _polynomial(t: Any, coefficients: tuple[float, ...]) -> Any:
    kind = str(t.ty.dtype)
    total = const(coefficients[0], kind)
    for c in coefficients[1:]:
        total = total * t + const(c, kind)
    return total
