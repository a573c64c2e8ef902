"""Reader of the container format: every field is checked before it is used."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from edgec.errors import FormatError
from edgec.runtime.container import (
    ALIGNMENT,
    DTYPES,
    ENTRY,
    FORMAT_VERSION,
    FRONT,
    HASH_BYTES,
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


def read_container(path: Path, kind: Kind | None = None, verify: bool = True) -> Container:
    """Read a file of any origin, checking every field; arrays are read-only views of its bytes.

    Raises FormatError with the offset of what is wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FormatError(str(path), str(error)) from error
    return parse_container(content, str(path), kind, verify)


def parse_container(
    content: bytes, where: str, kind: Kind | None = None, verify: bool = True
) -> Container:
    """`read_container` of bytes; `where` names them in errors."""
    front = _read_front(content, where)
    _, _, header_bytes, payload_bytes, n_entries, number, payload_hash = front
    try:
        found = Kind(number)
    except ValueError:
        raise FormatError(where, f"kind {number} at byte 28", "1, 2 or 3") from None
    if kind is not None and found is not kind:
        raise FormatError(where, f"a file of {found.name.lower()}", kind.name.lower())
    model, producer = TEXTS.unpack_from(content, FRONT.size + HASH_BYTES)
    payload = memoryview(content)[header_bytes:]
    entries, places, end, name_end = {}, {}, 0, HEADER_BYTES + n_entries * ENTRY.size
    for index in range(n_entries):
        at = HEADER_BYTES + index * ENTRY.size
        fields = ENTRY.unpack_from(content, at)
        name = _read_name(content[:header_bytes], fields, name_end, f"{where} at byte {at}")
        name_end += fields[3] + 1
        entry, place = _read_entry(name, fields, end, payload, f"{where} at byte {at}")
        if name in entries:
            raise FormatError(f"{where} at byte {at}", f"name {name!r} again", "each name once")
        entries[name], places[name] = entry, place
        end = round_up(place.offset + place.bytes)
    if end != payload_bytes:
        raise FormatError(where, f"{payload_bytes} payload bytes", f"{end}, which the entries take")
    if round_up(name_end) != header_bytes or any(content[name_end:header_bytes]):
        raise FormatError(where, "bytes behind the names", "zeros up to the payload")
    if verify and hashlib.sha256(payload).digest() != payload_hash:
        raise FormatError(where, "a damaged payload", "the hash of the header", "copy it again")
    return Container(
        found,
        _read_text(model, where),
        _read_text(producer, where),
        payload_hash,
        entries,
        places,
        len(content),
    )


def _read_front(content: bytes, where: str) -> tuple[bytes, int, int, int, int, int, bytes]:
    """The first fields, once size and hash of the header have been checked."""
    if not content.startswith(MAGIC[: len(content)]) or not content:
        raise FormatError(where, f"{content[:8]!r} at byte 0", "an edgec container")
    if len(content) < HEADER_BYTES:
        raise FormatError(where, f"{len(content)} bytes", f"at least {HEADER_BYTES}")
    front: tuple[bytes, int, int, int, int, int, bytes] = FRONT.unpack_from(content)
    _, version, header_bytes, payload_bytes, n_entries, _, _ = front
    if version != FORMAT_VERSION:
        raise FormatError(where, f"format {version}", str(FORMAT_VERSION), "use one version")
    least = HEADER_BYTES + n_entries * ENTRY.size
    if header_bytes % ALIGNMENT or header_bytes < least or payload_bytes % ALIGNMENT:
        raise FormatError(where, f"header of {header_bytes}, payload of {payload_bytes} bytes")
    if len(content) != header_bytes + payload_bytes:
        raise FormatError(where, f"{len(content)} bytes", str(header_bytes + payload_bytes))
    behind = FRONT.size + HASH_BYTES
    digest = hashlib.sha256(content[: FRONT.size] + content[behind:header_bytes]).digest()
    if digest != content[FRONT.size : behind]:
        raise FormatError(where, "a damaged header", "its hash at byte 64", "copy it again")
    return front


def _read_name(header: bytes, fields: tuple[int, ...], expected: int, where: str) -> str:
    _, _, offset, size, *_ = fields
    raw = header[offset : offset + size]
    if offset != expected or not raw or len(raw) != size or b"\0" in raw:
        raise FormatError(where, f"a name of {size} bytes at {offset}", f"text at {expected}")
    if header[offset + size : offset + size + 1] != b"\0":
        raise FormatError(where, f"a name of {size} bytes at {offset}", "a zero behind it")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise FormatError(where, f"name {raw!r}", "UTF-8") from None


def _read_entry(
    name: str, fields: tuple[int, ...], end: int, payload: memoryview, where: str
) -> tuple[Entry, Place]:
    offset, size, _, _, dtype, rank, *sizes = fields
    if dtype >= len(DTYPES) or rank > MAX_RANK or any(sizes[rank:]):
        raise FormatError(where, f"dtype {dtype}, rank {rank}, sizes {sizes}", "a tensor's type")
    storage = STORAGE[DTYPES[dtype]]
    need = storage.itemsize
    for length in sizes[:rank]:
        need *= length
    if size != need or offset != end or offset + size > len(payload):
        raise FormatError(where, f"{size} bytes at {offset}", f"{need} bytes at {end}")
    if max(sizes[:rank], default=0) > np.iinfo(np.intp).max:
        raise FormatError(where, f"sizes {sizes[:rank]}", "sizes that memory can have")
    data = np.frombuffer(payload[offset : offset + size], storage).reshape(sizes[:rank])
    return Entry(name, data, DTYPES[dtype]), Place(offset, size)


def _read_text(raw: bytes, where: str) -> str:
    text = raw.rstrip(b"\0")
    if b"\0" in text or len(text) == len(raw):
        raise FormatError(where, f"text {raw!r}", "zeros behind its end")
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise FormatError(where, f"text {raw!r}", "UTF-8") from None
