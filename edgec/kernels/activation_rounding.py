"""Rounding of activations to what their quantized form holds, ahead of a product in f32.

The formulas are those of `edgec.ops.activation_quantization`, operation by operation, so that codes
are the same; a kernel writes the rounded x, which the product then reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tir
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size


def _less(a: Any, b: Any) -> Any:
    return tir.Select(a < b, a, b)


def _more(a: Any, b: Any) -> Any:
    return tir.Select(a > b, a, b)


def _clamp(x: Any, low: Any, high: Any) -> Any:
    return _less(_more(x, low), high)


def _elements(body: Body, lanes: int, count: Any, step: Callable[[Any, Any], None]) -> None:
    """step(i, lane) for i < count: in vectors, and one by one in lane 0 for the rest."""
    with body.loop(0, count // lanes) as v:
        with body.vector(lanes) as lane:
            step(v * lanes + lane, lane)
    with body.loop(count // lanes * lanes, count) as i:
        step(i, body.i32(0))


def _reduced(body: Body, lanes: int, values: Any, pick: Callable[[Any, Any], Any]) -> Any:
    """pick over the lanes of a register."""
    result = body.registers((1,))
    body.store(result, values[0], 0)
    with body.loop(1, lanes) as lane:
        body.store(result, pick(result[0], values[lane]), 0)
    return body.let(result[0])


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
        x, found, k, lanes = body.buffer("x"), body.buffer("range"), body["k"], isa.lanes
        with body.items() as row:
            for side, pick in enumerate((_less, _more)):
                best = body.registers((lanes,))
                with body.vector(lanes) as lane:
                    body.store(best, body.f32(0), lane)

                def step(i: Any, lane: Any, best: Any = best, pick: Any = pick) -> None:
                    body.store(best, pick(x[row * k + i], best[lane]), lane)

                _elements(body, lanes, k, step)
                body.store(found, _reduced(body, lanes, best, pick), row * 2 + side)


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
        x, y, k, lanes = body.buffer("x"), body.buffer("y"), body["k"], isa.lanes
        with body.items() as row:
            start = body.let(row * k)
            if self.kind == "dynamic_token":
                scale = self._token_scale(body, lanes, x, start, k)
                low, high, zero = body.f32(-127), body.f32(127), body.f32(0)
            else:
                low, high = body.f32(0), body.f32(255)
                if self.kind == "static":
                    scale, zero = body["scale"], body["zero"]
                else:
                    scale, zero = self._dynamic(body)

            def step(i: Any, _lane: Any) -> None:
                code = T.nearbyint(x[start + i] / scale) + zero
                body.store(y, (_clamp(code, low, high) - zero) * scale, start + i)

            _elements(body, lanes, k, step)

    @staticmethod
    def _token_scale(body: Body, lanes: int, x: Any, start: Any, k: Any) -> Any:
        top = body.registers((lanes,))
        with body.vector(lanes) as lane:
            body.store(top, body.f32(0), lane)

        def step(i: Any, lane: Any) -> None:
            body.store(top, _more(T.abs(x[start + i]), top[lane]), lane)

        _elements(body, lanes, k, step)
        scale = body.let(_reduced(body, lanes, top, _more) / body.f32(127))
        return body.let(tir.Select(tir.EQ(scale, body.f32(0)), body.f32(1), scale))

    @staticmethod
    def _dynamic(body: Body) -> tuple[Any, Any]:
        """(scale, zero point) of the range of all rows."""
        found = body.buffer("range")
        ends = body.registers((2,))
        body.store(ends, body.f32(0), 0)
        body.store(ends, body.f32(0), 1)
        with body.loop(0, body["m"]) as r:
            body.store(ends, _less(found[r * 2], ends[0]), 0)
            body.store(ends, _more(found[r * 2 + 1], ends[1]), 1)
        low, high = body.let(ends[0]), body.let(ends[1])
        scale = body.let((high - low) / body.f32(255))
        scale = body.let(tir.Select(tir.EQ(scale, body.f32(0)), body.f32(1), scale))
        zero = T.nearbyint(_clamp(-low / scale, body.f32(0), body.f32(255)))
        return scale, body.let(zero)
