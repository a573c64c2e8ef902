"""The container format in Python: what is written is read, and damage is told with its place."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from edgec.errors import FormatError
from edgec.runtime.container import ALIGNMENT, DTYPES, HEADER_BYTES, STORAGE, Entry, Kind
from edgec.runtime.container_reader import parse_container, read_container
from edgec.runtime.container_writer import write_container


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    name = draw(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1))
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
    data = draw(hnp.arrays(STORAGE[dtype], shape))
    return Entry(name, data, dtype)


FILES = st.lists(entries(), max_size=4, unique_by=lambda entry: entry.name)


def small_file(folder: Path) -> bytes:
    path = folder / "small"
    table = Entry.of("table", np.arange(5, dtype=np.float32))
    codes = Entry("codes:ü", np.ones((2, 3), np.uint16), "bf16")
    write_container(path, Kind.WEIGHTS, [table, codes], "model", "0.1.0")
    return path.read_bytes()


def forge(content: bytes, at: int, value: bytes) -> bytes:
    """Replace header bytes, and make the header's hash fit."""
    changed = bytearray(content)
    changed[at : at + len(value)] = value
    header_bytes = struct.unpack_from("<I", changed, 12)[0]
    changed[64:96] = hashlib.sha256(changed[:64] + changed[96:header_bytes]).digest()
    return bytes(changed)


@settings(max_examples=60)
@given(FILES)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, listed: list[Entry]):
    path = tmp_path_factory.mktemp("container") / "file"
    written = write_container(path, Kind.CALLS, listed, "model ü", "0.1.0")
    read = read_container(path, Kind.CALLS)
    assert (read.model, read.producer, read.kind) == ("model ü", "0.1.0", Kind.CALLS)
    assert (read.payload_hash, read.places) == (written.payload_hash, written.places)
    assert read.file_bytes == written.file_bytes == path.stat().st_size
    assert list(read.entries) == [entry.name for entry in listed]
    for entry in listed:
        found = read.entries[entry.name]
        assert (found.dtype, found.data.shape) == (entry.dtype, entry.data.shape)
        assert found.data.tobytes() == entry.data.tobytes()
        assert read.places[entry.name].offset % ALIGNMENT == 0


