"""The logarithm, and powers."""

from __future__ import annotations

import math
from typing import Any

from edgec.kernels.deferred import T, tvm
from edgec.kernels.scalars.floats import (
    LN2_HIGH,
    LN2_LOW,
    bits,
    f32,
    float_of,
    i32,
    polynomial,
    select,
)

# (ln(1 + f) - f + f**2 / 2) / f**3 for sqrt(1/2) - 1 <= f < sqrt(2) - 1: 6.0e-9 of ln(1 + f).
_LOG = (
    -0.0764610767364502,
    0.127791166305542,
    -0.13164184987545013,
    0.14199694991111755,
    -0.16622765362262726,
    0.2000129222869873,
    -0.25000837445259094,
    0.3333333134651184,
)


def log(x: Any) -> Any:
    """ln(x), denormal x included: 2 eps; -inf of 0, NaN of negative numbers."""
    x = T.bind(x)
    tiny = x < f32(2.0**-126)
    i = T.bind(bits(select(tiny, x * f32(2.0**23), x)))
    e = T.bind((i - i32(0x3F3504F3)) >> i32(23))  # the exponent with 1 / sqrt(2) <= m < sqrt(2)
    f = T.bind(float_of(i - (e << i32(23))) - f32(1.0))
    n = T.bind(T.cast(e, "float32") - select(tiny, f32(23.0), f32(0.0)))
    square = T.bind(f * f)
    tail = n * f32(LN2_LOW) + (f * square * polynomial(f, _LOG) - f32(0.5) * square)
    special = select(x == f32(0.0), f32(-math.inf), select(x < f32(0.0), f32(math.nan), x))
    normal = tvm.tirx.all(x > f32(0.0), x < f32(math.inf))
    return select(normal, n * f32(LN2_HIGH) + (f + tail), special)


def power(x: Any, y: Any) -> Any:
    """x**y: products and roots for exponents of `_POWERS`, else powf of libm."""
    if isinstance(y, float | int):
        if float(y) in _POWERS:
            return _POWERS[float(y)](T.bind(x))
        y = f32(y)
    return libm_power("float32", x, y)


def libm_power(dtype: str, x: Any, y: Any) -> Any:
    """pow or powf for each lane. T.pow is the same call, but TVM warns of constant exponents on
    stderr."""
    return T.call_llvm_pure_intrin(dtype, "llvm.pow", x, y)


_POWERS = {
    0.0: lambda x: f32(1.0),
    1.0: lambda x: x,
    2.0: lambda x: x * x,
    3.0: lambda x: x * x * x,
    0.5: lambda x: T.sqrt(x),
    -0.5: lambda x: f32(1.0) / T.sqrt(x),
    -1.0: lambda x: f32(1.0) / x,
    -2.0: lambda x: f32(1.0) / (x * x),
}
