"""Types of values: element type and shape."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from enum import Enum

import torch

from edgec.errors import FormatError
from edgec.ir import dims
from edgec.ir.dims import Dim, Env, Shape


class DType(Enum):
    """Element type; the value is its text form."""

    F64 = "f64"
    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    I64 = "i64"
    I32 = "i32"
    I16 = "i16"
    I8 = "i8"
    U8 = "u8"
    BOOL = "bool"

    @property
    def torch_dtype(self) -> torch.dtype:
        return _TORCH[self]

    @staticmethod
    def of(dtype: torch.dtype) -> DType:
        """Raises FormatError for a dtype that the IR does not have (complex, quantized)."""
        for own, other in _TORCH.items():
            if other is dtype:
                return own
        raise FormatError("dtype", str(dtype), f"one of {', '.join(d.value for d in DType)}")

    @property
    def nbytes(self) -> int:
        return self.torch_dtype.itemsize

    @property
    def is_float(self) -> bool:
        return self in (DType.F64, DType.F32, DType.F16, DType.BF16)

    @property
    def is_int(self) -> bool:
        return not self.is_float and self is not DType.BOOL


_TORCH = {
    DType.F64: torch.float64,
    DType.F32: torch.float32,
    DType.F16: torch.float16,
    DType.BF16: torch.bfloat16,
    DType.I64: torch.int64,
    DType.I32: torch.int32,
    DType.I16: torch.int16,
    DType.I8: torch.int8,
    DType.U8: torch.uint8,
    DType.BOOL: torch.bool,
}


@dataclass(frozen=True)
class TensorType:
    """`f32[batch, 8]`: element type and shape of a value."""

    dtype: DType
    shape: Shape

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(dims.normal(d) for d in self.shape))

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> Dim:
        return dims.product(self.shape)

    @property
    def nbytes(self) -> Dim:
        """Bytes of a value without gaps."""
        return dims.normal(self.numel * self.dtype.nbytes)

    def same(self, other: TensorType) -> bool:
        """Equal dtype and rank, and dimensions that are equal for all values of the named dims."""
        return (
            self.dtype is other.dtype
            and self.rank == other.rank
            and all(dims.same(a, b) for a, b in zip(self.shape, other.shape, strict=True))
        )

    def with_shape(self, *shape: Dim) -> TensorType:
        return TensorType(self.dtype, shape)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def bind(self, env: Env) -> tuple[int, ...]:
        """The concrete shape under values of the named dims."""
        return tuple(dims.evaluate(d, env) for d in self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.value}[{', '.join(dims.show(d) for d in self.shape)}]"

    @staticmethod
    def parse(text: str) -> TensorType:
        """Read `f32[batch, 8]`. Raises FormatError."""
        head, _, tail = text.strip().partition("[")
        try:
            dtype = DType(head)
            inner = ast.parse(f"[{tail}", mode="eval").body
        except (ValueError, SyntaxError) as error:
            raise FormatError("type", repr(text), "a type such as f32[batch, 8]") from error
        if not isinstance(inner, ast.List):
            raise FormatError("type", repr(text), "a type such as f32[batch, 8]")
        return TensorType(dtype, tuple(dims.from_ast(e) for e in inner.elts))
