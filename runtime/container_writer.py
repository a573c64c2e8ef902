"""Writer of the container format.

Equal content gives equal bytes: entries lie in the order given, each at the next multiple of 64,
with zeros between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgec.errors import FormatError
from edgec.runtime.container import (
    DTYPES,
    ENTRY,
    FORMAT_VERSION,
    FRONT,
    HEADER_BYTES,
    MAGIC,
    MAX_RANK,
    STORAGE,
    TEXTS,
    Container,
    Entry,
    Kind,
    Place,
    round_up,
)


def write_container(
    path: Path, kind: Kind, entries: Iterable[Entry], model: str = "", producer: str = ""
) -> Container:
    """Write a file; returns what a reader of it would, so that offsets and hash are at hand.

    Raises FormatError for names that are empty, repeated or hold a zero, for arrays of another type
    than their entry says, and for texts that do not fit.
    """
    listed = list(entries)
    names = [entry.name.encode() for entry in listed]
    for entry in listed:
        _check_entry(entry)
    if len(set(names)) != len(names):
        repeated = sorted({n.decode() for n in names if names.count(n) > 1})
        raise FormatError("container", f"names {repeated} more than once", "each name once")
    places = _places(listed)
    header = _header(kind, listed, names, places, model, producer)
    with path.open("wb") as file:
        file.write(header)
        for entry, place in zip(listed, places, strict=True):
            file.write(_bytes_of(entry))
            file.write(bytes(round_up(place.bytes) - place.bytes))
    return Container(
        kind,
        model,
        producer,
        FRONT.unpack_from(header)[6],
        {entry.name: entry for entry in listed},
        {entry.name: place for entry, place in zip(listed, places, strict=True)},
        len(header) + _payload_bytes(places),
    )


def _check_entry(entry: Entry) -> None:
    where = f"container entry {entry.name!r}"
    if not entry.name or "\0" in entry.name:
        raise FormatError(where, "an empty name or a zero in it", "text")
    storage = STORAGE.get(entry.dtype)
    if storage is None:
        raise FormatError(where, f"dtype {entry.dtype}", f"one of {DTYPES}")
    if entry.data.dtype.newbyteorder("<") != storage:
        raise FormatError(where, f"an array of {entry.data.dtype}", f"{storage} for {entry.dtype}")
    if entry.data.ndim > MAX_RANK:
        raise FormatError(where, f"rank {entry.data.ndim}", f"rank <= {MAX_RANK}")


def _bytes_of(entry: Entry) -> memoryview:
    """The entry's bytes as they lie in the file; a view where the array already is so."""
    flat = np.ascontiguousarray(entry.data, dtype=STORAGE[entry.dtype]).reshape(-1)
    return flat.view(np.uint8).data


def _places(entries: list[Entry]) -> list[Place]:
    places, offset = [], 0
    for entry in entries:
        places.append(Place(offset, entry.data.size * STORAGE[entry.dtype].itemsize))
        offset = round_up(offset + places[-1].bytes)
    return places


def _payload_bytes(places: list[Place]) -> int:
    return round_up(places[-1].offset + places[-1].bytes) if places else 0


def _header(
    kind: Kind,
    entries: list[Entry],
    names: list[bytes],
    places: list[Place],
    model: str,
    producer: str,
) -> bytes:
    """Header, entry table and names, with their hashes."""
    table, name_offset = b"", HEADER_BYTES + len(entries) * ENTRY.size
    for entry, name, place in zip(entries, names, places, strict=True):
        sizes = list(entry.data.shape) + [0] * (MAX_RANK - entry.data.ndim)
        dtype = DTYPES.index(entry.dtype)
        table += ENTRY.pack(
            place.offset, place.bytes, name_offset, len(name), dtype, entry.data.ndim, *sizes
        )
        name_offset += len(name) + 1
    behind = TEXTS.pack(_text("model", model, 64), _text("producer", producer, 32))
    behind += table + b"".join(name + b"\0" for name in names)
    behind += bytes(round_up(name_offset) - name_offset)
    payload_hash = hashlib.sha256()
    for entry, place in zip(entries, places, strict=True):
        payload_hash.update(_bytes_of(entry))
        payload_hash.update(bytes(round_up(place.bytes) - place.bytes))
    front = FRONT.pack(
        MAGIC,
        FORMAT_VERSION,
        round_up(name_offset),
        _payload_bytes(places),
        len(entries),
        kind,
        payload_hash.digest(),
    )
    return front + hashlib.sha256(front + behind).digest() + behind


def _text(field: str, text: str, size: int) -> bytes:
    raw = text.encode()
    if len(raw) >= size or b"\0" in raw:
        raise FormatError(f"container {field}", repr(text), f"at most {size - 1} bytes, no zero")
    return raw
