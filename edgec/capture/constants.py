"""The pool of constants that captured functions share, free of duplicates."""

from __future__ import annotations

import hashlib
import re

import torch

from edgec.ir.encoding import Constant, Dense, tensor_bytes
from edgec.ir.graph import Value, put_constant
from edgec.ir.types import DType, TensorType

_StorageKey = tuple[int, int, tuple[int, ...], tuple[int, ...], torch.dtype]


class ConstantPool:
    """Constants by name. A tensor is stored once, however many names and copies the model has for
    it.

    Tensors are shared with the model, not copied, where they are contiguous.
    """

    def __init__(self) -> None:
        self.constants: dict[str, Constant] = {}
        self._by_storage: dict[_StorageKey, str] = {}
        self._by_content: dict[tuple[str, str], str] = {}
        self._transposed: dict[str, Value] = {}
        self._kept: list[torch.Tensor] = []  # data pointers are unique only among living tensors

    def add(self, name: str, tensor: torch.Tensor) -> Value:
        """The constant with these values: a known one (same storage, or same content) or a new
        one."""
        tensor = tensor.detach()
        key = _storage_key(tensor)
        if key not in self._by_storage:
            self._kept.append(tensor)
            self._by_storage[key] = self._add_content(name, tensor.cpu().contiguous())
        return self._value(self._by_storage[key])

    def _add_content(self, name: str, tensor: torch.Tensor) -> str:
        kind = str(TensorType(DType.of(tensor.dtype), tuple(tensor.shape)))
        content = (kind, hashlib.sha256(tensor_bytes(tensor)).hexdigest())
        if content not in self._by_content:
            wish = re.sub(r"[^A-Za-z0-9_.]", "_", name)
            self._by_content[content] = put_constant(self.constants, wish, Dense(tensor)).name
        return self._by_content[content]

    def tensor(self, value: Value) -> torch.Tensor:
        """The values of a constant."""
        return self.constants[value.name[1:]].encoding.decode()

    def transposed(self, value: Value) -> Value:
        """The constant with its last two axes swapped."""
        if value.name not in self._transposed:
            swapped = self.tensor(value).transpose(-1, -2)
            self._transposed[value.name] = self.add(f"{value.name[1:]}.T", swapped)
        return self._transposed[value.name]

    def _value(self, name: str) -> Value:
        return Value(f"@{name}", self.constants[name].type)


def _storage_key(tensor: torch.Tensor) -> _StorageKey:
    return (
        tensor.untyped_storage().data_ptr(),
        int(tensor.storage_offset()),
        tuple(tensor.shape),
        tensor.stride(),
        tensor.dtype,
    )
