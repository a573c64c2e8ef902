"""Chains of elementwise ops inside of a kernel: the body of fused groups, and epilogues.

A chain works on numbered values: its operands first, then the result of each step. What a step
computes is said by an op of the IR; SCALARS has the TIR expression for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgec.ir import Op

#: How an operand of an epilogue follows the result y[m, n]: with an element for each, one for each
#: n (a bias), one for each m, or a single one.
Extent: TypeAlias = Literal["full", "row", "column", "scalar"]


@dataclass(frozen=True)
class Step:
    """result = op(values[i] for i in inputs); dtype is that of the result, as TVM spells it."""

    op: Op
    inputs: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Epilogue:
    """What happens to each element of a result before it is stored.

    operands   extents of values 1, 2, ...; value 0 is the element itself. Each becomes a pointer
               parameter e1, e2, ... of the kernel
    steps      the last one is what is stored
    """

    operands: tuple[Extent, ...] = ()
    steps: tuple[Step, ...] = ()

    def names(self) -> Sequence[str]:
        """Names of the kernel's parameters for the operands."""
        return [f"e{i + 1}" for i in range(len(self.operands))]
