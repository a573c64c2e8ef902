"""Ops that make data from nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.op import TensorTypeText, op, require
from edgec.ir.types import DType, TensorType
from edgec.ops.movement import Movement, is_negative, number


@op("full")
@dataclass(frozen=True)
class Full(Movement):
    """y = `value` everywhere.

    Outputs      y : dtype[*shape]
    Attributes   shape : tuple[Dim, ...], value : number or bool, dtype : DType
    Constraints  (C1) no dimension is negative    (C2) value is one of dtype: whole for integers,
                 False or True for bool
    Exactness    EXACT
    """

    shape: tuple[Dim, ...]
    value: int | float | bool
    dtype: DType

    def infer(self) -> TensorType:
        y = TensorType(self.dtype, self.shape)
        bad = any(map(is_negative, y.shape))
        require(self, not bad, "C1", f"shape={TensorTypeText(y.shape)}", "no negative dimension")
        if self.dtype is DType.BOOL:
            fits = isinstance(self.value, bool)
        else:
            fits = not isinstance(self.value, bool)
            fits = fits and (self.dtype.is_float or float(self.value).is_integer())
        require(self, fits, "C2", f"value={self.value}", f"a value of {self.dtype.value}")
        return y

    def evaluate(self) -> Tensor:
        return torch.full([number(d) for d in self.shape], self.value, dtype=self.dtype.torch_dtype)


@op("iota")
@dataclass(frozen=True)
class Iota(Movement):
    """y = start, start + step, start + 2 step, ...

    Outputs      y : dtype[size]
    Attributes   size : Dim, dtype : DType, start : Dim, step : int
    Constraints  (C1) size is not negative    (C2) dtype is a number    (C3) step is not 0
    Exactness    EXACT
    """

    size: Dim
    dtype: DType = DType.I64
    start: Dim = 0
    step: int = 1

    def infer(self) -> TensorType:
        size = dims.normal(self.size)
        require(self, not is_negative(size), "C1", f"size={dims.show(size)}", "size >= 0")
        require(self, self.dtype is not DType.BOOL, "C2", self.dtype.value, "numbers")
        require(self, self.step != 0, "C3", "step=0", "a step that is not 0")
        return TensorType(self.dtype, (size,))

    def evaluate(self) -> Tensor:
        start = number(self.start)
        stop = start + self.step * number(self.size)
        return torch.arange(start, stop, self.step, dtype=self.dtype.torch_dtype)


@op("dim_value")
@dataclass(frozen=True)
class DimValue(Movement):
    """y = the value of a dimension expression, where a size is used as data.

    Outputs      y : dtype[]
    Attributes   dim : Dim, dtype : DType
    Constraints  (C1) dtype is a number
    Exactness    EXACT
    """

    dim: Dim
    dtype: DType = DType.I64

    def infer(self) -> TensorType:
        require(self, self.dtype is not DType.BOOL, "C1", self.dtype.value, "a number")
        return TensorType(self.dtype, ())

    def evaluate(self) -> Tensor:
        return torch.tensor(number(self.dim), dtype=self.dtype.torch_dtype)
