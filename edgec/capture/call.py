"""What a rule knows about the call that it translates, and the steps that many rules share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import sympy
import torch

from edgec.capture.constants import ConstantPool
from edgec.capture.registry import UnsupportedCall
from edgec.capture.symbols import SizeFloat, Symbols
from edgec.ir import dims
from edgec.ir.builder import Builder
from edgec.ir.dims import Dim
from edgec.ir.graph import Node, Value
from edgec.ir.types import DType, TensorType


@dataclass(frozen=True)
class Complex:
    """A complex tensor as two real ones."""

    re: Value
    im: Value


Number: TypeAlias = int | float | bool | sympy.Expr | SizeFloat
Scalar: TypeAlias = Value | Number


@dataclass
class Call:
    """One call of an ATen overload.

    b         where nodes are appended
    pool      the program's constants
    symbols   sizes of the exported program
    types     the results' types, as torch derived them (None: no tensor)
    overload  full name of what is called, such as `aten.tril.default`
    """

    b: Builder
    pool: ConstantPool
    symbols: Symbols
    types: tuple[TensorType | None, ...] = ()
    overload: str = ""

    @property
    def type(self) -> TensorType:
        """Type of the (first) result."""
        assert self.types[0] is not None
        return self.types[0]

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    def hint(self, dim: Dim) -> int:
        """The value of a dimension for the example inputs."""
        return self.symbols.hint(dim)

    def fail(self, reason: str) -> NoReturn:
        """This form of the overload is not covered."""
        raise UnsupportedCall(reason)

    def require_static(self, dim: Dim, what: str) -> int:
        """`dim` as a number. Fails where it is symbolic."""
        if not isinstance(dim, int):
            self.fail(f"{what} is {dims.show(dim)}; need a static size")
        return dim

    # -------------------------------------------------------------- values
    def const(self, tensor: torch.Tensor, name: str = "const") -> Value:
        return self.pool.add(name, tensor)

    def number(self, number: Number, dtype: DType) -> Value:
        """A number, a size or a float made of sizes as a rank-0 value."""
        if isinstance(number, bool | int | float):
            return self.const(torch.tensor(number, dtype=dtype.torch_dtype), "scalar")
        return self.symbols.data(self.b, number, dtype)

    def operand(self, x: Scalar, dtype: DType) -> Value:
        """A tensor or number as a value of this dtype."""
        return self.cast(x, dtype) if isinstance(x, Value) else self.number(x, dtype)

    def cast(self, x: Value, dtype: DType) -> Value:
        if x.type.dtype is dtype:
            return x
        return self.value(self.b.cast(x, dtype=dtype))

    def common(self, *operands: Scalar) -> DType:
        """The dtype that torch promotes these operands to."""
        first, *others = map(_stand_in, operands)
        for other in others or [first]:
            rank = max(getattr(first, "ndim", 0), getattr(other, "ndim", 0))
            dtype = torch.result_type(first, other)
            first = torch.empty((1,) * rank, dtype=dtype, device="meta")
        return DType.of(first.dtype)

    def promoted(self, *operands: Scalar, dtype: DType | None = None) -> list[Value]:
        """The operands in one dtype: the given one, or the one that torch promotes them to."""
        dtype = dtype or self.common(*operands)
        return [self.operand(x, dtype) for x in operands]

    def tensor(self, x: Any) -> torch.Tensor | None:
        """The values of a constant, None for anything else."""
        return self.pool.tensor(x) if isinstance(x, Value) and x.is_constant else None

    def producer(self, x: Value) -> Node | None:
        """The node that computes `x`, None for an input or a constant."""
        for node in reversed(self.b.nodes):
            if any(v.name == x.name for v in node.outputs):
                return node
        return None

    @staticmethod
    def value(result: Any) -> Value:
        """The one result of an op."""
        assert isinstance(result, Value)
        return result

    # -------------------------------------------------------------- movement
    def reshape(self, x: Value, shape: Sequence[Dim]) -> Value:
        if x.type.same(x.type.with_shape(*shape)):
            return x
        return self.value(self.b.reshape(x, shape=tuple(dims.normal(d) for d in shape)))

    def expand(self, x: Value, shape: Sequence[Dim]) -> Value:
        if x.type.same(x.type.with_shape(*shape)):
            return x
        return self.value(self.b.expand(x, shape=tuple(dims.normal(d) for d in shape)))

    def permute(self, x: Value, order: Sequence[int]) -> Value:
        if list(order) == list(range(x.type.rank)):
            return x
        return self.value(self.b.permute(x, order=tuple(order)))

    def swap(self, x: Value, a: int, b: int) -> Value:
        """`x` with two axes exchanged."""
        order = list(range(x.type.rank))
        order[a], order[b] = order[b], order[a]
        return self.permute(x, order)

    def unsqueeze(self, x: Value, *axes: int) -> Value:
        """`x` with axes of size 1 inserted at these positions of the result."""
        rank = x.type.rank + len(axes)
        new = {axis % rank for axis in axes}
        rest = iter(x.type.shape)
        return self.reshape(x, [1 if i in new else next(rest) for i in range(rank)])

    def squeeze(self, x: Value, axis: int) -> Value:
        """`x` without an axis of size 1."""
        axis %= x.type.rank
        return self.reshape(x, x.type.shape[:axis] + x.type.shape[axis + 1 :])

    def slice(self, x: Value, axis: int, start: Dim, stop: Dim, step: int = 1) -> Value:
        axis %= x.type.rank
        if step == 1 and start == 0 and dims.same(stop, x.type.shape[axis]):
            return x
        return self.value(self.b.slice(x, axis=axis, start=start, stop=stop, step=step))

    def concat(self, xs: Sequence[Value], axis: int) -> Value:
        return xs[0] if len(xs) == 1 else self.value(self.b.concat(*xs, axis=axis))

    def iota(self, size: Dim, dtype: DType = DType.I64) -> Value:
        return self.value(self.b.iota(size=size, dtype=dtype))

    def full(self, value: float | int | bool, dtype: DType, shape: Sequence[Dim]) -> Value:
        return self.value(self.b.full(shape=tuple(shape), value=value, dtype=dtype))

    def zeros(self, like: TensorType) -> Value:
        return self.full(False if like.dtype is DType.BOOL else 0, like.dtype, like.shape)

    def axis(self, axis: int, rank: int) -> int:
        """A non-negative axis; torch allows 0 and -1 on rank 0."""
        return axis % rank if rank else 0

    def axes(self, axes: Any, rank: int) -> tuple[int, ...]:
        """Non-negative sorted axes from an int, a list, or None or an empty list for all."""
        if isinstance(axes, int):
            axes = [axes]
        if not axes or rank == 0:
            return tuple(range(rank))
        return tuple(sorted(a % rank for a in axes))


def _stand_in(x: Scalar) -> Any:
    """What `torch.result_type` has to see of an operand."""
    if isinstance(x, Value):
        shape = (1,) * min(x.type.rank, 1)
        return torch.empty(shape, dtype=x.type.dtype.torch_dtype, device="meta")
    if isinstance(x, SizeFloat):
        return 1.0
    return x if isinstance(x, bool | int | float) else 1
