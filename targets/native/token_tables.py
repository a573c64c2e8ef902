"""The arrays of NAME.tokens: a sentencepiece tokenizer as src/tokens.h reads it.

texts, starts      u8[bytes], i32[n + 1]: all texts, sorted by bytes, one after another
ids                i32[n]: id in the vocabulary, -1 for a text that is not in it
of_id              i32[V]: the text that an id writes, -1 for special tokens

of source/ and target/, the piece models; without target/ they are the same:

kinds              u8[n]: of each text as a piece; 0 where it is none
flags              i32[1]
unknown            u8[bytes]: how the unknown piece is written

of source/ alone:

scores             f32[n]: of each text as a piece
penalty            f32[1]: score of an unknown character
rules, replacements   i32[units], u8[bytes]: normal form, a double array and its texts
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.errors import FormatError, UnsupportedError
from edgec.pieces import sentencepiece_file as spm
from edgec.runtime.container import Array, Entry

_UNKNOWN_PENALTY = np.float32(10)  # below the least score; unigram_model.cc, kUnkPenalty


@dataclass(frozen=True)
class Vocabulary:
    """Ids by text, and those that write nothing."""

    ids: Mapping[str, int]
    special: frozenset[int]


def tables(vocabulary: Vocabulary, source: bytes, target: bytes) -> list[Entry]:
    """Entries for a vocabulary and two sentencepiece files, which may be equal.

    Raises UnsupportedError for models of other kinds, FormatError for damaged ones.
    """
    models = {"source": source} if source == target else {"source": source, "target": target}
    pieces = {side: spm.pieces(data) for side, data in models.items()}
    known = {p.text for listed in pieces.values() for p in listed} | vocabulary.ids.keys()
    texts = sorted(_encoded(known))
    places = {text.decode(): i for i, text in enumerate(texts)}
    made = [*_texts(texts), *_ids(vocabulary, places)]
    for side, data in models.items():
        settings = spm.settings(data)
        _check(side, settings, pieces[side])
        made += _pieces(side, settings, pieces[side], places)
    return [*made, *_splitting(spm.settings(source), pieces["source"], places)]


def _encoded(texts: set[str]) -> Iterator[bytes]:
    for text in texts:
        try:
            yield text.encode()
        except UnicodeEncodeError as error:
            raise FormatError("vocab.json", repr(text), "Unicode characters") from error


def _texts(texts: Sequence[bytes]) -> Iterator[Entry]:
    ends = np.cumsum([0, *map(len, texts)])
    yield Entry.of("texts", np.frombuffer(b"".join(texts), np.uint8))
    yield Entry.of("starts", ends.astype(np.int32))


def _ids(vocabulary: Vocabulary, places: Mapping[str, int]) -> Iterator[Entry]:
    ids = np.full(len(places), -1, np.int32)
    of_id = np.full(max(vocabulary.ids.values()) + 1, -1, np.int32)
    for text, i in vocabulary.ids.items():
        ids[places[text]] = i
        if i not in vocabulary.special:
            of_id[i] = places[text]
    yield Entry.of("ids", ids)
    yield Entry.of("of_id", of_id)


def _check(side: str, settings: spm.Settings, pieces: Sequence[spm.Piece]) -> None:
    where = f"native, {side}.spm"
    if settings.model not in (spm.UNIGRAM, spm.BYTE_PAIRS):
        raise UnsupportedError(where, f"model type {settings.model}", "unigram or BPE")
    if settings.space_as_suffix or settings.denormalizes:
        got = "spaces as suffixes" if settings.space_as_suffix else "rules for written text"
        raise UnsupportedError(where, got, "spaces as prefixes, text as pieces have it")
    unused = any(p.kind == spm.UNUSED for p in pieces)
    if unused and settings.model == spm.BYTE_PAIRS:
        raise UnsupportedError(where, "BPE with unused pieces", "pieces that are all in use")
    bytes_ = [p.text for p in pieces if p.kind == spm.BYTE]
    if settings.byte_fallback and set(bytes_) != {f"<0x{i:02X}>" for i in range(256)}:
        raise FormatError(where, f"{len(bytes_)} pieces of bytes", "256", "copy the file again")


def _pieces(
    side: str, settings: spm.Settings, pieces: Sequence[spm.Piece], places: Mapping[str, int]
) -> Iterator[Entry]:
    kinds = np.zeros(len(places), np.uint8)
    for piece in pieces:
        kinds[places[piece.text]] = piece.kind
    yield Entry.of(f"{side}/kinds", kinds)
    yield Entry.of(f"{side}/flags", np.array([_flags(settings, pieces)], np.int32))
    yield Entry.of(f"{side}/unknown", np.frombuffer(settings.unknown_surface, np.uint8))


def _splitting(
    settings: spm.Settings, pieces: Sequence[spm.Piece], places: Mapping[str, int]
) -> Iterator[Entry]:
    """What only splitting a text asks for: of the source alone."""
    scores = np.zeros(len(places), np.float32)
    for piece in pieces:
        scores[places[piece.text]] = piece.score
    normal = [np.float32(p.score) for p in pieces if p.kind == spm.NORMAL]
    least = min(normal, default=np.finfo(np.float32).max)
    rules, replacements = _rules(settings.rules)
    yield Entry.of("source/scores", scores)
    yield Entry.of("source/penalty", np.array([least - _UNKNOWN_PENALTY], np.float32))
    yield Entry.of("source/rules", rules)
    yield Entry.of("source/replacements", replacements)


def _flags(settings: spm.Settings, pieces: Sequence[spm.Piece]) -> int:
    """Bits of `enum edgec_piece_flag`."""
    bits = (
        settings.model == spm.BYTE_PAIRS,
        settings.dummy_prefix,
        settings.trims_spaces,
        settings.escapes_spaces,
        settings.byte_fallback,
        any(p.kind == spm.USER_DEFINED for p in pieces),
    )
    return sum(1 << place for place, bit in enumerate(bits) if bit)


def _rules(data: bytes) -> tuple[Array, Array]:
    """Double array and replacements of a precompiled map: u32 bytes of the array, both parts."""
    if not data:
        return np.zeros(0, np.int32), np.zeros(0, np.uint8)
    size = struct.unpack_from("<I", data)[0] if len(data) >= 4 else 1
    replacements = data[4 + size :]
    if size % 4 or size > len(data) - 4 or not replacements.endswith(b"\0"):
        need = "a double array with its texts"
        raise FormatError("sentencepiece model", "damaged rules", need, "copy the file again")
    return np.frombuffer(data[4 : 4 + size], "<i4"), np.frombuffer(replacements, np.uint8)
