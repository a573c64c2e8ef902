"""Every op's cases, for the op tests and for the tests of each target."""

from __future__ import annotations

from tests.cases.case import Case
from tests.cases.ops import conv, elementwise, linear, movement, recurrent, reduce

CASES: tuple[Case, ...] = (
    *elementwise.CASES,
    *reduce.CASES,
    *movement.CASES,
    *linear.CASES,
    *conv.CASES,
    *recurrent.CASES,
)
