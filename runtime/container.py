"""The file format of weights, golden calls and tokenizers: its constants and what a file holds.

README.md has the table of fields. Files are written by `container_writer`, read by
`container_reader` and, on devices, by src/container.c.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.errors import FormatError

MAGIC = b"\x89EDGEC\r\n"
FORMAT_VERSION = 1
ALIGNMENT = 64
MAX_RANK = 8

# In the order of `edgec_dtype`. bf16 has no type in numpy: its bits are held as u16.
DTYPES = ("f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u8", "bool")
STORAGE: dict[str, np.dtype[Any]] = {
    "f64": np.dtype("<f8"),
    "f32": np.dtype("<f4"),
    "f16": np.dtype("<f2"),
    "bf16": np.dtype("<u2"),
    "i64": np.dtype("<i8"),
    "i32": np.dtype("<i4"),
    "i16": np.dtype("<i2"),
    "i8": np.dtype("i1"),
    "u8": np.dtype("u1"),
    "bool": np.dtype("?"),
}
DTYPE_OF = {storage: name for name, storage in STORAGE.items() if name != "bf16"}

# magic, format_version, header_bytes, payload_bytes, n_entries, kind, payload_hash; then the hash
# of all other header bytes; then model, producer.
FRONT = struct.Struct("<8sIIQII32s")
HASH_BYTES = 32
TEXTS = struct.Struct("<64s32s")
HEADER_BYTES = FRONT.size + HASH_BYTES + TEXTS.size
ENTRY = struct.Struct(f"<QQIIII{MAX_RANK}Q")

Array = npt.NDArray[np.generic]


class Kind(IntEnum):
    """What a container is for; a reader of one kind refuses the others."""

    WEIGHTS = 1
    CALLS = 2
    TOKENS = 3


@dataclass(frozen=True, eq=False)
class Entry:
    """A named array. `data` has the sizes of the entry and the storage type of `dtype`."""

    name: str
    data: Array
    dtype: str

    @classmethod
    def of(cls, name: str, data: Array) -> Entry:
        """An entry of the array's own type; bf16 needs the constructor."""
        data = np.asarray(data)
        dtype = DTYPE_OF.get(data.dtype.newbyteorder("<"))
        if dtype is None:
            raise FormatError(f"container entry {name}", str(data.dtype), f"one of {DTYPES}")
        return cls(name, data, dtype)


@dataclass(frozen=True)
class Place:
    """Where an entry lies, in bytes from the start of the payload."""

    offset: int
    bytes: int


@dataclass(frozen=True, eq=False)
class Container:
    """A container's header fields and entries by name, in file order."""

    kind: Kind
    model: str
    producer: str
    payload_hash: bytes
    entries: dict[str, Entry]
    places: dict[str, Place]
    file_bytes: int


def round_up(count: int) -> int:
    """The next multiple of the alignment."""
    return -(-count // ALIGNMENT) * ALIGNMENT
