"""Padding in all modes; a negative pad takes elements away."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.capture.call import Call, Scalar
from edgec.capture.registry import aten
from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.graph import Value


def _pairs(c: Call, pads: Sequence[Dim], rank: int) -> list[tuple[Dim, Dim]]:
    """torch lists (low, high) from the last axis on; here one pair per axis in order."""
    given = [(pads[i], pads[i + 1]) for i in range(0, len(pads), 2)]
    return [(0, 0)] * (rank - len(given)) + given[::-1]


def padded(
    c: Call, x: Value, pads: Sequence[Dim], mode: str, value: float | int | bool = 0.0
) -> Value:
    pairs = _pairs(c, pads, x.type.rank)
    for axis, (low, high) in enumerate(pairs):
        cut_low, cut_high = (dims.normal(-p) if c.hint(p) < 0 else 0 for p in (low, high))
        size = x.type.shape[axis]
        x = c.slice(x, axis, cut_low, dims.normal(size - cut_high))
    kept = tuple((_positive(c, low), _positive(c, high)) for low, high in pairs)
    if all(pair == (0, 0) for pair in kept):
        return x
    return c.value(c.b.pad(x, pads=kept, mode=mode, value=float(value)))


def _positive(c: Call, pad: Dim) -> Dim:
    return pad if c.hint(pad) > 0 or not isinstance(pad, int) else 0


@aten("constant_pad_nd")
def constant_pad(c: Call, x: Value, pads: Sequence[Dim], value: Scalar) -> Value:
    if not isinstance(value, int | float):
        return c.fail("a computed padding value")
    return padded(c, x, pads, "constant", value)


@aten("pad")
def pad(c: Call, x: Value, pads: Sequence[Dim], mode: str, value: float | None) -> Value:
    if mode == "circular":
        return circular(c, x, pads)
    name = {"replicate": "edge"}.get(mode, mode)
    return padded(c, x, pads, name, value or 0.0)


@aten("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def reflection(c: Call, x: Value, pads: Sequence[Dim]) -> Value:
    return padded(c, x, pads, "reflect")


@aten("replication_pad1d", "replication_pad2d", "replication_pad3d")
def replication(c: Call, x: Value, pads: Sequence[Dim]) -> Value:
    return padded(c, x, pads, "edge")


@aten("_pad_circular")
def circular(c: Call, x: Value, pads: Sequence[Dim]) -> Value:
    """The other end of the axis continues it."""
    for axis, (low, high) in enumerate(_pairs(c, pads, x.type.rank)):
        size = x.type.shape[axis]
        if (low, high) != (0, 0):
            before = [c.slice(x, axis, dims.normal(size - low), size)] if low != 0 else []
            after = [c.slice(x, axis, 0, high)] if high != 0 else []
            x = c.concat([*before, x, *after], axis)
    return x
