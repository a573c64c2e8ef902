"""Layer, root-mean-square and group norms: statistics in two passes, then the scaled result.

Batch norm has no kernel: with constant statistics it is one multiplication and one addition for
each channel, which a fused elementwise group does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.body import Body
from edgec.kernels.deferred import T
from edgec.kernels.element_types import (
    computed_in,
    const,
    dtype_of,
    from_storage,
    storage,
    to_storage,
)
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.sweep import Columns, Element, axis_items, each, fold, over_columns

#: Sizes that an item goes through.
_INSIDE = ("n", "channels", "spatial")


@dataclass(frozen=True)
class Norm(Kernel):
    """What the norms share.

    dtype          of all tensors; half precision is computed in f32
    weight, bias   whether these operands are there
    """

    dtype: str = "float32"
    weight: bool = True
    bias: bool = True

    def item_elements(self, sizes: Mapping[str, Dim]) -> Dim:
        """Three passes over what an item holds."""
        return dims.normal(3 * dims.product([n for name, n in sizes.items() if name in _INSIDE]))

    def pointers(self, *, residual: bool = False) -> tuple[Pointer, ...]:
        kind = storage(self.dtype)
        given = {"x": True, "r": residual, "weight": self.weight, "bias": self.bias}
        made = {"y": True, "s": residual}
        inputs = [Pointer(name, kind) for name, there in given.items() if there]
        return (*inputs, *(Pointer(n, kind, output=True) for n, there in made.items() if there))

    def load(self, buffer: Any, at: Any) -> Any:
        return from_storage(buffer[at], self.dtype)

    def store(self, body: Body, buffer: Any, value: Any, at: Any) -> None:
        body.store(buffer, to_storage(value, self.dtype), at)

    def affine(self, body: Body, value: Any, at: Any) -> Any:
        """value * weight[at] + bias[at]."""
        if self.weight:
            value = value * self.load(body.buffer("weight"), at)
        return value + self.load(body.buffer("bias"), at) if self.bias else value

    def mean(self, body: Body, n: Any, element: Element) -> Any:
        """The mean of element(i), 0 <= i < n."""
        zero = const(0, computed_in(self.dtype))
        total = fold(body, n, zero, element, lambda a, b: a + b)
        return body.let(total / T.cast(n, computed_in(self.dtype)))

    def deviation(self, body: Body, n: Any, element: Element, mean: Any) -> Any:
        """1 / sqrt(mean of (element(i) - mean)^2 + eps)."""

        def square(i: Any) -> Any:
            d = body.let(element(i) - mean)
            return d * d

        return _inverse_root(body, self.mean(body, n, square))


@dataclass(frozen=True)
class LayerNorm(Norm):
    """y = (s - mean) / sqrt(var + eps) * weight + bias for each row of s = x + r.

    Parameters  x, r? T[rows, n], weight?, bias? T[n], y T[rows, n], s? T[rows, n]; rows, n, f32 eps
    Fields      residual: r is added, and s stored; without it s is x
    Items       rows
    """

    family: ClassVar[str] = "layer_norm"

    residual: bool = False

    def parameters(self) -> tuple[Pointer | Size, ...]:
        pointers = self.pointers(residual=self.residual)
        return (*pointers, Size("rows"), Size("n"), Size("eps", "float32"))

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return sizes["rows"]

    def emit(self, body: Body, isa: InstructionSet) -> None:
        y, n = body.buffer("y"), body["n"]
        with body.items() as row:
            start = body.let(row * n)
            first, later = _rows(self, body, start, self.residual)
            mean = self.mean(body, n, first)
            scale = self.deviation(body, n, later, mean)

            def finish(i: Any) -> None:
                value = self.affine(body, (later(i) - mean) * scale, i)
                self.store(body, y, value, start + i)

            each(body, n, finish)


@dataclass(frozen=True)
class RmsNorm(Norm):
    """y = s / sqrt(mean of s^2 + eps) * weight along the middle axis of s = x + r.

    Parameters  x, r? T[outer, n, inner], weight? T[n], y, s? T[outer, n, inner];
                outer, n, inner, f32 eps. Without `across` inner is 1.
    Fields      residual: r is added, and s stored; not together with `across`. bias is ignored.
    Items       outer; across: outer * ceil(inner / 64)
    """

    family: ClassVar[str] = "rms_norm"

    bias: bool = False
    residual: bool = False
    across: bool = False

    def parameters(self) -> tuple[Pointer | Size, ...]:
        pointers = self.pointers(residual=self.residual)
        return (*pointers, Size("outer"), Size("n"), Size("inner"), Size("eps", "float32"))

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return axis_items(sizes, self.across)

    def emit(self, body: Body, isa: InstructionSet) -> None:
        with body.items() as item:
            if self.across:
                over_columns(body, item, body["inner"], lambda o, c: self._columns(body, o, c))
            else:
                self._row(body, item)

    def _row(self, body: Body, row: Any) -> None:
        y, n = body.buffer("y"), body["n"]
        start = body.let(row * n)
        first, later = _rows(self, body, start, self.residual)

        def square(i: Any) -> Any:
            v = body.let(first(i))
            return v * v

        scale = _inverse_root(body, self.mean(body, n, square))

        def finish(i: Any) -> None:
            self.store(body, y, self.affine(body, later(i) * scale, i), start + i)

        each(body, n, finish)

    def _columns(self, body: Body, outer: Any, c: Columns) -> None:
        x, y, n, inner = body.buffer("x"), body.buffer("y"), body["n"], body["inner"]
        computed = computed_in(self.dtype)
        scale = c.registers(computed)

        def add(at: Any, i: Any) -> None:
            v = body.let(self.load(x, i))
            body.store(scale, scale[at] + v * v, at)

        c.each(lambda at, _: body.store(scale, const(0, computed), at))
        with body.loop(0, n) as j:
            base = body.let((outer * n + j) * inner)
            c.each(lambda at, i: add(at, base + i))
        count = T.cast(n, computed)
        c.each(lambda at, _: body.store(scale, _inverse_root(body, scale[at] / count), at))
        with body.loop(0, n) as j:
            start = body.let((outer * n + j) * inner)
            weight = self.affine(body, const(1, computed), j)
            c.each(
                lambda at, i: self.store(
                    body, y, self.load(x, start + i) * scale[at] * weight, start + i
                )
            )


@dataclass(frozen=True)
class GroupNorm(Norm):
    """y = (x - mean) / sqrt(var + eps) * weight[c] + bias[c], statistics over a group of channels.

    Parameters  x T[batch, groups, channels, spatial], weight?, bias? T[groups * channels], y as x;
                batch, groups, channels (of one group), spatial, f32 eps
    Items       batch * groups
    """

    family: ClassVar[str] = "group_norm"

    def parameters(self) -> tuple[Pointer | Size, ...]:
        sizes = [Size(name) for name in ("batch", "groups", "channels", "spatial")]
        return (*self.pointers(), *sizes, Size("eps", "float32"))

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return dims.product([sizes["batch"], sizes["groups"]])

    def emit(self, body: Body, isa: InstructionSet) -> None:
        x, y = body.buffer("x"), body.buffer("y")
        channels, spatial = body["channels"], body["spatial"]
        with body.items() as item:
            n = body.let(channels * spatial)
            start = body.let(item * n)
            mean = self.mean(body, n, lambda i: self.load(x, start + i))
            scale = self.deviation(body, n, lambda i: self.load(x, start + i), mean)
            with body.loop(0, channels) as c:
                first = body.let(start + c * spatial)
                channel = body.let(item % body["groups"] * channels + c)

                def finish(i: Any, first: Any = first, channel: Any = channel) -> None:
                    value = (self.load(x, first + i) - mean) * scale
                    self.store(body, y, self.affine(body, value, channel), first + i)

                each(body, spatial, finish)


def _rows(norm: Norm, body: Body, start: Any, residual: bool) -> tuple[Element, Element]:
    """Elements of s = x + r as the first sweep takes (and stores) them, and as later ones do."""
    x = body.buffer("x")
    if not residual:
        return (lambda i: norm.load(x, start + i),) * 2
    r, s = body.buffer("r"), body.buffer("s")

    def first(i: Any) -> Any:
        value = body.let(norm.load(x, start + i) + norm.load(r, start + i))
        norm.store(body, s, value, start + i)
        return value

    return first, lambda i: norm.load(s, start + i)


def _inverse_root(body: Body, mean: Any) -> Any:
    """1 / sqrt(mean + eps)."""
    kind = dtype_of(mean)
    return body.let(const(1, kind) / T.sqrt(mean + T.cast(body["eps"], kind)))
