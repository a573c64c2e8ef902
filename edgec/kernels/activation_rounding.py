"""Rounding of activations to what their quantized form holds, ahead of a product in f32.

The formulas are those of `edgec.ops.activation_quantization`, operation by operation, so that codes
are the same; a kernel writes the rounded x, which the product then reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.scalars import nearest
from edgec.kernels.sweep import each, fold


def _least(best: Any, x: Any) -> Any:
    return tir.Select(x < best, x, best)  # NaN in x is passed over


def _most(best: Any, x: Any) -> Any:
    return tir.Select(x > best, x, best)


def _clamp(x: Any, low: Any, high: Any) -> Any:
    return _least(high, _most(low, x))


def _step(body: Body, span: Any, steps: int) -> Any:
    """The width of a step where `steps` of them make a span: 1 for an empty one."""
    step = body.let(span / body.f32(steps))
    return body.let(tir.Select(tir.EQ(step, body.f32(0)), body.f32(1), step))


@dataclass(frozen=True)
class ActivationRange(Kernel):
    """range[r] = (min(0, min x[r]), max(0, max x[r])): the first step of dynamic rounding.

    Pointers   x f32[m, k], range f32[m, 2]
    Sizes      m, k
    Items      m, rows
    """

    family: ClassVar[str] = "activation_range"

    def parameters(self) -> tuple[Pointer | Size, ...]:
        return (Pointer("x"), Pointer("range", output=True), Size("m"), Size("k"))

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return sizes["m"]

    def emit(self, body: Body, isa: InstructionSet) -> None:
        x, found, k = body.buffer("x"), body.buffer("range"), body["k"]
        with body.items() as row:
            start = body.let(row * k)
            for side, pick in enumerate((_least, _most)):
                end = fold(body, k, body.f32(0), lambda i: x[start + i], pick)
                body.store(found, end, row * 2 + side)


@dataclass(frozen=True)
class RoundActivations(Kernel):
    """y = what the quantized form of x holds.

    kind       "dynamic": with the range of all rows, see ActivationRange; "dynamic_token": each row
               by itself; "static": with `scale` and `zero`
    Pointers   x f32[m, k]; range f32[m, 2] where dynamic; y f32[m, k]
    Sizes      m, k; scale and zero (floats) where static
    Items      m, rows
    """

    family: ClassVar[str] = "round_activations"

    kind: Literal["dynamic", "dynamic_token", "static"] = "dynamic"

    def parameters(self) -> tuple[Pointer | Size, ...]:
        ranges = (Pointer("range"),) if self.kind == "dynamic" else ()
        own = (Size("scale", "float32"), Size("zero", "float32")) if self.kind == "static" else ()
        return (Pointer("x"), *ranges, Pointer("y", output=True), Size("m"), Size("k"), *own)

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return sizes["m"]

    def emit(self, body: Body, isa: InstructionSet) -> None:
        x, y, k = body.buffer("x"), body.buffer("y"), body["k"]
        with body.items() as row:
            start = body.let(row * k)
            if self.kind == "dynamic_token":
                top = fold(body, k, body.f32(0), lambda i: T.abs(x[start + i]), _most)
                scale, zero = _step(body, top, 127), body.f32(0)
                low, high = body.f32(-127), body.f32(127)
            else:
                low, high = body.f32(0), body.f32(255)
                if self.kind == "static":
                    scale, zero = body["scale"], body["zero"]
                else:
                    scale, zero = _of_all_rows(body)

            def element(i: Any) -> None:
                code = nearest(x[start + i] / scale) + zero
                body.store(y, (_clamp(code, low, high) - zero) * scale, start + i)

            each(body, k, element)


def _of_all_rows(body: Body) -> tuple[Any, Any]:
    """(scale, zero point) of the range of all rows."""
    found, ends = body.buffer("range"), body.registers((2,))
    for side in range(2):
        body.store(ends, body.f32(0), side)
    with body.loop(0, body["m"]) as r:
        for side, pick in enumerate((_least, _most)):
            body.store(ends, pick(ends[side], found[r * 2 + side]), side)
    low, high = body.let(ends[0]), body.let(ends[1])
    scale = _step(body, high - low, 255)
    return scale, body.let(nearest(_clamp(-low / scale, body.f32(0), body.f32(255))))
