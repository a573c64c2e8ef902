"""What the functions are made of: constants, the bits of a float, polynomials."""

from __future__ import annotations

from typing import Any

from edgec.kernels.deferred import T, tvm

# ln(2) in two parts, the first with so few bits that n * LN2_HIGH is exact.
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4


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


def nearest(x: Any) -> Any:
    """The nearest integer of an f32 or f64, of two the even one. T.nearbyint has no vectors."""
    return T.call_llvm_pure_intrin(str(x.ty.dtype), "llvm.nearbyint", x)


def copysign(magnitude: Any, sign: Any) -> Any:
    """A magnitude >= 0 (or NaN) with the sign of another value."""
    return float_of(bits(magnitude) | (bits(sign) & i32(-(2**31))))


def power_of_two(n: Any) -> Any:
    """2**n for integers -126 <= n <= 127."""
    return float_of((n + i32(127)) << i32(23))
