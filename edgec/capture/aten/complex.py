"""Complex numbers as pairs of real values, and Fourier transforms.

The IR has no complex dtype. A complex result is a pair that rules hand on until a model takes its
real or imaginary part, its absolute value or its parts as an axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from edgec.capture.aten.elementwise import atan2
from edgec.capture.call import Call, Complex, Scalar
from edgec.capture.registry import RULES, aten, complex_aten
from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.graph import Value
from edgec.ir.types import DType


# ------------------------------------------------------------------ between real and complex
@aten("view_as_complex", "view_as_complex_copy")
def view_as_complex(c: Call, x: Value) -> Complex:
    parts = [c.squeeze(c.slice(x, -1, i, i + 1), -1) for i in (0, 1)]
    return Complex(*parts)


@aten("complex")
def complex_(c: Call, re: Value, im: Value) -> Complex:
    return Complex(c.expand(re, c.shape), c.expand(im, c.shape))


@aten("polar")
def polar(c: Call, size: Value, angle: Value) -> Complex:
    return Complex(c.b.mul(size, c.b.cos(angle)), c.b.mul(size, c.b.sin(angle)))


@complex_aten("real")
def real(c: Call, z: Complex) -> Value:
    return z.re


@complex_aten("imag")
def imag(c: Call, z: Complex) -> Value:
    return z.im


@complex_aten("view_as_real", "view_as_real_copy")
def view_as_real(c: Call, z: Complex) -> Value:
    return c.concat([c.unsqueeze(p, -1) for p in (z.re, z.im)], -1)


@complex_aten("abs", "absolute")
def absolute(c: Call, z: Complex) -> Value:
    im = z.im
    return c.value(c.b.sqrt(c.b.add(c.b.mul(z.re, z.re), c.b.mul(im, im))))


@complex_aten("angle")
def angle(c: Call, z: Complex) -> Value:
    return atan2(c, z.im, z.re)


# ------------------------------------------------------------------ arithmetic
@complex_aten("conj", "_conj", "conj_physical", "_conj_physical", "resolve_conj")
def conjugate(c: Call, z: Complex) -> Complex:
    if c.overload == "aten.resolve_conj.default":
        return z
    return Complex(z.re, c.b.neg(z.im))


@complex_aten("mul.Tensor", "mul.Scalar")
def mul(c: Call, a: Any, b: Any) -> Complex:
    if not isinstance(a, Complex):
        a, b = b, a
    re, im = a.re, a.im
    if not isinstance(b, Complex):
        factor = c.operand(b, re.type.dtype)
        return Complex(c.b.mul(re, factor), c.b.mul(im, factor))
    other = b.im
    product_re = c.b.sub(c.b.mul(re, b.re), c.b.mul(im, other))
    return Complex(product_re, c.b.add(c.b.mul(re, other), c.b.mul(im, b.re)))


@complex_aten("div.Tensor", "div.Scalar")
def div(c: Call, a: Any, b: Scalar) -> Complex:
    if not isinstance(a, Complex) or isinstance(b, Complex):
        c.fail("division by a complex number")
    divisor = c.operand(b, a.re.type.dtype)
    return Complex(c.b.div(a.re, divisor), c.b.div(a.im, divisor))


@complex_aten("add.Tensor", "sub.Tensor")
def add(c: Call, a: Any, b: Any, alpha: Scalar) -> Complex:
    if not isinstance(a, Complex) or not isinstance(b, Complex) or alpha != 1:
        c.fail("a sum of a complex and a real number, or a scaled one")
    op = c.b.add if ".add." in c.overload else c.b.sub
    return Complex(op(a.re, b.re), op(a.im, b.im))


@complex_aten("_to_copy", "to.dtype", "clone", "alias", "detach", "contiguous", "lift_fresh_copy")
def keep(c: Call, z: Complex, *_: Any) -> Complex | Value:
    return z


# ------------------------------------------------------------------ Fourier transforms
def angles(c: Call, rows: Dim, columns: Dim, n: Dim, dtype: DType) -> tuple[Value, Value]:
    """cos and sin of 2 pi j k / n, [rows, columns]; the product modulo n is exact in integers."""
    if isinstance(rows, int) and isinstance(columns, int) and isinstance(n, int):
        jk = (torch.arange(rows)[:, None] * torch.arange(columns)) % n
        turns = jk.double() * (2 * math.pi / n)
        parts = (turns.cos(), turns.sin())
        cos, sin = (c.const(t.to(dtype.torch_dtype), "angles") for t in parts)
        return cos, sin
    j, k = c.reshape(c.iota(rows), [rows, 1]), c.reshape(c.iota(columns), [1, columns])
    wrapped = c.cast(c.b.mod(c.b.mul(j, k), c.number(n, DType.I64)), dtype)
    angle = c.b.mul(wrapped, c.b.div(c.number(2 * math.pi, dtype), c.number(n, dtype)))
    return c.b.cos(angle), c.b.sin(angle)


def _apply(c: Call, x: Value, matrix: Value, axis: int) -> Value:
    """sum_j x_j matrix[j, k] along `axis`."""
    turned = c.swap(x, axis, x.type.rank - 1)
    single = turned.type.rank == 1
    product = c.b.matmul(c.unsqueeze(turned, 0) if single else turned, matrix)
    product = c.squeeze(product, 0) if single else product
    return c.swap(product, axis, x.type.rank - 1)


def transformed(
    c: Call, x: Value | Complex, axis: int, count: Dim, inverse: bool = False
) -> Complex:
    """The first `count` values of the discrete Fourier transform along an axis, unscaled."""
    re = x.re if isinstance(x, Complex) else x
    n = re.type.shape[axis]
    cos, sin = angles(c, n, count, n, re.type.dtype)
    if not isinstance(x, Complex):
        im = _apply(c, re, sin, axis)
        return Complex(_apply(c, re, cos, axis), im if inverse else c.b.neg(im))
    sign, other = (c.b.sub, c.b.add) if inverse else (c.b.add, c.b.sub)
    return Complex(
        sign(_apply(c, re, cos, axis), _apply(c, x.im, sin, axis)),
        other(_apply(c, x.im, cos, axis), _apply(c, re, sin, axis)),
    )


def _scale(c: Call, z: Complex, count: Dim, norm: str | None, inverse: bool) -> Complex:
    """The factor that torch's `norm` asks for."""
    whole = "backward" if inverse else "forward"
    norm = norm or "backward"
    if norm not in (whole, "ortho"):
        return z
    n = c.number(count, z.re.type.dtype)
    factor = c.b.reciprocal(n) if norm == whole else c.b.rsqrt(n)
    return Complex(c.b.mul(z.re, factor), c.b.mul(z.im, factor))


