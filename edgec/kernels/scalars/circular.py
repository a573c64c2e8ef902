"""Sine and cosine."""

from __future__ import annotations

import math
from typing import Any

from edgec.kernels.deferred import T, tvm
from edgec.kernels.scalars.floats import bits, f32, float_of, i32, polynomial, select

# Adding 1.5 * 2**52 rounds a float64 to the nearest integer, which then sits in the low bits.
_ROUND = 6755399441055744.0

# (sin(r) - r) / r**3 and (cos(r) - 1 + r**2 / 2) / r**4 in r**2 for |r| <= pi / 4: 3.8e-9, 1.2e-10.
_SIN = (-0.0001951463200384751, 0.008332155644893646, -0.16666655242443085)
_COS = (2.443241282890085e-05, -0.0013887309469282627, 0.04166664555668831)
# pi / 2 in two parts: 25 bits, so that n * _HALF_PI_HIGH is exact in float64, and the rest.
_HALF_PI_HIGH = float.fromhex("0x1.921fb5p+0")
_HALF_PI_LOW = float.fromhex("0x1.110b4611a6263p-26")


def sin(x: Any) -> Any:
    """sin(x): 2 eps for |x| < 4e8; beyond that the phase is lost by and by, but |y| <= 1."""
    return _circular(x, 0)


def cos(x: Any) -> Any:
    """cos(x) = sin(x + pi / 2): as `sin`."""
    return _circular(x, 1)


def _circular(x: Any, quarter: int) -> Any:
    """sin(x + quarter pi / 2), reduced in float64: x = n pi / 2 + r, |r| <= pi / 4.

    The two parts of pi / 2 are those of fdlibm's sinf (Sun Microsystems 1993).
    """
    wide = T.bind(T.cast(x, "float64"))
    rounded = T.bind(T.reinterpret("int64", wide * _f64(2 / math.pi) + _f64(_ROUND)))
    n = T.bind(T.reinterpret("float64", rounded) - _f64(_ROUND))
    r = T.bind(T.cast(wide - n * _f64(_HALF_PI_HIGH) - n * _f64(_HALF_PI_LOW), "float32"))
    r = T.bind(select(r > f32(0.8), f32(0.8), select(r < f32(-0.8), f32(-0.8), r)))
    turn = T.bind(T.cast(rounded, "int32") + i32(quarter))
    square = T.bind(r * r)
    sine = r * square * polynomial(square, _SIN) + r
    cosine = square * square * polynomial(square, _COS) + (f32(1.0) - f32(0.5) * square)
    y = select((turn & i32(1)) == i32(1), cosine, sine)
    return float_of(bits(y) ^ ((turn & i32(2)) << i32(30)))


def _f64(value: float) -> Any:
    return tvm.tirx.const(value, "float64")
