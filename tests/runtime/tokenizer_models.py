"""Tokenizers that the C tokenizer is compared on: the reference translator's, and trained ones."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece

from edgec.ir import Program
from edgec.targets.native.tokens import write_tokens

CHECKPOINT = Path(__file__).resolve().parents[2] / "models/translate/checkpoint"
NAMES = ("source.spm", "target.spm", "vocab.json")

# Options of sentencepiece's trainer, by the name of what they make.
TRAINED: dict[str, dict[str, Any]] = {
    "unigram": {"normalization_rule_name": "identity"},
    "unigram_bytes": {
        "byte_fallback": True,
        "vocab_size": 560,
        "user_defined_symbols": ["<sep>", "<s e>", "ab", "\u00df"],
        "control_symbols": ["<mask>"],
    },
    "unigram_folded": {"normalization_rule_name": "nmt_nfkc_cf", "add_dummy_prefix": False},
    "unigram_spaces": {"remove_extra_whitespaces": False, "normalization_rule_name": "nfkc"},
    "unigram_bare": {"remove_extra_whitespaces": False, "add_dummy_prefix": False},
    "bpe": {"model_type": "bpe"},
    "bpe_bytes": {
        "model_type": "bpe",
        "byte_fallback": True,
        "vocab_size": 560,
        "normalization_rule_name": "identity",
        "user_defined_symbols": ["<sep>", "the", "ab"],
        "unk_surface": " ?? ",
    },
}


@dataclass(frozen=True)
class Files:
    """A tokenizer's files by name, and what the compiler made of them."""

    paths: dict[str, Path]
    tokens: Path

    def content(self) -> dict[str, bytes]:
        return {name: path.read_bytes() for name, path in self.paths.items()}


def program_of(paths: dict[str, Path], kept: Sequence[int] = (), **metadata: Any) -> Program:
    """A program without functions that has this tokenizer, or only some of its ids."""
    files = {name: str(path) for name, path in paths.items()}
    return Program({}, {}, {"tokenizer": {"files": files, "kept": list(kept)}, **metadata})


def written(paths: dict[str, Path], folder: Path, kept: Sequence[int] = ()) -> Files:
    made, notes = write_tokens(program_of(paths, kept), "model", folder)
    assert made == ["model.tokens"], notes
    return Files(paths, folder / "model.tokens")


def reference(folder: Path) -> Files:
    return written({name: CHECKPOINT / name for name in NAMES}, folder)


def trained(name: str, folder: Path) -> Files:
    """One of TRAINED for the source, a plain unigram model of half the size for the target."""
    options = {"vocab_size": 300, **TRAINED[name]}
    (folder / "source.spm").write_bytes(train(**options))
    (folder / "target.spm").write_bytes(train(vocab_size=200))
    texts = [*_pieces(folder / "target.spm"), *_pieces(folder / "source.spm"), ">>de<<", "\u65e5"]
    ids = {text: i + 3 for i, text in enumerate(dict.fromkeys(texts))}
    ids |= {"</s>": 0, "<unk>": 1, "<pad>": 2}
    (folder / "vocab.json").write_text(json.dumps(ids))
    return written({n: folder / n for n in NAMES}, folder)


def swapped(files: Files, folder: Path) -> Files:
    """The source as target: its decoding is compared, too."""
    paths = dict(files.paths)
    paths["source.spm"], paths["target.spm"] = paths["target.spm"], paths["source.spm"]
    return written(paths, folder)


def sentences() -> list[str]:
    """English and German of the held-out pairs."""
    return (CHECKPOINT / "heldout.tsv").read_text().replace("\t", "\n").splitlines()


def train(**options: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()[:600]),
        model_writer=model,
        hard_vocab_limit=False,
        character_coverage=0.99,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def _pieces(path: Path) -> Iterator[str]:
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return (model.id_to_piece(i) for i in range(model.get_piece_size()))
