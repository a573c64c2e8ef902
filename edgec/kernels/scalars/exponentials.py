"""e**x and what is made of it: exp, expm1, sigmoid, tanh, erf."""

from __future__ import annotations

import math
from typing import Any

from edgec.kernels.deferred import T
from edgec.kernels.scalars.floats import (
    LN2_HIGH,
    LN2_LOW,
    bits,
    copysign,
    f32,
    float_of,
    i32,
    polynomial,
    power_of_two,
    select,
)

# Adding 1.5 * 2**23 rounds a float to the nearest integer, which then sits in the low bits.
_ROUND = 12582912.0
_ROUND_BITS = 0x4B400000

# 2**f on [-0.5, 0.5], with 2**0 == 1: 1.6e-7.
_EXP2 = (
    0.0013264727195528602,
    0.00967151263976686,
    0.05550733743257561,
    0.24022242085372458,
    0.6931469775991602,
    1.0,
)
# (e**r - 1 - r) / r**2 for |r| <= ln(2) / 2: 1.3e-8 of e**r - 1.
_EXPM1 = (
    0.001388249802403152,
    0.00836664717644453,
    0.04166720435023308,
    0.16666541993618011,
    0.4999999701976776,
)
# erf(t) / t in t**2 for |t| <= 0.925: 1.6e-8.
_ERF = (
    -0.0005976591492071748,
    0.004990413319319487,
    -0.026764756068587303,
    0.1128176599740982,
    -0.37612488865852356,
    1.1283791065216064,
)
# ln(1 - erf(t)) for 0.925 <= t <= 3.93: 1.4e-9 of erf(t).
_LOG_ERFC = (
    0.00019437911396380514,
    -0.00302809476852417,
    0.02216733805835247,
    -0.10380955040454865,
    -0.6373194456100464,
    -1.12759530544281,
    -0.00021481818112079054,
)
_ERF_TURN = 0.925
_ERF_ONE = 3.93  # erf is 1 in f32 from here on


def exp2(x: Any, cut: float = -100.0) -> Any:
    """2**x for x < 128: 2 eps; exactly 0 for x <= cut, -inf and NaN.

    The cut stays away from denormal results, which made attention 6.3 times slower.
    """
    # The detour through int32 hides (x + C) - C from TVM's simplifier, which would fold it to x.
    n = T.bind(bits(x + f32(_ROUND)))
    f = T.bind(x - (float_of(n) - f32(_ROUND)))
    scaled = float_of(bits(polynomial(f, _EXP2)) + (n << 23))
    return select(x > f32(cut), scaled, f32(0.0))


def _reduced(x: Any) -> tuple[Any, Any]:
    """(n, e**r - 1) with x = n ln(2) + r, |r| <= ln(2) / 2, for |x| < 2**21."""
    rounded = T.bind(bits(x * f32(1 / math.log(2)) + f32(_ROUND)))
    n = T.bind(float_of(rounded) - f32(_ROUND))
    r = T.bind(x - n * f32(LN2_HIGH) - n * f32(LN2_LOW))
    return T.bind(rounded - i32(_ROUND_BITS)), T.bind(r * r * polynomial(r, _EXPM1) + r)


def exp(x: Any) -> Any:
    """e**x over the whole range, inf and denormal results included: 1 eps."""
    x = T.bind(x)
    x = T.bind(select(x > f32(89.0), f32(89.0), x))
    x = T.bind(select(x < f32(-104.0), f32(-104.0), x))
    n, p = _reduced(x)
    # in two steps: 2**128 and 2**-127 are no floats, and denormal results are rounded once
    half = T.bind(n >> i32(1))
    return (p + f32(1.0)) * power_of_two(half) * power_of_two(n - half)


def exp_negative(x: Any) -> Any:
    """e**x for x <= 0: 1 eps; exactly 0 below -87.

    What softmax needs: no denormal results, which cost a hundred times as much as others.
    """
    x = T.bind(x)
    n, p = _reduced(T.bind(select(x < f32(-87.0), f32(-87.0), x)))
    return select(x < f32(-87.0), f32(0.0), (p + f32(1.0)) * power_of_two(n))


def expm1(x: Any) -> Any:
    """e**x - 1 without cancellation, for x <= 88: 3 eps; inf above."""
    x = T.bind(x)
    inside = T.bind(select(x > f32(88.0), f32(88.0), x))
    n, p = _reduced(T.bind(select(inside < f32(-18.0), f32(-18.0), inside)))
    s = T.bind(power_of_two(n))
    return select(x > f32(88.0), f32(math.inf), p * s + (s - f32(1.0)))


def sigmoid(x: Any) -> Any:
    """1 / (1 + e**-x): 3 eps; 0 below -88."""
    return f32(1.0) / (f32(1.0) + exp(-x))


def tanh(x: Any) -> Any:
    """t / (t + 2) with t = e**(2 |x|) - 1: 3 eps."""
    x = T.bind(x)
    a = T.bind(T.fabs(x))
    # 1 - tanh(9.1) is below eps / 4
    n, p = _reduced(T.bind(select(a > f32(9.1), f32(9.1), a) * f32(2.0)))
    s = T.bind(power_of_two(n))
    t = T.bind(p * s + (s - f32(1.0)))
    return copysign(t / (t + f32(2.0)), x)


def erf(x: Any) -> Any:
    """The error function: 2 eps."""
    x = T.bind(x)
    a = T.bind(T.fabs(x))
    below = x * polynomial(T.bind(x * x), _ERF)
    n, p = _reduced(
        T.bind(polynomial(T.bind(select(a > f32(_ERF_ONE), f32(_ERF_ONE), a)), _LOG_ERFC))
    )
    above = f32(1.0) - (p + f32(1.0)) * power_of_two(n)
    return select(a < f32(_ERF_TURN), below, copysign(T.bind(above), x))
