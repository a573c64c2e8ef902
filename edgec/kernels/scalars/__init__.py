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

from edgec.kernels.scalars.circular import cos, sin
from edgec.kernels.scalars.exponentials import erf, exp, exp2, exp_negative, expm1, sigmoid, tanh
from edgec.kernels.scalars.floats import bits, f32, float_of, is_nan, nearest, select
from edgec.kernels.scalars.logarithm import libm_power, log, power

__all__ = [
    "bits",
    "cos",
    "erf",
    "exp",
    "exp2",
    "exp_negative",
    "expm1",
    "f32",
    "float_of",
    "is_nan",
    "libm_power",
    "log",
    "nearest",
    "power",
    "select",
    "sigmoid",
    "sin",
    "tanh",
]
