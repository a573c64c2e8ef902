"""Operands for the steps of random graphs: values that fit at all sizes of the named dims."""

from __future__ import annotations

from edgec.ir import DType, Range, Value, dims, symbol
from tests.passes.random_programs import Writer

F32, I64, BOOL = DType.F32, DType.I64, DType.BOOL
L = symbol("length")
DIMS = {"batch": Range(1, 8), "length": Range(4, 48)}
SMALLEST = {n: r.min for n, r in DIMS.items()}


def least(x: Value) -> list[int]:
    """Smallest sizes of a value's axes."""
    return [dims.evaluate(d, SMALLEST) for d in x.type.shape]


def static(w: Writer, rank: int, size: int = 1) -> Value:
    """f32 of at least `rank` axes; its last one is a number from `size` to 64."""
    return w.value(
        fits=lambda v: (
            v.type.rank >= rank
            and isinstance(v.type.shape[-1], int)
            and size <= v.type.shape[-1] <= 64
            and min(least(v)) > 0
        )
    )


def spatial(w: Writer, axes: int) -> Value:
    """[B, C, *S] with `axes` spatial axes of 3 and more, C a number up to 16."""
    return w.value(
        fits=lambda v: (
            v.type.rank == axes + 2
            and isinstance(v.type.shape[1], int)
            and 0 < v.type.shape[1] <= 16
            and min(least(v)[2:]) >= 3
            and least(v)[0] > 0
        )
    )


def channels(x: Value) -> int:
    size = x.type.shape[1]
    assert isinstance(size, int)
    return size


def width(x: Value) -> int:
    size = x.type.shape[-1]
    assert isinstance(size, int)
    return size


def tamed(w: Writer, y: Value) -> Value:
    """Behind sums: often back to moderate size, in a way that targets may fuse."""
    return w.pick(
        lambda: y,
        lambda: w.b.tanh(y),
        lambda: w.b.clamp(y, min=-8.0, max=8.0),
        lambda: w.b.silu(w.b.mul(y, w.f32(0.25))),
    )()


def exact(w: Writer) -> Value:
    """f32 that is the same in any order of rounding: eighths."""
    x = w.value(I64, fits=lambda v: v.type.rank > 0 and min(least(v)) > 0)
    y = w.b.cast(w.b.clamp(x, min=-99.0, max=99.0), dtype=F32)
    return w.b.mul(y, w.f32(w.pick(0.125, 0.375, -1.0, 0.5)))
