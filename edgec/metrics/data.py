"""Evaluation data: read from the user's files, kept as evidence in a release."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgec.errors import FormatError, RecipeError

_TEXT, _TENSORS = "samples.json", "samples.safetensors"
_SOURCES = "texts.json"  # of texts whose predictions are tensors


@dataclass(frozen=True)
class Texts:
    """Texts to feed, and what should come out (None: compared with the original model only)."""

    sources: tuple[str, ...]
    references: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.sources)

    def first(self, count: int) -> Texts:
        """The first `count` samples; all for 0."""
        n = count or len(self)
        return Texts(self.sources[:n], self.references and self.references[:n])


@dataclass(frozen=True)
class Tensors:
    """Calls: (function, flat inputs) of each sample, and labels i64[n] where there are any."""

    calls: tuple[tuple[str, tuple[torch.Tensor, ...]], ...]
    labels: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.calls)

    def first(self, count: int) -> Tensors:
        n = count or len(self)
        return Tensors(self.calls[:n], None if self.labels is None else self.labels[:n])


Data = Texts | Tensors
Predictions = Sequence[str] | Sequence[torch.Tensor]


# ------------------------------------------------------------------ the user's files
def read_data(path: Path, function: str, inputs: Sequence[str]) -> Data:
    """Samples of a file: `.tsv` source, reference; `.txt` sources; `.safetensors` inputs, labels.

    function, inputs   what a tensor file is for: the function, and the names of its inputs in order
    Raises RecipeError for a missing file or an unknown kind, FormatError for a damaged one.
    """
    check_kind(path)
    if path.suffix == ".safetensors":
        return _read_tensors(path, function, inputs)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FormatError(path.name, error.strerror or str(error), "a file to read") from error
    except UnicodeDecodeError as error:
        raise FormatError(path.name, "bytes that are no text", "UTF-8") from error
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    return _READERS[path.suffix](path.name, lines)


def check_kind(path: Path) -> None:
    """Raise RecipeError unless there is a file of a kind that `read_data` reads."""
    if not path.is_file():
        raise RecipeError("data", path.name, "a file that exists")
    if path.suffix not in (*_READERS, ".safetensors"):
        raise RecipeError("data", path.name, ".tsv, .txt or .safetensors")


def _read_tsv(name: str, lines: list[str]) -> Texts:
    rows = {i: line.split("\t") for i, line in enumerate(lines, 1) if line.strip()}
    wrong = [i for i, r in rows.items() if len(r) != 2 or not all(c.strip() for c in r)]
    if wrong or not rows:
        got = f"lines {wrong[:5]} of {len(lines)}" if wrong else "no lines"
        raise FormatError(name, got, "source and reference, split by one tab")
    return Texts(tuple(r[0] for r in rows.values()), tuple(r[1] for r in rows.values()))


def _read_txt(name: str, lines: list[str]) -> Texts:
    texts = tuple(line for line in lines if line.strip())
    if not texts:
        raise FormatError(name, "no lines", "one text a line")
    return Texts(texts)


_READERS = {".tsv": _read_tsv, ".txt": _read_txt}


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file. Raises FormatError for anything damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except OSError as error:
        raise FormatError(path.name, error.strerror or str(error), "a file to read") from error
    except (SafetensorError, ValueError, KeyError) as error:
        do = "copy the file again"
        raise FormatError(path.name, f"damaged: {error}", "a safetensors file", do) from error


def _read_tensors(path: Path, function: str, inputs: Sequence[str]) -> Tensors:
    tensors = read_tensors(path)
    labels = tensors.pop("labels", None)
    if sorted(tensors) != sorted(inputs):
        need = f"{', '.join(inputs)} (and labels), each with a leading axis of samples"
        raise FormatError(path.name, f"tensors {', '.join(sorted(tensors))}", need)
    counts = {t.shape[0] if t.dim() else 0 for t in tensors.values()}
    if len(counts) != 1 or (labels is not None and labels.shape != (next(iter(counts)),)):
        raise FormatError(path.name, f"{sorted(counts)} samples", "one count for all and labels")
    if counts == {0}:
        raise FormatError(path.name, "[0] samples", "at least one, along the leading axis")
    if labels is not None and (labels.is_floating_point() or labels.is_complex()):
        got = f"labels of {str(labels.dtype).removeprefix('torch.')}"
        raise FormatError(path.name, got, "whole numbers")
    if nans := sorted(n for n, t in tensors.items() if bool(torch.isnan(t).any())):
        raise FormatError(path.name, f"NaN in {', '.join(nans)}", "numbers")
    calls = tuple(
        (function, tuple(tensors[n][i : i + 1] for n in inputs)) for i in range(counts.pop())
    )
    return Tensors(calls, labels)


# ------------------------------------------------------------------ evidence in a release
def save_evidence(
    folder: Path, data: Data, original: Predictions, got: Predictions, interpreted: Predictions
) -> None:
    """Write samples and predictions so that `load_evidence` alone can repeat the measurement.

    original      predictions of the uncompressed build
    got           predictions of the artifact
    interpreted   predictions of the interpreted graph, for the first samples
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = all(isinstance(p, str) for p in (*original, *got))
    if isinstance(data, Texts):
        record: dict[str, Any] = {
            "sources": list(data.sources),
            "references": None if data.references is None else list(data.references),
        }
        if written:
            lists = {"original": original, "got": got, "interpreted": interpreted}
            record |= {key: list(texts) for key, texts in lists.items()}
        text = json.dumps(record, ensure_ascii=False, indent=0)
        (folder / (_TEXT if written else _SOURCES)).write_bytes(text.encode())
        if written:
            return
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    if isinstance(data, Tensors):
        for i, (function, inputs) in enumerate(data.calls):
            tensors |= {f"{i}/{function}/{j}": t for j, t in enumerate(inputs)}
        tensors |= {} if data.labels is None else {"labels": data.labels}
    tensors |= {f"original/{i}": _tensor(p) for i, p in enumerate(original)}
    tensors |= {f"got/{i}": _tensor(p) for i, p in enumerate(got)}
    stored = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    (folder / _TENSORS).write_bytes(save(stored))


