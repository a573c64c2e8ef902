"""Training data: vocabulary, held-out pairs, calibration sentences, batches of token ids."""

from __future__ import annotations

import json
import random
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from edgec.models.translate import catalogs

EOS, UNK = 0, 1  # the padding token is the last id of the vocabulary
HELD_OUT, CALIBRATION = 980, 256
_VOCABULARY = ("source.spm", "target.spm", "vocab.json")

Pair = tuple[str, str]
Row = tuple[list[int], list[int]]


def prepare(
    folders: list[Path],
    language: str,
    vocabulary: int,
    seed: int,
    out: Path,
    start: Path | None = None,
) -> list[Pair]:
    """The training pairs; `out` gets the vocabulary, held-out pairs and calibration sentences.

    The vocabulary is that of the checkpoint in `start` where one is given. The pairs themselves
    are kept in `train.tsv`, from which a later run continues.
    """
    cache = out / "train.tsv"
    if cache.exists():
        return read_pairs(cache)
    pairs = [p for p in catalogs.collect(folders, language) if "\t" not in p[0] + p[1]]
    train, held_out = catalogs.split(pairs, HELD_OUT)
    random.Random(seed).shuffle(train)
    if start:
        for name in _VOCABULARY:
            shutil.copy(start / name, out / name)
    else:
        write_vocabulary(train, vocabulary, out)
    write_pairs(out / "heldout.tsv", held_out)
    calibration = [s for s, _ in train if 20 <= len(s) <= 160][:CALIBRATION]
    (out / "calibration.txt").write_text("".join(f"{s}\n" for s in calibration), "utf-8")
    write_pairs(cache, train)
    return train


def read_pairs(path: Path) -> list[Pair]:
    """(source, target) of each line of a tab-separated file."""
    rows = (line.split("\t") for line in path.read_text("utf-8").split("\n") if line)
    return [(source, target) for source, target in rows]


def write_pairs(path: Path, pairs: list[Pair]) -> None:
    path.write_text("".join(f"{s}\t{t}\n" for s, t in pairs), "utf-8")


def write_vocabulary(pairs: list[Pair], size: int, out: Path) -> None:
    """A joint sentencepiece model in the files of transformers' MarianTokenizer."""
    import sentencepiece

    text = out / "text.txt"
    text.write_text("".join(f"{side}\n" for pair in pairs for side in pair), "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(out / "pieces"),
        vocab_size=size - 1,
        eos_id=EOS,
        unk_id=UNK,
        bos_id=-1,
        pad_id=-1,
        character_coverage=0.9998,
        split_digits=True,
        normalization_rule_name="identity",
        max_sentence_length=1024,
        num_threads=2,
        minloglevel=1,
    )
    model = without_paths((out / "pieces.model").read_bytes())
    (out / "source.spm").write_bytes(model)
    (out / "target.spm").write_bytes(model)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = {pieces.id_to_piece(i): i for i in range(pieces.get_piece_size())}
    ids["<pad>"] = size - 1
    (out / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False, indent=0), "utf-8")
    for scratch in (text, out / "pieces.model", out / "pieces.vocab"):
        scratch.unlink()


def without_paths(model: bytes) -> bytes:
    """The sentencepiece model without the paths of the machine that it was trained on."""
    messages: Any = import_module("sentencepiece.sentencepiece_model_pb2")  # built when imported
    proto = messages.ModelProto.FromString(model)
    proto.trainer_spec.ClearField("input")
    proto.trainer_spec.ClearField("model_prefix")
    return bytes(proto.SerializeToString(deterministic=True))


def encode(pairs: list[Pair], out: Path, limit: int = 128) -> list[Row]:
    """Token ids of both sides, each closed by EOS; pairs of over `limit` tokens are left out."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(out / "source.spm"))
    source, target = (pieces.encode([p[side] for p in pairs]) for side in (0, 1))
    both = zip(source, target, strict=True)
    return [([*s, EOS], [*t, EOS]) for s, t in both if max(len(s), len(t)) < limit]


def batches(rows: list[Row], tokens: int, rng: random.Random) -> list[list[int]]:
    """One epoch: batches of indices of similar length, each of at most `tokens` padded tokens."""
    order = sorted(range(len(rows)), key=lambda i: (max(map(len, rows[i])), rng.random()))
    out: list[list[int]] = [[]]
    for i in order:
        longest = max(map(len, rows[i]))
        if out[-1] and 2 * longest * (len(out[-1]) + 1) > tokens:
            out.append([])
        out[-1].append(i)
    rng.shuffle(out)
    return out


def pad(rows: list[list[int]], value: int) -> torch.Tensor:
    """i64[B, T] with rows filled up at the end."""
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])
