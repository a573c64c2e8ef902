"""Ops about truth values: comparison, logic, selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from edgec.ir.op import Exactness, Op, broadcast, op, require
from edgec.ir.types import DType, TensorType
from edgec.ops.elementwise import common_type

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


# ------------------------------------------------------------------ comparison
@dataclass(frozen=True)
class Equality(Op):
    """y = whether a and b are equal, with numpy's broadcasting. No gradient.

    Inputs       a : T[*A], b : T[*B]           T any, bool too
    Outputs      y : bool[broadcast(A, B)]
    Constraints  (C1) dtype(a) = dtype(b)    A and B broadcast
    Exactness    EXACT
    """

    exactness: ClassVar[Exactness] = Exactness.EXACT

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        return common_type(self, a, b).with_dtype(DType.BOOL)


@dataclass(frozen=True)
class Ordering(Equality):
    """y = whether a relation of order holds, with numpy's broadcasting. No gradient.

    Inputs       a : T[*A], b : T[*B]           T any number
    Outputs      y : bool[broadcast(A, B)]
    Constraints  (C1) dtype(a) = dtype(b)    (C2) T is not bool    A and B broadcast
    Exactness    EXACT
    """

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        result = Equality.infer(self, a, b)
        require(self, a.dtype is not DType.BOOL, "C2", a.dtype.value, "numbers")
        return result


@op("eq")
@dataclass(frozen=True)
class Eq(Equality):
    """y = (a = b).   Inputs, outputs, constraints, exactness as `Equality`."""

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.eq(a, b)


@op("ne")
@dataclass(frozen=True)
class Ne(Equality):
    """y = (a != b).   Inputs, outputs, constraints, exactness as `Equality`."""

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.ne(a, b)

    def decompose(self, b: Builder, x: Value, y: Value) -> Value:
        result: Value = b.logical_not(b.eq(x, y))
        return result


@op("lt")
@dataclass(frozen=True)
class Lt(Ordering):
    """y = (a < b).   Inputs, outputs, constraints, exactness as `Ordering`."""

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.lt(a, b)

    def decompose(self, b: Builder, x: Value, y: Value) -> Value:
        result: Value = b.gt(y, x)
        return result


@op("le")
@dataclass(frozen=True)
class Le(Ordering):
    """y = (a <= b).   Inputs, outputs, constraints, exactness as `Ordering`."""

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.le(a, b)

    def decompose(self, b: Builder, x: Value, y: Value) -> Value:
        # not `logical_not(gt)`: every order with NaN is false
        result: Value = b.logical_or(b.lt(x, y), b.eq(x, y))
        return result


@op("gt")
@dataclass(frozen=True)
class Gt(Ordering):
    """y = (a > b).   Inputs, outputs, constraints, exactness as `Ordering`."""

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.gt(a, b)


@op("ge")
@dataclass(frozen=True)
class Ge(Ordering):
    """y = (a >= b).   Inputs, outputs, constraints, exactness as `Ordering`."""

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.ge(a, b)

    def decompose(self, b: Builder, x: Value, y: Value) -> Value:
        result: Value = b.le(y, x)
        return result


# ------------------------------------------------------------------ logic, selection
@op("logical_not")
@dataclass(frozen=True)
class LogicalNot(Op):
    """y = not x.

    Inputs       x : bool[*S]
    Outputs      y : bool[*S]
    Constraints  (C1) x is bool
    Exactness    EXACT
    """

    exactness: ClassVar[Exactness] = Exactness.EXACT

    def infer(self, x: TensorType) -> TensorType:
        require(self, x.dtype is DType.BOOL, "C1", f"x: {x}", "bool")
        return x

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.logical_not(x)


@dataclass(frozen=True)
class Logical(Op):
    """y = f(a, b) of truth values, with numpy's broadcasting.

    Inputs       a : bool[*A], b : bool[*B]
    Outputs      y : bool[broadcast(A, B)]
    Constraints  (C1) a and b are bool    A and B broadcast
    Exactness    EXACT
    """

    exactness: ClassVar[Exactness] = Exactness.EXACT

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        got = f"{a.dtype.value} and {b.dtype.value}"
        require(self, a.dtype is DType.BOOL and b.dtype is DType.BOOL, "C1", got, "bool")
        return TensorType(DType.BOOL, broadcast(self, a.shape, b.shape))


@op("logical_and")
@dataclass(frozen=True)
class LogicalAnd(Logical):
    """y = a and b.   Inputs, outputs, constraints, exactness as `Logical`."""

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.logical_and(a, b)


@op("logical_or")
@dataclass(frozen=True)
class LogicalOr(Logical):
    """y = a or b.   Inputs, outputs, constraints, exactness as `Logical`."""

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.logical_or(a, b)

    def decompose(self, b: Builder, x: Value, y: Value) -> Value:
        result: Value = b.logical_not(b.logical_and(b.logical_not(x), b.logical_not(y)))
        return result


@op("logical_xor")
@dataclass(frozen=True)
class LogicalXor(Logical):
    """y = a != b.   Inputs, outputs, constraints, exactness as `Logical`."""

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.logical_xor(a, b)

    def decompose(self, b: Builder, x: Value, y: Value) -> Value:
        result: Value = b.ne(x, y)
        return result


@op("where")
@dataclass(frozen=True)
class Where(Op):
    """y = a where cond, else b; a value that is not chosen never matters, be it NaN.

    Inputs       cond : bool[*C], a : T[*A], b : T[*B]         T any
    Outputs      y : T[broadcast(C, A, B)]
    Constraints  (C1) dtype(a) = dtype(b)    (C2) cond is bool    C, A and B broadcast
    Exactness    EXACT
    """

    exactness: ClassVar[Exactness] = Exactness.EXACT

    def infer(self, cond: TensorType, a: TensorType, b: TensorType) -> TensorType:
        require(self, cond.dtype is DType.BOOL, "C2", f"cond: {cond}", "bool")
        got = f"{a.dtype.value} and {b.dtype.value}"
        require(self, a.dtype is b.dtype, "C1", got, "operands of one dtype")
        return TensorType(a.dtype, broadcast(self, cond.shape, a.shape, b.shape))

    def evaluate(self, cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return torch.where(cond, a, b)