def _fourier(
    c: Call, x: Value | Complex, axes: Sequence[int], norm: str | None, inverse: bool
) -> Complex:
    re = x.re if isinstance(x, Complex) else x
    axes = [a % re.type.rank for a in axes]
    total: Value | Complex = x
    for axis in axes:
        total = transformed(c, total, axis, re.type.shape[axis], inverse)
    assert isinstance(total, Complex)
    if not isinstance(x, Complex) and not inverse:
        # one op for the real part; the other nodes die where only that is taken
        total = Complex(c.b.dft_real(x, axes=tuple(axes)), total.im)
    return _scale(c, total, dims.product(re.type.shape[a] for a in axes), norm, inverse)


def _whole(c: Call, x: Value | Complex, size: Any, axes: Sequence[int]) -> None:
    re = x.re if isinstance(x, Complex) else x
    sizes = [size] if isinstance(size, int) else list(size or [])
    if any(n != re.type.shape[a] for n, a in zip(sizes, axes, strict=False)):
        c.fail("a Fourier transform that pads or cuts its input (n=, s=); pad or slice before")


def _all_axes(x: Value | Complex, axes: Sequence[int] | None) -> list[int]:
    re = x.re if isinstance(x, Complex) else x
    return list(range(re.type.rank)) if axes is None else list(axes)


def _register(name: str, inverse: bool) -> None:
    def one(c: Call, x: Any, n: Any, axis: int, norm: str | None) -> Complex:
        _whole(c, x, n, [axis])
        return _fourier(c, x, [axis], norm, inverse)

    def many(c: Call, x: Any, size: Any, axes: Any, norm: str | None) -> Complex:
        axes = _all_axes(x, axes)
        _whole(c, x, size, axes)
        return _fourier(c, x, axes, norm, inverse)

    for overload, convert in ((f"fft_{name}", one), (f"fft_{name}2", many), (f"fft_{name}n", many)):
        aten(overload)(convert)
        complex_aten(overload)(convert)