@dataclass(frozen=True)
class Evidence:
    """Samples of the quality measurement, and what was predicted for them.

    original      by the uncompressed build
    got           by the artifact
    interpreted   by the interpreted graph, for the first samples
    """

    data: Data
    original: Predictions
    got: Predictions
    interpreted: Predictions


def load_evidence(folder: Path) -> Evidence:
    """What `save_evidence` wrote. Raises FormatError for anything damaged."""
    path = folder / _SOURCES
    if path.is_file():
        data = _load_texts(path)
        original, got = _predicted(folder / _TENSORS, len(data))
        return Evidence(data, original, got, [])
    if (folder / _TENSORS).is_file():
        return _load_tensors(folder / _TENSORS)
    path = folder / _TEXT
    data = _load_texts(path)
    try:
        record: Mapping[str, Any] = json.loads(path.read_bytes())
        predictions = (list(record[k]) for k in ("original", "got", "interpreted"))
        return Evidence(data, *predictions)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(path.name, f"damaged: {error}", "the file of the build") from error


def _load_texts(path: Path) -> Texts:
    try:
        record: Mapping[str, Any] = json.loads(path.read_bytes())
        references = record["references"]
        return Texts(tuple(record["sources"]), None if references is None else tuple(references))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(path.name, f"damaged: {error}", "the file of the build") from error


def _predicted(path: Path, count: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Predictions of the uncompressed build and of the artifact, one for each text."""
    tensors = read_tensors(path)
    try:
        original, got = ([tensors[f"{k}/{i}"] for i in range(count)] for k in ("original", "got"))
    except KeyError as error:
        raise FormatError(path.name, f"damaged: no {error}", "the file of the build") from error
    return original, got


def _load_tensors(path: Path) -> Evidence:
    tensors = read_tensors(path)
    labels = tensors.pop("labels", None)
    calls: dict[int, dict[int, torch.Tensor]] = {}
    names: dict[int, str] = {}
    predicted: dict[str, dict[int, torch.Tensor]] = {"original": {}, "got": {}}
    try:
        for key, tensor in tensors.items():
            head, *rest = key.split("/")
            if head in predicted:
                predicted[head][int(rest[0])] = tensor
            else:
                names[int(head)] = rest[0]
                calls.setdefault(int(head), {})[int(rest[1])] = tensor
        listed = tuple(
            (names[i], tuple(calls[i][j] for j in range(len(calls[i])))) for i in range(len(calls))
        )
        original, got = ([p[i] for i in range(len(listed))] for p in predicted.values())
        return Evidence(Tensors(listed, labels), original, got, [])
    except (KeyError, ValueError, IndexError) as error:
        raise FormatError(path.name, f"damaged: {error}", "the file of the build") from error


def _tensor(prediction: Any) -> torch.Tensor:
    assert isinstance(prediction, torch.Tensor)
    return prediction
