"""How elements of each type lie in memory, and in which type they are computed."""

from __future__ import annotations

from typing import Any

from edgec.kernels.deferred import T, tir
from edgec.kernels.scalars import is_nan


def const(value: float, dtype: str) -> Any:
    return tir.const(value, dtype)


def dtype_of(x: Any) -> str:
    """Element type of an expression."""
    return str(x.ty.dtype)


def computed_in(dtype: str) -> str:
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def rounded(value: Any, dtype: str) -> Any:
    """A value of a half precision type, which is held in f32."""
    if dtype in ("float16", "bfloat16"):
        return from_storage(to_storage(value, dtype), dtype)
    return value


def storage(dtype: str) -> str:
    """Element type of a buffer: truth values are bytes, bf16 is handled as its bits."""
    return {"bool": "uint8", "bfloat16": "uint16"}.get(dtype, dtype)


def from_storage(value: Any, dtype: str) -> Any:
    """An element of a buffer as what it is computed in."""
    if dtype == "bool":
        return tir.NE(value, const(0, "uint8"))
    if dtype == "float16":
        return T.cast(value, "float32")
    if dtype == "bfloat16":
        return T.reinterpret("float32", T.cast(value, "uint32") << const(16, "uint32"))
    return value


def to_storage(value: Any, dtype: str) -> Any:
    """A computed value as an element of a buffer; bf16 is rounded to nearest, ties to even."""
    if dtype == "bool":
        return T.cast(value, "uint8")
    if dtype == "float16":
        return T.cast(value, "float16")
    if dtype == "bfloat16":
        bits = T.reinterpret("uint32", value)
        up = const(0x7FFF, "uint32") + ((bits >> const(16, "uint32")) & const(1, "uint32"))
        rounded = T.cast((bits + up) >> const(16, "uint32"), "uint16")
        return tir.Select(is_nan(value), const(0x7FC0, "uint16"), rounded)
    return value