_register("fft", inverse=False)
_register("ifft", inverse=True)


@aten("fft_rfft")
def rfft(c: Call, x: Value, n: Any, axis: int, norm: str | None) -> Complex:
    """The first n // 2 + 1 values: those of a real signal determine the others."""
    _whole(c, x, n, [axis])
    axis %= x.type.rank
    size = x.type.shape[axis]
    count = dims.normal(dims.floordiv(size, 2) + 1)
    return _scale(c, transformed(c, x, axis, count), size, norm, False)


@complex_aten("fft_irfft")
def irfft(c: Call, z: Complex, n: Any, axis: int, norm: str | None) -> Value:
    """x_j = sum_k w_k (re_k cos - im_k sin), w = 1 for the first and the middle value, else 2."""
    axis %= z.re.type.rank
    size = c.require_static(c.shape[axis], "the size of irfft")
    half = c.require_static(z.re.type.shape[axis], "the axis of irfft")
    if half != size // 2 + 1:
        c.fail("irfft that pads or cuts its input; pad or slice before")
    weight = torch.full((half,), 2.0)
    weight[0] = 1.0
    if size % 2 == 0:
        weight[-1] = 1.0
    dtype = z.re.type.dtype
    shape = [half] + [1] * (z.re.type.rank - 1 - axis)
    factor = c.const(weight.to(dtype.torch_dtype).reshape(shape), "weight")
    cos, sin = angles(c, half, size, size, dtype)
    re, im = (_apply(c, c.b.mul(p, factor), m, axis) for p, m in ((z.re, cos), (z.im, sin)))
    scale = {"forward": 1.0, "ortho": 1 / math.sqrt(size)}.get(norm or "", 1 / size)
    return c.value(c.b.mul(c.b.sub(re, im), c.number(scale, dtype)))


@aten("stft", "stft.center")
def stft(
    c: Call, x: Value, n: int, hop: int | None, width: int | None, window: Any, *rest: Any
) -> Any:
    """Frames of n samples, windowed, each transformed: [B, n // 2 + 1 or n, frames]."""
    centered = c.overload.endswith(".center")
    center, mode = rest[:2] if centered else (False, "")
    normalized, onesided, as_complex = rest[2:5] if centered else rest[:3]
    hop = hop or n // 4
    if center:
        x = c.b.pad(x, pads=_last_pads(x, n // 2), mode=_MODES[mode])
    frames = RULES["aten.unfold.default"](_framed(c, x, n, hop), x, -1, n, hop)
    if window is not None:
        low = (n - (width or n)) // 2
        pads = ((low, n - (width or n) - low),)
        frames = c.b.mul(frames, window if width in (None, n) else c.b.pad(window, pads=pads))
    count = n // 2 + 1 if onesided in (None, True) else n
    z = transformed(c, frames, frames.type.rank - 1, count)
    z = mul(c, z, 1 / math.sqrt(n)) if normalized else z
    z = _both(z, lambda part: c.swap(part, -1, -2))
    return z if as_complex else view_as_real(c, z)


_MODES = {"reflect": "reflect", "replicate": "edge", "constant": "constant"}


def _last_pads(x: Value, n: int) -> tuple[tuple[int, int], ...]:
    return (*(((0, 0),) * (x.type.rank - 1)), (n, n))


def _framed(c: Call, x: Value, n: int, hop: int) -> Call:
    """The context of the unfold inside of stft."""
    count = (x.type.shape[-1] - n) // hop + 1 if isinstance(x.type.shape[-1], int) else None
    if count is None:
        c.fail("stft of a symbolic number of samples")
    kind = x.type.with_shape(*x.type.shape[:-1], count, n)
    return Call(c.b, c.pool, c.symbols, (kind,), "aten.unfold.default")


def _both(z: Complex, change: Callable[[Value], Value]) -> Complex:
    return Complex(change(z.re), change(z.im))
