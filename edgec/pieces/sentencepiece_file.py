"""A sentencepiece model file, read and written piece by piece without the protobuf package.

ModelProto has its pieces in field 1 (piece: 1, score: 2, type: 3) and the trainer's settings in
field 2 (model type: 3), rules of normal form in field 3; see sentencepiece_model.proto. Fields that
are not needed are copied.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edgec.errors import FormatError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # a piece's type
UNIGRAM, BYTE_PAIRS = 1, 2  # a model's type
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Piece:
    """One piece; `kind` NORMAL, or unknown, control, user-defined, unused, a byte."""

    text: str
    score: float
    kind: int


def pieces(model: bytes) -> list[Piece]:
    """All pieces in the order of their ids. Raises FormatError for a damaged file."""
    return [_piece(value) for number, _, value in _fields(model) if number == 1]


def merges_pairs(model: bytes) -> bool:
    """Whether the model merges pairs of pieces (BPE), and does not choose pieces (unigram)."""
    for number, _, value in _fields(model):
        if number == 2:
            kinds = [_number(v) for n, _, v in _fields(value) if n == 3]
            return kinds == [BYTE_PAIRS]
    return False


@dataclass(frozen=True)
class Settings:
    """How a model reads and writes text, besides its pieces.

    model              UNIGRAM, BYTE_PAIRS, or another type
    rules              replacements of characters: a double array and their texts, b"" for none
    dummy_prefix       a space is put before the text
    trims_spaces       spaces around the text, and all but one between words, are left out
    escapes_spaces     spaces are written as U+2581
    space_as_suffix    spaces end a piece; else they begin it
    byte_fallback      unknown characters become pieces of bytes
    unknown_surface    what the unknown piece is written as
    denormalizes       there are rules for written text, too
    """

    model: int = UNIGRAM
    rules: bytes = b""
    dummy_prefix: bool = True
    trims_spaces: bool = True
    escapes_spaces: bool = True
    space_as_suffix: bool = False
    byte_fallback: bool = False
    unknown_surface: bytes = " \u2047 ".encode()
    denormalizes: bool = False


def settings(model: bytes) -> Settings:
    """What the file says, defaults of the format where it does not. Raises FormatError."""
    found = {n: v for n, _, v in _fields(model) if n != 1}
    trainer, normal, back = (dict(_values(found.get(n, b""))) for n in (2, 3, 5))
    numbers = {"model": (trainer, 3), "dummy_prefix": (normal, 3), "trims_spaces": (normal, 4)}
    numbers |= {"escapes_spaces": (normal, 5), "space_as_suffix": (trainer, 24)}
    numbers |= {"byte_fallback": (trainer, 35)}
    stated = {name: _number(of[n]) for name, (of, n) in numbers.items() if n in of}
    made: dict[str, Any] = {n: v if n == "model" else bool(v) for n, v in stated.items()}
    if 44 in trainer:
        made["unknown_surface"] = trainer[44]
    return Settings(**made, rules=normal.get(2, b""), denormalizes=bool(back.get(2)))


def without(model: bytes, dropped: Callable[[Piece], bool]) -> bytes:
    """The file without some pieces; ids of those behind become smaller."""
    kept = [raw for n, raw, v in _fields(model) if n != 1 or not dropped(_piece(v))]
    return b"".join(kept)


def _piece(data: bytes) -> Piece:
    fields = {number: value for number, _, value in _fields(data)}
    try:
        text = fields[1].decode()
        (score,) = struct.unpack("<f", fields.get(2, b"\0\0\0\0"))
    except (KeyError, UnicodeDecodeError, struct.error) as error:
        raise _damaged() from error
    return Piece(text, float(score), _number(fields[3]) if 3 in fields else NORMAL)


def _fields(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(number, all bytes, bytes of the value) of every field of a message."""
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            begin = at
            _, at = _varint(data, at)
        elif kind == _BYTES:
            length, begin = _varint(data, at)
            at = begin + length
        elif kind in (_FIXED64, _FIXED32):
            begin, at = at, at + (8 if kind == _FIXED64 else 4)
        else:
            raise _damaged()
        if at > len(data):
            raise _damaged()
        yield key >> 3, data[start:at], data[begin:at]


def _values(message: bytes) -> Iterator[tuple[int, bytes]]:
    return ((number, value) for number, _, value in _fields(message))


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and the place behind it."""
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise _damaged()


def _number(data: bytes) -> int:
    return _varint(data, 0)[0]


def _damaged() -> FormatError:
    return FormatError("tokenizer", "no sentencepiece model", "", "copy the file again")
