"""exp, tanh, erf, log, ... as plain arithmetic on TIR expressions, so that loops vectorize.

TVM lowers T.exp and its relatives to one call of libm per element, ten times the cost. Everything
here takes and gives f32 expressions, is used inside of vector loops as well, and keeps NaN unless
it says otherwise. Polynomials were fitted here: smallest relative error by Lawson's iteration
(Lawson 1961; Cline 1972), highest power first; relative errors of the functions, rounding included,
are stated in multiples of eps = 2**-23 and held by tests/kernels/test_scalars.py.

Traps that shaped the code: TVM folds (x + C) - C to x, so it goes through an integer; x != x is
folded to False; Select(x > c, c, x) keeps a NaN and T.min does not; an expression that is used
twice is bound to a name (`T.bind`), or nested functions grow exponentially.
"""

from __future__ import annotations

import math
from typing import Any

from edgec.kernels.deferred import T, tvm

# Adding 1.5 * 2**23 rounds a float to the nearest integer, which then sits in the low bits.
_ROUND = 12582912.0
_ROUND_BITS = 0x4B400000
_ROUND_F64 = 6755399441055744.0  # the same for float64: 1.5 * 2**52
_SIGN = -(2**31)

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
# (sin(r) - r) / r**3 and (cos(r) - 1 + r**2 / 2) / r**4 in r**2 for |r| <= pi / 4: 3.8e-9, 1.2e-10.
_SIN = (-0.0001951463200384751, 0.008332155644893646, -0.16666655242443085)
_COS = (2.443241282890085e-05, -0.0013887309469282627, 0.04166664555668831)
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

# ln(2) in two parts, the first with so few bits that n * _LN2_HIGH is exact.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
# pi / 2 in two parts: 25 bits, so that n * _HALF_PI_HIGH is exact in float64, and the rest.
_HALF_PI_HIGH = float.fromhex("0x1.921fb5p+0")
_HALF_PI_LOW = float.fromhex("0x1.110b4611a6263p-26")


def f32(value: float) -> Any:
    return tvm.tirx.const(value, "float32")


def i32(value: int) -> Any:
    return tvm.tirx.const(value, "int32")


def select(condition: Any, yes: Any, no: Any) -> Any:
    """One of two values, both of which are computed: no branch."""
    return tvm.tirx.Select(condition, yes, no)


def polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    """Horner's rule, highest power first."""
    p = f32(coefficients[0])
    for c in coefficients[1:]:
        p = p * x + f32(c)
    return p


def bits(x: Any) -> Any:
    return T.reinterpret("int32", x)


def float_of(n: Any) -> Any:
    return T.reinterpret("float32", n)


def is_nan(x: Any) -> Any:
    """Whether an f32 or f64 is NaN. T.isnan makes TVM's vectorizer write one lane at a time."""
    if str(x.ty.dtype) == "float64":
        wide = T.reinterpret("int64", x) & tvm.tirx.const(2**63 - 1, "int64")
        return wide > tvm.tirx.const(0x7FF0000000000000, "int64")
    return (bits(x) & i32(2**31 - 1)) > i32(0x7F800000)


def _copysign(magnitude: Any, sign: Any) -> Any:
    """A magnitude >= 0 (or NaN) with the sign of another value."""
    return float_of(bits(magnitude) | (bits(sign) & i32(_SIGN)))


def _power_of_two(n: Any) -> Any:
    """2**n for integers -126 <= n <= 127."""
    return float_of((n + i32(127)) << i32(23))


# ------------------------------------------------------------------ exponentials
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
    r = T.bind(x - n * f32(_LN2_HIGH) - n * f32(_LN2_LOW))
    return T.bind(rounded - i32(_ROUND_BITS)), T.bind(r * r * polynomial(r, _EXPM1) + r)


def exp(x: Any) -> Any:
    """e**x over the whole range, inf and denormal results included: 1 eps."""
    x = T.bind(x)
    x = T.bind(select(x > f32(89.0), f32(89.0), x))
    x = T.bind(select(x < f32(-104.0), f32(-104.0), x))
    n, p = _reduced(x)
    # in two steps: 2**128 and 2**-127 are no floats, and denormal results are rounded once
    half = T.bind(n >> i32(1))
    return (p + f32(1.0)) * _power_of_two(half) * _power_of_two(n - half)


def exp_negative(x: Any) -> Any:
    """e**x for x <= 0: 1 eps; exactly 0 below -87.

    What softmax needs: no denormal results, which cost a hundred times as much as others.
    """
    x = T.bind(x)
    n, p = _reduced(T.bind(select(x < f32(-87.0), f32(-87.0), x)))
    return select(x < f32(-87.0), f32(0.0), (p + f32(1.0)) * _power_of_two(n))


def expm1(x: Any) -> Any:
    """e**x - 1 without cancellation, for x <= 88: 3 eps; inf above."""
    x = T.bind(x)
    inside = T.bind(select(x > f32(88.0), f32(88.0), x))
    n, p = _reduced(T.bind(select(inside < f32(-18.0), f32(-18.0), inside)))
    s = T.bind(_power_of_two(n))
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
    s = T.bind(_power_of_two(n))
    t = T.bind(p * s + (s - f32(1.0)))
    return _copysign(t / (t + f32(2.0)), x)


def erf(x: Any) -> Any:
    """The error function: 2 eps."""
    x = T.bind(x)
    a = T.bind(T.fabs(x))
    below = x * polynomial(T.bind(x * x), _ERF)
    n, p = _reduced(
        T.bind(polynomial(T.bind(select(a > f32(_ERF_ONE), f32(_ERF_ONE), a)), _LOG_ERFC))
    )
    above = f32(1.0) - (p + f32(1.0)) * _power_of_two(n)
    return select(a < f32(_ERF_TURN), below, _copysign(T.bind(above), x))


# ------------------------------------------------------------------ logarithm, powers
def log(x: Any) -> Any:
    """ln(x), denormal x included: 2 eps; -inf of 0, NaN of negative numbers."""
    x = T.bind(x)
    tiny = x < f32(2.0**-126)
    i = T.bind(bits(select(tiny, x * f32(2.0**23), x)))
    e = T.bind((i - i32(0x3F3504F3)) >> i32(23))  # the exponent with 1 / sqrt(2) <= m < sqrt(2)
    f = T.bind(float_of(i - (e << i32(23))) - f32(1.0))
    n = T.bind(T.cast(e, "float32") - select(tiny, f32(23.0), f32(0.0)))
    square = T.bind(f * f)
    tail = n * f32(_LN2_LOW) + (f * square * polynomial(f, _LOG) - f32(0.5) * square)
    special = select(x == f32(0.0), f32(-math.inf), select(x < f32(0.0), f32(math.nan), x))
    normal = tvm.tirx.all(x > f32(0.0), x < f32(math.inf))
    return select(normal, n * f32(_LN2_HIGH) + (f + tail), special)


def power(x: Any, y: Any) -> Any:
    """x**y: products and roots for exponents of `_POWERS`, else powf of libm for each lane."""
    if isinstance(y, float | int):
        if float(y) in _POWERS:
            return _POWERS[float(y)](T.bind(x))
        y = f32(y)
    return T.pow(x, y)


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


# ------------------------------------------------------------------ sine, cosine
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
    rounded = T.bind(T.reinterpret("int64", wide * _f64(2 / math.pi) + _f64(_ROUND_F64)))
    n = T.bind(T.reinterpret("float64", rounded) - _f64(_ROUND_F64))
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
