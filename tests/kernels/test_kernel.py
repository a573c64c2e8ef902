"""Kernels as keys of tables."""

from __future__ import annotations

from edgec.ir import DType
from edgec.kernels.elementwise import Elementwise
from edgec.kernels.steps import Step
from edgec.ops.creation import Full


def filled(value: float) -> Elementwise:
    return Elementwise(1, (), (Step(Full((4,), value, DType.F32), ()),))


def test_constants_that_are_equal_but_not_the_same_are_two_kernels() -> None:
    """0.0, -0.0 and False have one hash in Python; a table that takes one for the other would
    leave a function undeclared, or compute -0.0 as 0.0."""
    kernels = [filled(value) for value in (0.0, -0.0, False)]
    assert len({k.name for k in kernels}) == 3
    assert len(set(kernels)) == 3
    assert filled(1.5) == filled(1.5)
