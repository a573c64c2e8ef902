"""The weight files of a directory: complete, well formed safetensors of finite numbers."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from edgec.capture.hf.directory import AGAIN, first_line, read_json
from edgec.errors import CaptureError, FormatError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_CONVERT = (
    "convert it once with transformers: `Model.from_pretrained(DIR).save_pretrained(NEW_DIR)`"
)


def check_weights(folder: Path) -> None:
    """Check every weight file of a directory: complete, well formed, finite numbers.

    Raises FormatError for missing, truncated or damaged files, files that SHA256SUMS contradicts,
    NaN or infinite weights; CaptureError where only pickled weights are there.
    """
    files = weight_files(folder)
    _check_sums(folder)
    for path in files:
        _check_file(path)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a directory, in order. Raises as `check_weights` does."""
    index = folder / INDEX
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if index.is_file():
        return _shards(folder, index)
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
    if pickles:
        got = f"pickled weights only ({', '.join(pickles[:3])})"
        raise CaptureError("hf", got, f"{WEIGHTS}, as loading a pickle runs code", _CONVERT)
    raise FormatError("hf", f"{folder} without weights", f"{WEIGHTS}, or {INDEX} and its files")


def _shards(folder: Path, index: Path) -> list[Path]:
    """The files that an index names, each one there and holding the tensors that it should."""
    table = read_json(index)
    places = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(places, dict) or not all(isinstance(v, str) for v in places.values()):
        raise FormatError(index.name, "no weight_map", "tensor names and their files", AGAIN)
    names = sorted(set(places.values()))
    if odd := [n for n in names if Path(n).name != n]:
        raise FormatError(index.name, f"the file {odd[0]}", "files of the same directory")
    if gone := [n for n in names if not (folder / n).is_file()]:
        raise FormatError(index.name, f"missing files: {', '.join(gone)}", "", AGAIN)
    for name in names:
        held = _keys(folder / name)
        if lost := [k for k, v in places.items() if v == name and k not in held]:
            got = f"{len(lost)} tensors of the index missing ({', '.join(lost[:3])})"
            raise FormatError(name, got, "", AGAIN)
    return [folder / n for n in names]


def _check_sums(folder: Path) -> None:
    """Compare with `SHA256SUMS` (the form of sha256sum) where the directory has one."""
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        return
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        wanted, _, name = line.partition(" ")
        name = name.strip().lstrip("*")
        if not name or Path(name).name != name:
            raise FormatError(sums.name, f"the line {line[:80]!r}", "a checksum and a file name")
        if not (folder / name).is_file():
            raise FormatError(sums.name, f"{name}, which is missing", "", AGAIN)
        with open(folder / name, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != wanted.lower():
            raise FormatError(name, f"sha256 {found[:12]}...", f"{wanted[:12]}...", AGAIN)


def _check_file(path: Path) -> None:
    """An intact file of finite weights: damage shows in the header, the sizes, or as NaN."""
    bad = []
    with opened(path) as file:
        for name in file.keys():
            tensor = file.get_tensor(name)
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
                bad.append(name)
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        got = f"NaN or infinite weights in {', '.join(bad[:3])}{more}"
        raise FormatError(path.name, got, "finite weights", AGAIN)


def _keys(path: Path) -> set[str]:
    with opened(path) as file:
        return set(file.keys())


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An open safetensors file. Raises FormatError for a damaged one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise FormatError(
            path.name, f"damaged: {first_line(error)}", "a safetensors file", AGAIN
        ) from error
