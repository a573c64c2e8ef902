"""How a constant is stored. The type says what a consumer sees, the encoding what the bytes mean.

`Encoding` is the contract, `Dense` the plain form; `edgec.ir.encodings` has the compressed forms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch

from edgec.errors import EdgecError, FormatError
from edgec.ir.fields import Fields
from edgec.ir.types import DType, TensorType


@dataclass(frozen=True, eq=False)
class Encoding:
    """Base of all encodings. An encoding is immutable: a pass replaces it, never writes into it.

    kind   name in text and in files, set by each class
    """

    kind: ClassVar[str] = ""

    @property
    def type(self) -> TensorType:
        """Type of the decoded tensor (static shape)."""
        raise NotImplementedError

    def decode(self) -> torch.Tensor:
        """The dense tensor, exactly; differentiable in scales, tables and dense values."""
        raise NotImplementedError

    def encode(self, w: torch.Tensor) -> Encoding:
        """`w`, of the same shape, as the nearest that the scales, tables and masks here express.

        `e.encode(e.decode())` has the codes of `e` wherever no two codes mean the same value.
        """
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Exact payload in bytes when packed: codes, scales, zero points, tables, masks."""
        return self.stored_bytes(self.numel)

    def stored_bytes(self, count: int) -> int:
        """`nbytes` where only `count` elements are stored, those under the mask of a Sparse."""
        raise NotImplementedError

    @property
    def numel(self) -> int:
        """Number of elements of the decoded tensor."""
        return int(self.type.numel)

    @property
    def is_plain(self) -> bool:
        """Whether the elements are stored one by one, as what they are: nothing is to decode."""
        return False

    def parts(self, kept: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """The stored tensors by name, packed as in a file; `from_parts` reads them back exactly.

        kept   bool[*S]: only the elements under it are stored, in row-major order
        """
        raise NotImplementedError

    def attributes(self) -> dict[str, Any]:
        """What a file needs beside `parts`, as JSON values (lists, not tuples)."""
        raise NotImplementedError

    @classmethod
    def from_parts(
        cls,
        parts: Mapping[str, torch.Tensor],
        attributes: Mapping[str, Any],
        kept: torch.Tensor | None = None,
    ) -> Encoding:
        """The inverse of `parts` and `attributes`. Raises FormatError for what does not fit."""
        raise NotImplementedError

    def describe(self) -> str:
        """Text form without data, such as `affine(bits=4, group=32)`."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """Hash of kind, attributes and stored bytes: equal digests mean equal constants."""
        h = hashlib.sha256(f"{self.kind}{self.type}".encode())
        h.update(json.dumps(self.attributes(), sort_keys=True).encode())
        for name, tensor in sorted(self.parts().items()):
            h.update(name.encode())
            h.update(tensor_bytes(tensor))
        return h.hexdigest()


ENCODINGS: dict[str, type[Encoding]] = {}

T = TypeVar("T", bound=type[Encoding])


def encoding(kind: str) -> Callable[[T], T]:
    """Register an encoding class under its name in text and files."""

    def register(cls: T) -> T:
        cls.kind = kind
        ENCODINGS[kind] = cls
        return cls

    return register


def to_json(value: Encoding) -> dict[str, Any]:
    """Kind and attributes of an encoding; with its parts all that `read_encoding` needs."""
    return {"kind": value.kind, **value.attributes()}


def read_encoding(
    data: object, parts: Mapping[str, torch.Tensor], kept: torch.Tensor | None = None
) -> Encoding:
    """The encoding that `to_json` and `parts` describe. Raises FormatError for anything else."""
    kind = Fields(data, "encoding").choice("kind", tuple(sorted(ENCODINGS)))
    assert isinstance(data, Mapping)
    attributes = {k: v for k, v in data.items() if k != "kind"}
    try:
        return ENCODINGS[kind].from_parts(parts, attributes, kept)
    except FormatError:
        raise
    except EdgecError as error:  # the class's own checks of its arguments
        raise FormatError(error.where, error.got, error.need, error.do) from error


def nested(parts: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The parts of a nested encoding: those called `prefix.x`, as `x`."""
    return {k.removeprefix(f"{prefix}."): v for k, v in parts.items() if k.startswith(f"{prefix}.")}


def check_parts(
    where: str, parts: Mapping[str, torch.Tensor], need: set[str], optional: set[str] | None = None
) -> None:
    """Raise FormatError unless all of `need` and nothing but `optional` is there besides."""
    if missing := sorted(need - parts.keys()):
        got = f"no part {', '.join(missing)}"
        raise FormatError(where, got, f"parts {', '.join(sorted(need))}")
    if unknown := sorted(parts.keys() - need - (optional or set())):
        raise FormatError(where, f"unknown part {', '.join(unknown)[:60]}", "none")


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """Little-endian row-major bytes of any dtype, bfloat16 included."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


@encoding("dense")
@dataclass(frozen=True, eq=False)
class Dense(Encoding):
    """Values as they are: `values` T[*S], T any dtype of the IR.

    `as_dtype` widens on decoding: f16 or bf16 storage of a constant that its consumers see as f32.
    """

    values: torch.Tensor
    as_dtype: DType | None = None

    @property
    def storage(self) -> DType:
        return DType.of(self.values.dtype)

    @property
    def type(self) -> TensorType:
        return TensorType(self.as_dtype or self.storage, tuple(self.values.shape))

    @property
    def is_plain(self) -> bool:
        return self.as_dtype is None

    def decode(self) -> torch.Tensor:
        return self.values if self.as_dtype is None else self.values.to(self.as_dtype.torch_dtype)

    def encode(self, w: torch.Tensor) -> Dense:
        return Dense(w.to(self.values.dtype), self.as_dtype)

    def stored_bytes(self, count: int) -> int:
        return count * self.values.element_size()

    def parts(self, kept: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        return {"values": self.values if kept is None else self.values[kept]}

    def attributes(self) -> dict[str, Any]:
        return {} if self.as_dtype is None else {"as_dtype": self.as_dtype.value}

    @classmethod
    def from_parts(
        cls,
        parts: Mapping[str, torch.Tensor],
        attributes: Mapping[str, Any],
        kept: torch.Tensor | None = None,
    ) -> Dense:
        check_parts("dense", parts, {"values"})
        fields = Fields(attributes, "dense")
        as_dtype = None
        if "as_dtype" in fields:
            as_dtype = fields.dtype("as_dtype")
        fields.done()
        values = parts["values"]
        DType.of(values.dtype)
        return cls(values if kept is None else scatter(values, kept), as_dtype)

    def describe(self) -> str:
        return f"dense({self.storage.value})" if self.as_dtype else "dense"


def scatter(values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Values T[n] where `kept` bool[*S] holds, zeros elsewhere. Raises FormatError for other n."""
    count = int(kept.sum())
    if list(values.shape) != [count]:
        got = f"{list(values.shape)} values"
        raise FormatError("sparse", got, f"[{count}], one per kept element")
    out = torch.zeros(kept.shape, dtype=values.dtype)
    out[kept] = values
    return out


@dataclass(frozen=True, eq=False)
class Constant:
    """A named tensor of a program. Functions refer to it as `@name`."""

    name: str
    encoding: Encoding

    @property
    def type(self) -> TensorType:
        return self.encoding.type

    @property
    def ref(self) -> str:
        return f"@{self.name}"
