"""The op contract: one frozen dataclass holds an op's whole meaning.

Fields are the attributes. `infer` gives the types of the results, `evaluate` is the oracle (torch),
`decompose` the default lowering into simpler ops, `flops` the cost. An attribute may hold named
dimensions; `bind` replaces them by numbers before `evaluate`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import sympy
import torch

from edgec.errors import TypeCheckError
from edgec.ir import dims
from edgec.ir.dims import Dim, Env
from edgec.ir.types import TensorType

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


class Exactness(Enum):
    """What an op may change: EXACT the same bits, ROUNDING the same formula in another order."""

    EXACT = "exact"
    ROUNDING = "rounding"
    LOSSY = "lossy"


@dataclass(frozen=True)
class Op:
    """Base of all ops. `name` is set by the `op` decorator.

    exactness   class of the tolerance that every implementation is held to
    factor      for ROUNDING: multiple of the standard tolerance, for approximated functions
    """

    name: ClassVar[str] = ""
    exactness: ClassVar[Exactness] = Exactness.ROUNDING
    factor: ClassVar[float] = 1.0

    def infer(self, *inputs: Any) -> TensorType | tuple[TensorType, ...]:
        """Types of the results from the types of the operands (None: operand not given).

        Raises TypeCheckError, with the label of the constraint that is broken.
        """
        raise NotImplementedError

    def evaluate(self, *inputs: Any) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """The oracle: pure torch, differentiable, keeps dtype and device."""
        raise NotImplementedError

    def decompose(self, b: Builder, *inputs: Any) -> Value | tuple[Value, ...] | None:
        """Emit simpler ops of the same meaning, return the results; None where the op is basic."""
        return None

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        """Floating-point operations of one call; a multiply-add counts two, data movement none."""
        if self.exactness is Exactness.EXACT:
            return 0
        return dims.normal(sum((o.numel for o in outputs), 0))

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        """Length K of the longest sum in one result, for tolerances that grow with sqrt(K)."""
        return 1

    def bind(self, env: Env) -> Op:
        """The op with every named dimension in its attributes replaced by its value."""
        changes = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            bound = _bind(value, env)
            if bound is not value:
                changes[field.name] = bound
        return dataclasses.replace(self, **changes) if changes else self

    def __str__(self) -> str:
        from edgec.ir.text import show_attributes

        return self.name + show_attributes(self)


def _bind(value: Any, env: Env) -> Any:
    if isinstance(value, sympy.Expr):
        return dims.evaluate(value, env)
    if isinstance(value, tuple) and any(isinstance(v, sympy.Expr | tuple) for v in value):
        return tuple(_bind(v, env) for v in value)
    return value


OPS: dict[str, type[Op]] = {}


def op_class(name: str) -> type[Op] | None:
    """The op of that name, None for an unknown one.

    A reader of files meets names before anybody has imported the op set, which registers itself;
    the IR does not depend on it, hence the import by name.
    """
    if name not in OPS:
        import_module("edgec.ops")
    return OPS.get(name)


T = TypeVar("T", bound=type[Op])


def op(name: str) -> Callable[[T], T]:
    """Register an op class under its name in text and in the Builder."""

    def register(cls: T) -> T:
        if name in OPS:
            raise TypeCheckError("op", f"two ops named {name}", "one class per name")
        cls.name = name
        OPS[name] = cls
        return cls

    return register


# ------------------------------------------------------------------ checks that ops share
def require(op: Op, holds: bool, label: str, got: str, need: str) -> None:
    """Raise TypeCheckError unless `holds`; `label` names the constraint in the op's docstring."""
    if not holds:
        raise TypeCheckError(op.name, got, f"{need} ({label})")


def axis_of(op: Op, axis: int, rank: int, label: str = "C1") -> int:
    """`axis` as a non-negative number. Raises TypeCheckError outside of [-rank, rank)."""
    require(op, -rank <= axis < rank, label, f"axis={axis}", f"{-rank} <= axis < {rank}")
    return axis % rank


def broadcast(op: Op, *shapes: dims.Shape) -> dims.Shape:
    """numpy's broadcasting. Raises TypeCheckError for dimensions that neither agree nor are 1."""
    rank = max(len(s) for s in shapes)
    padded = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    out: list[Dim] = []
    for column in zip(*padded, strict=True):
        real = [d for d in column if d != 1]
        for d in real[1:]:
            if not dims.same(real[0], d):
                listed = ", ".join(str(TensorTypeText(s)) for s in shapes)
                raise TypeCheckError(op.name, f"shapes {listed}", "shapes that broadcast")
        out.append(real[0] if real else 1)
    return tuple(out)


class TensorTypeText(tuple[Dim, ...]):
    """A shape that prints like one."""

    def __str__(self) -> str:
        return f"[{', '.join(dims.show(d) for d in self)}]"
