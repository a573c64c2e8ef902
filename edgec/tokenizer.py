"""Tokenizers of a release: text to token ids and back, from the release's own files.

Two kinds of files are read: a sentencepiece pair with a vocabulary (MarianMT: `source.spm`,
`target.spm`, `vocab.json`) and a `tokenizer.json` of the tokenizers library (every fast tokenizer
of transformers).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from edgec.errors import FormatError
from edgec.pieces.subset import subset

_SPACE = "\u2581\u0120 "  # how pieces write the space before a word
_LANGUAGE = re.compile(r"^>>\S+<<")


class Tokenizer(Protocol):
    """Text to ids and back.

    encode   text -> ids with the special tokens that the model expects
    decode   ids -> text
    knows    whether the vocabulary has any piece of the text
    """

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def knows(self, text: str) -> bool: ...


class MarianTokenizer:
    """Sentencepiece pieces, numbered by `vocab.json`, closed by `</s>`; `>>de<<` is one token."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        target = "target.spm" if "target.spm" in files else "source.spm"
        self._source, self._target = (_sentencepiece(files, n) for n in ("source.spm", target))
        try:
            self._ids: dict[str, int] = json.loads(files["vocab.json"])
            self._eos, self._unknown = self._ids["</s>"], self._ids["<unk>"]
            if not all(isinstance(i, int) for i in self._ids.values()):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            do = "copy the file again"
            raise FormatError(
                "vocab.json", "no usable vocabulary", "JSON {piece: id}", do
            ) from error
        self._pieces = {i: p for p, i in self._ids.items()}
        self._special = {self._ids[t] for t in ("</s>", "<unk>", "<pad>", "<s>") if t in self._ids}

    def encode(self, text: str) -> list[int]:
        match = _LANGUAGE.match(text)
        prefix = [match[0]] if match else []
        body = text[match.end() :].lstrip() if match else text
        pieces = prefix + self._source.encode(body, out_type=str)
        return [self._ids.get(p, self._unknown) for p in pieces] + [self._eos]

    def target(self, text: str) -> list[int]:
        pieces = self._target.encode(text, out_type=str)
        return [self._ids.get(p, self._unknown) for p in pieces] + [self._eos]

    def decode(self, ids: Sequence[int]) -> str:
        pieces = [self._pieces[i] for i in ids if i in self._pieces and i not in self._special]
        return str(self._target.decode_pieces(pieces)).strip()

    def knows(self, text: str) -> bool:
        body = text[match.end() :] if (match := _LANGUAGE.match(text)) else text
        pieces = self._source.encode(body, out_type=str)
        known = (p for p in pieces if self._ids.get(p, self._unknown) != self._unknown)
        return any(p.strip(_SPACE) for p in known)


class FastTokenizer:
    """A `tokenizer.json`; special tokens are added by its own post-processor."""

    def __init__(self, data: bytes) -> None:
        from tokenizers import Tokenizer as Fast

        try:
            text = data.decode()
            self._fast = Fast.from_str(text)
            model = json.loads(text)["model"]
        except Exception as error:  # the library raises plain Exception for a damaged file
            got = f"no usable tokenizer.json: {str(error)[:120]}"
            raise FormatError("tokenizer.json", got, "", "copy the file again") from error
        unknown = model.get("unk_token")
        self._unknown = model.get("unk_id", unknown and self._fast.token_to_id(unknown))

    def encode(self, text: str) -> list[int]:
        return list(self._fast.encode(text).ids)

    def target(self, text: str) -> list[int]:
        return self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._fast.decode(list(ids), skip_special_tokens=True)).strip()

    def knows(self, text: str) -> bool:
        found = self._fast.encode(text, add_special_tokens=False)
        pairs = zip(found.ids, found.tokens, strict=True)
        return any(i != self._unknown and t.strip(_SPACE) for i, t in pairs)


Known = MarianTokenizer | FastTokenizer
"""Tokenizers that also say the ids of a text that a model is to write: `target`."""


def load_tokenizer(files: Mapping[str, Path], kept: Sequence[int] = ()) -> Known:
    """The tokenizer that `files` (name -> path) make up; of the ids `kept` alone, if there are any.

    Raises FormatError where they do not make up one.
    """
    content = read_tokenizer(files, kept)
    if {"source.spm", "vocab.json"} <= content.keys():
        return MarianTokenizer(content)
    if "tokenizer.json" in content:
        return FastTokenizer(content["tokenizer.json"])
    got = f"tokenizer files {', '.join(sorted(content)) or 'none'}"
    raise FormatError("tokenizer", got, "source.spm with vocab.json, or tokenizer.json")


def read_tokenizer(files: Mapping[str, Path], kept: Sequence[int] = ()) -> dict[str, bytes]:
    """The content of the files; of the ids `kept` alone, if there are any.

    Raises FormatError for files that are missing or cannot be read.
    """
    missing = sorted(str(p.name) for p in files.values() if not p.is_file())
    if missing:
        raise FormatError("tokenizer", f"missing {', '.join(missing)}", "the files of the release")
    try:
        content = {name: path.read_bytes() for name, path in files.items()}
    except OSError as error:
        raise FormatError("tokenizer", error.strerror or str(error), "files to read") from error
    return subset(content, kept) if kept else content


def kept_tokens(metadata: Mapping[str, Any]) -> Sequence[int]:
    """Ids that a program with this metadata has kept of its tokenizer's; () for all."""
    found: Sequence[int] = (metadata.get("tokenizer") or {}).get("kept") or ()
    return found


def _sentencepiece(files: Mapping[str, bytes], name: str) -> Any:
    import sentencepiece

    try:
        return sentencepiece.SentencePieceProcessor(model_proto=files[name])
    except RuntimeError as error:
        raise FormatError(name, "no sentencepiece model", "", "copy the file again") from error