def test_equal_content_gives_equal_bytes(tmp_path: Path):
    """Strides and byte order of the arrays are not content."""
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    for name, data in {"a": table, "b": table.T.copy().T, "c": table.astype(">f4")}.items():
        write_container(tmp_path / name, Kind.WEIGHTS, [Entry.of("x", data)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes()


def test_the_bytes_of_a_small_file(tmp_path: Path):
    """The format itself, spelled out: a change of it is a change of FORMAT_VERSION."""
    content = small_file(tmp_path)
    payload = np.arange(5, dtype="<f4").tobytes().ljust(64, b"\0") + bytes([1, 0] * 6).ljust(
        64, b"\0"
    )
    names = b"table\0codes:\xc3\xbc\0"
    table = struct.pack("<QQIIII8Q", 0, 20, 384, 5, 1, 1, 5, 0, 0, 0, 0, 0, 0, 0)
    table += struct.pack("<QQIIII8Q", 64, 12, 390, 8, 3, 2, 2, 3, 0, 0, 0, 0, 0, 0)
    front = b"\x89EDGEC\r\n" + struct.pack("<IIQII", 1, 448, 128, 2, 1)
    front += hashlib.sha256(payload).digest()
    behind = b"model".ljust(64, b"\0") + b"0.1.0".ljust(32, b"\0")
    behind += table + names.ljust(448 - 384, b"\0")
    assert content == front + hashlib.sha256(front + behind).digest() + behind + payload


def test_every_truncation_is_refused(tmp_path: Path):
    content = small_file(tmp_path)
    for size in range(len(content)):
        with pytest.raises(FormatError):
            parse_container(content[:size], "file")


def test_every_flipped_bit_is_refused(tmp_path: Path):
    content = bytearray(small_file(tmp_path))
    for bit in range(len(content) * 8):
        content[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            parse_container(bytes(content), "file")
        content[bit // 8] ^= 1 << bit % 8


FIRST, SECOND = HEADER_BYTES, HEADER_BYTES + 96


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (8, struct.pack("<I", 2), "format 2"),
        (16, struct.pack("<Q", 2**64 - 64), "bytes"),
        (24, struct.pack("<I", 2**32 - 1), "header of"),
        (24, struct.pack("<I", 1), "need text at 288"),
        (24, struct.pack("<I", 0), "need 0, which the entries take"),
        (28, struct.pack("<I", 7), "kind 7"),
        (28, struct.pack("<I", 2), "a file of calls"),
        (96, b"x" * 64, "zeros behind its end"),
        (96, b"\xff", "UTF-8"),
        (191, b"x", "zeros behind its end"),
        (FIRST, struct.pack("<Q", 64), "20 bytes at 64"),
        (FIRST + 8, struct.pack("<Q", 24), "24 bytes at 0"),
        (FIRST + 16, struct.pack("<I", 0), "need text at 384"),
        (FIRST + 20, struct.pack("<I", 2**32 - 1), "a name of"),
        (FIRST + 20, struct.pack("<I", 4), "a zero behind it"),
        (FIRST + 24, struct.pack("<I", 10), "dtype 10"),
        (FIRST + 28, struct.pack("<I", 9), "rank 9"),
        (FIRST + 28, struct.pack("<I", 0), "sizes"),
        (FIRST + 32, struct.pack("<Q", 2**62), "bytes at 0"),
        (SECOND, struct.pack("<Q", 2**64 - 64), "12 bytes at"),
        (SECOND + 32, struct.pack("<QQ", 2**63, 2**63), "12 bytes at"),
        (384, b"tab\0e", "text at 384"),
        (384, b"tabl\xff", "UTF-8"),
        (399, b"x", "behind the names"),
    ],
)
def test_forged_headers_are_refused(tmp_path: Path, at: int, value: bytes, reason: str):
    """With a hash that fits, each field is still checked by itself."""
    with pytest.raises(FormatError, match=reason):
        parse_container(forge(small_file(tmp_path), at, value), "file", Kind.WEIGHTS)


def test_sizes_with_a_zero_do_not_hide_others(tmp_path: Path):
    """0 × 2^63 elements take no bytes, and no array can have that shape."""
    path = tmp_path / "empty"
    write_container(path, Kind.WEIGHTS, [Entry.of("x", np.empty((0, 1), np.uint8))])
    forged = forge(path.read_bytes(), FIRST + 40, struct.pack("<Q", 2**63))
    with pytest.raises(FormatError, match="sizes that memory can have"):
        parse_container(forged, "file")


def test_two_entries_of_one_name_are_refused(tmp_path: Path):
    entry = Entry.of("x", np.zeros(1, np.float32))
    with pytest.raises(FormatError, match="more than once"):
        write_container(tmp_path / "file", Kind.WEIGHTS, [entry, entry])
    write_container(tmp_path / "file", Kind.WEIGHTS, [entry, Entry.of("y", entry.data)])
    with pytest.raises(FormatError, match="'x' again"):
        parse_container(forge((tmp_path / "file").read_bytes(), 384 + 2, b"x"), "file")


@given(st.binary(max_size=600))
def test_any_bytes_are_refused_or_read(content: bytes):
    with pytest.raises(FormatError):
        parse_container(b"\x89EDGEC\r\n" + content, "file")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Entry.of("x", np.zeros(1, np.complex64)),
        lambda: [Entry("x", np.zeros(1, np.float32), "f16")],
        lambda: [Entry("x", np.zeros(1, np.float32), "f8")],
        lambda: [Entry("", np.zeros(1, np.float32), "f32")],
        lambda: [Entry("a\0b", np.zeros(1, np.float32), "f32")],
        lambda: [Entry("x", np.zeros((1,) * 9, np.float32), "f32")],
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, make: Callable[[], list[Entry]]):
    with pytest.raises(FormatError):
        write_container(tmp_path / "file", Kind.WEIGHTS, make())


def test_texts_have_a_greatest_length(tmp_path: Path):
    write_container(tmp_path / "file", Kind.WEIGHTS, [], "x" * 63, "y" * 31)
    for model, producer in (("x" * 64, ""), ("", "y" * 32), ("a\0b", "")):
        with pytest.raises(FormatError, match="at most"):
            write_container(tmp_path / "file", Kind.WEIGHTS, [], model, producer)


def test_a_missing_file_is_a_format_error(tmp_path: Path):
    with pytest.raises(FormatError, match="nowhere"):
        read_container(tmp_path / "nowhere")
