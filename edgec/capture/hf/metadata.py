"""What travels with a program of a checkpoint: task, tokenizer, generation settings, labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgec.capture.hf.directory import read_json
from edgec.capture.hf.kinds import TRANSLATION, Kind
from edgec.errors import FormatError

# Files that every tokenizer class may read beside its own vocabulary.
_COMMON = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
# Vocabularies under the names that transformers' tokenizer classes give them.
_VOCABULARIES = (
    "source.spm",
    "target.spm",
    "target_vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "bpe.codes",
)
DEFAULT_NEW_TOKENS = 512


def describe(folder: Path, config: Any, kind: Kind, model: Any) -> dict[str, Any]:
    """JSON values: task, kind, architecture, tokenizer; generation or labels where they apply."""
    made: dict[str, Any] = {
        "task": kind.task,
        "kind": kind.name,
        "architecture": type(model).__name__,
        "model_type": config.model_type,
    }
    if files := tokenizer_files(folder):
        made["tokenizer"] = {"files": {name: str(path) for name, path in files.items()}}
    processor = folder / "preprocessor_config.json"
    if processor.is_file():
        made["preprocessor"] = read_json(processor)
    if kind.name.endswith("classification"):
        made["labels"] = [str(config.id2label[i]) for i in sorted(config.id2label)]
    if kind.task in ("translate", "causal-lm"):
        settings = folder / "generation_config.json"
        if settings.is_file():
            read_json(settings)  # transformers takes a damaged file for a missing one
        made["generation"] = generation(config, model.generation_config, kind)
    return made


def tokenizer_files(folder: Path) -> dict[str, Path]:
    """Paths of the tokenizer's files by name; empty where the directory has no vocabulary.

    Raises FormatError for a damaged JSON file.
    """
    found = {n: folder / n for n in (*_VOCABULARIES, *_COMMON) if (folder / n).is_file()}
    for path in found.values():
        if path.suffix == ".json":
            read_json(path)
    has_vocabulary = any(n in found for n in ("tokenizer.json", *_VOCABULARIES))
    return {n: p.resolve() for n, p in found.items()} if has_vocabulary else {}


def require_tokenizer(folder: Path) -> None:
    """Raise FormatError for a directory without the files of a tokenizer."""
    if not tokenizer_files(folder):
        need = "tokenizer.json, or the vocabulary of the model's tokenizer"
        do = "copy the tokenizer's files beside config.json, or give tensors instead of text"
        raise FormatError("tokenizer", f"no tokenizer files in {folder}", need, do)


def generation(config: Any, settings: Any, kind: Kind) -> dict[str, Any]:
    """Token ids and limits of decoding; a key without a value is left out.

    eos, pad, bos, decoder_start   ids (`all_eos`: every id that ends a text)
    forced_bos, forced_eos         ids that must come first, last
    banned                         ids that are never generated
    max_length                     generated tokens at most
    """

    def value(name: str) -> Any:
        found = getattr(settings, name, None)
        return found if found is not None else getattr(config, name, None)

    ends = _ids(value("eos_token_id"))
    made = {
        "eos": ends[0] if ends else None,
        "all_eos": ends if len(ends) > 1 else None,
        "pad": value("pad_token_id"),
        "bos": value("bos_token_id"),
        "forced_bos": value("forced_bos_token_id"),
        "forced_eos": value("forced_eos_token_id"),
        "banned": _banned(value("bad_words_ids"), value("suppress_tokens")),
        "max_length": _new_tokens(settings),
    }
    if kind is TRANSLATION:
        made["decoder_start"] = value("decoder_start_token_id")
    return {key: v for key, v in made.items() if v is not None}


def _ids(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(v) for v in value] if isinstance(value, list | tuple) else [int(value)]


def _banned(words: Any, suppressed: Any) -> list[int] | None:
    """Single ids; words of several tokens cannot be banned one id at a time."""
    single = [int(w[0]) for w in words or [] if len(w) == 1]
    return sorted({*single, *_ids(suppressed)}) or None


def _new_tokens(settings: Any) -> int:
    for name in ("max_new_tokens", "max_length"):
        number = getattr(settings, name, None)
        if isinstance(number, int) and number > 0:
            return number
    return DEFAULT_NEW_TOKENS
