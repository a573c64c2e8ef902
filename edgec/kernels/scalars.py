"""exp, tanh, erf, log, ... as plain arithmetic on TIR expressions, so that loops vectorize.

TVM lowers T.exp and its relatives to one call of libm per element, ten times the cost. Everything
here takes and gives f32 expressions and is used inside of vector loops as well.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm.script.ir_builder import tirx as T

# Adding 1.5 * 2**23 rounds a float to the nearest integer, which then sits in the low bits.
_ROUND = 12582912.0

# 2**f on [-0.5, 0.5], highest power first: smallest relative error of degree 5 with 2**0 == 1
# (Lawson's iteration), 1.6e-7.
_EXP2 = (
    0.0013264727195528602,
    0.00967151263976686,
    0.05550733743257561,
    0.24022242085372458,
    0.6931469775991602,
    1.0,
)


def f32(value: float) -> Any:
    return tvm.tirx.const(value, "float32")


def polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    """Horner's rule, highest power first."""
    p = f32(coefficients[0])
    for c in coefficients[1:]:
        p = p * x + f32(c)
    return p


def exp2(x: Any, cut: float = -100.0) -> Any:
    """2**x for x < 128: relative error 1.6e-7; exactly 0 for x <= cut, -inf and NaN.

    The cut stays away from denormal results, which made attention 6.3 times slower.
    """
    # The detour through int32 hides (x + C) - C from TVM's simplifier, which would fold it to x.
    n = T.reinterpret("int32", x + f32(_ROUND))
    f = x - (T.reinterpret("float32", n) - f32(_ROUND))
    p = polynomial(f, _EXP2)
    scaled = T.reinterpret("float32", T.reinterpret("int32", p) + (n << 23))
    return tvm.tirx.Select(x > f32(cut), scaled, f32(0.0))
