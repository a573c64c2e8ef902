"""Tokenizers of fewer tokens: which others a set of tokens needs, and files that have only these.

What holds for the files that `subset` writes, for tokens with all that `needed` adds:

- Text whose tokens are all kept is tokenized as before: a choice among fewer pieces (unigram), the
  longest of fewer (WordPiece) and fewer merges (BPE) still finds it.
- Any other text is tokenized too, into smaller pieces: special tokens, bytes and single characters
  are kept. Of WordLevel, other words become the unknown token.

New ids are the old ones without gaps, in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgec.errors import FormatError
from edgec.pieces import sentencepiece_file
from edgec.pieces.pairs import steps

Files = Mapping[str, bytes]
_PLAIN = ("special_tokens_map.json", "chat_template.jinja")  # say nothing of ids


def needed(files: Files, tokens: Iterable[int]) -> set[int]:
    """Ids that must stay so that `tokens` can be made and any text be read; `tokens` included."""
    kept = set(tokens)
    if _marian(files):
        return kept | _marian_needed(files, kept)
    return kept | _Fast(_json_file(files)).needed(kept)


def size(files: Files) -> int:
    """The greatest id, plus one."""
    if _marian(files):
        return max(_vocabulary(files).values()) + 1
    return _Fast(_json_file(files)).size


def subset(files: Files, kept: Sequence[int]) -> dict[str, bytes]:
    """Files of the tokenizer that has only the ids `kept`, ascending. Others are left out."""
    new = {old: i for i, old in enumerate(kept)}
    made = {name: files[name] for name in _PLAIN if name in files}
    if "tokenizer_config.json" in files:
        made["tokenizer_config.json"] = _config(files["tokenizer_config.json"], new)
    if _marian(files):
        return made | _marian_subset(files, new)
    return made | {"tokenizer.json": _Fast(_json_file(files)).subset(new)}


def _json_file(files: Files) -> bytes:
    if "tokenizer.json" not in files:
        got = f"tokenizer files {', '.join(sorted(files)) or 'none'}"
        raise FormatError("tokenizer", got, "source.spm with vocab.json, or tokenizer.json")
    return files["tokenizer.json"]


def _config(data: bytes, new: Mapping[int, int]) -> bytes:
    config = _parsed("tokenizer_config.json", data)
    added = config.get("added_tokens_decoder")
    if isinstance(added, dict):
        pairs = {i: v for i, v in added.items() if int(i) in new}
        config["added_tokens_decoder"] = {str(new[int(i)]): v for i, v in pairs.items()}
    return _text(config)


def _parsed(name: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(name, "no JSON", "", "copy the file again") from error


def _text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode()


# ------------------------------------------------------------------ sentencepiece and vocab.json
def _marian(files: Files) -> list[str]:
    """Names of the sentencepiece files, where there is a vocabulary beside them."""
    if not {"source.spm", "vocab.json"} <= files.keys():
        return []
    return [n for n in ("source.spm", "target.spm") if n in files]


def _vocabulary(files: Files) -> dict[str, int]:
    found: dict[str, int] = _parsed("vocab.json", files["vocab.json"])
    return found


def _marian_needed(files: Files, kept: set[int]) -> set[int]:
    if "target_vocab.json" in files:
        need = "one vocabulary for source and target"
        raise FormatError("tokenizer", "vocab.json and target_vocab.json", need)
    ids = _vocabulary(files)
    texts = {i: text for text, i in ids.items()}
    normal: set[str] = set()
    found = set(kept)
    for name in _marian(files):
        listed = {p.text: p for p in sentencepiece_file.pieces(files[name])}
        plain = {t for t, p in listed.items() if p.kind == sentencepiece_file.NORMAL}
        normal |= plain
        found |= {ids[t] for t in plain if len(t) == 1 and t in ids}
        if sentencepiece_file.merges_pairs(files[name]):
            for text in [texts[i] for i in kept if texts.get(i) in plain]:
                made = steps(text, lambda a, b, known=listed: _rank(known, a + b))  # type: ignore[misc]
                found |= {ids[t] for t in made if t in ids}
    return found | {i for text, i in ids.items() if text not in normal}


def _rank(listed: Mapping[str, sentencepiece_file.Piece], text: str) -> float | None:
    return -listed[text].score if text in listed else None


def _marian_subset(files: Files, new: Mapping[int, int]) -> dict[str, bytes]:
    ids = _vocabulary(files)

    def dropped(piece: sentencepiece_file.Piece) -> bool:
        plain = piece.kind == sentencepiece_file.NORMAL
        return plain and piece.text in ids and ids[piece.text] not in new

    made = {name: sentencepiece_file.without(files[name], dropped) for name in _marian(files)}
    kept = {text: new[i] for text, i in ids.items() if i in new}
    return made | {"vocab.json": _text(kept)}


# ------------------------------------------------------------------ tokenizer.json
class _Fast:
    """A `tokenizer.json`: a model of pieces, and tokens that were added to it."""

    def __init__(self, data: bytes) -> None:
        self.tree = _parsed("tokenizer.json", data)
        try:
            self.model = self.tree["model"]
            vocabulary = self.model["vocab"]
            self.kind = self.model.get("type") or self._guess()
            if isinstance(vocabulary, list):
                self.texts = {i: str(text) for i, (text, _) in enumerate(vocabulary)}
            else:
                self.texts = {int(i): text for text, i in vocabulary.items()}
            self.added = {int(t["id"]): str(t["content"]) for t in self.tree["added_tokens"] or []}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            need = "WordPiece, BPE, Unigram or WordLevel with a vocabulary"
            raise FormatError("tokenizer.json", "no usable model", need) from error

    def _guess(self) -> str:
        """Old files do not say the type of their model."""
        if "merges" in self.model:
            return "BPE"
        if isinstance(self.model["vocab"], list):
            return "Unigram"
        return "WordPiece" if "continuing_subword_prefix" in self.model else "WordLevel"

    @property
    def size(self) -> int:
        return max(self.texts.keys() | self.added.keys(), default=-1) + 1

    # -------------------------------------------------------------- which tokens
    def needed(self, kept: set[int]) -> set[int]:
        found = set(self.added) | set(self._ids_elsewhere())
        special = (self.model.get("unk_token"), *self.added.values())
        for i, text in self.texts.items():
            if text in special or (self.kind != "WordLevel" and self._is_base(text)):
                found.add(i)
        if isinstance(self.model.get("unk_id"), int):
            found.add(self.model["unk_id"])
        if self.kind == "BPE":
            found |= self._parts(kept | found)
        return found

    def _is_base(self, text: str) -> bool:
        """A single character or byte, also as the middle or the end of a word."""
        if text.startswith("<0x") and len(text) == 6:
            return True
        prefix = self.model.get("continuing_subword_prefix") or ""
        suffix = self.model.get("end_of_word_suffix") or ""
        return len(text.removeprefix(prefix).removesuffix(suffix)) <= 1

    def _pairs(self) -> Iterator[tuple[str, str]]:
        for merge in self.model["merges"]:
            a, b = merge.split(" ") if isinstance(merge, str) else merge
            yield a, b

    def _parts(self, kept: set[int]) -> set[int]:
        """What is merged on the way to the kept pieces."""
        ranks = {pair: i for i, pair in enumerate(self._pairs())}
        ids = {text: i for i, text in self.texts.items()}
        prefix = self.model.get("continuing_subword_prefix") or ""
        found: set[int] = set()
        for text in (self.texts[i] for i in kept if i in self.texts):
            made = steps(self._symbols(text), lambda a, b: ranks.get((a, b)), prefix)
            found |= {ids[t] for t in made if t in ids}
        return found

    def _symbols(self, text: str) -> list[str]:
        """The characters that merging begins with."""
        prefix = self.model.get("continuing_subword_prefix") or ""
        suffix = self.model.get("end_of_word_suffix") or ""
        ends = bool(suffix) and text.endswith(suffix) and text != suffix
        continues = bool(prefix) and text.startswith(prefix) and text != prefix
        body = text.removeprefix(prefix) if continues else text
        symbols = list(body.removesuffix(suffix) if ends else body)
        symbols = [c if i == 0 and not continues else prefix + c for i, c in enumerate(symbols)]
        if ends and symbols:
            symbols[-1] += suffix
        return symbols

    # -------------------------------------------------------------- ids beside the vocabulary
    def _processors(self) -> Iterator[dict[str, Any]]:
        pending = [self.tree.get("post_processor")]
        while pending:
            step = pending.pop()
            if isinstance(step, dict):
                pending += step.get("processors") or []
                yield step

    def _ids_elsewhere(self) -> Iterator[int]:
        for step in self._processors():
            for token in (step.get("special_tokens") or {}).values():
                yield from token["ids"]
            yield from (step[k][1] for k in ("sep", "cls") if k in step)

    def subset(self, new: Mapping[int, int]) -> bytes:
        """The file with only the ids of `new`, renumbered. Raises FormatError where that fails."""
        texts = {text: new[i] for i, text in self.texts.items() if i in new}
        if isinstance(self.model["vocab"], list):
            pairs = enumerate(self.model["vocab"])
            self.model["vocab"] = [entry for i, entry in pairs if i in new]
        else:
            self.model["vocab"] = texts
        if isinstance(self.model.get("unk_id"), int):
            self.model["unk_id"] = new[self.model["unk_id"]]
        if self.kind == "BPE":
            prefix = self.model.get("continuing_subword_prefix") or ""
            self.model["merges"] = [
                merge
                for merge, (a, b) in zip(self.model["merges"], self._pairs(), strict=True)
                if a in texts and b in texts and a + b.removeprefix(prefix) in texts
            ]
        for token in self.tree["added_tokens"] or []:
            token["id"] = new[token["id"]]
        for step in self._processors():
            for token in (step.get("special_tokens") or {}).values():
                token["ids"] = [new[i] for i in token["ids"]]
            for key in {"sep", "cls"} & step.keys():
                step[key] = [step[key][0], new[step[key][1]]]
        if isinstance(padding := self.tree.get("padding"), dict):
            padding["pad_id"] = new.get(int(padding.get("pad_id") or 0), 0)
        made = _text(self.tree)
        _check(made, texts | {t: new[i] for i, t in self.added.items()})
        return made


def _check(data: bytes, ids: Mapping[str, int]) -> None:
    """Raise FormatError unless the tokenizers library numbers the tokens so."""
    from tokenizers import Tokenizer

    try:
        found = Tokenizer.from_str(data.decode())
    except Exception as error:  # the library raises plain Exception
        got = f"a file that the library refuses: {str(error)[:120]}"
        raise FormatError("tokenizer.json", got, "a tokenizer of fewer tokens") from error
    wrong = [text for text, i in ids.items() if found.token_to_id(text) != i]
    if wrong:
        got = f"other ids for {', '.join(map(repr, wrong[:5]))}"
        raise FormatError("tokenizer.json", got, "added tokens behind those of the model")
