"""Where a model in the transformers layout is, and what its configuration says."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgec.errors import CaptureError, FormatError

AGAIN = "copy or download the file again"


def local(source: str, folder: Path | None = None) -> Path:
    """The directory that `source` means, whether it is there or not; relative below `folder`."""
    try:
        return (folder or Path()) / Path(source.removeprefix("hf:")).expanduser()
    except RuntimeError as error:
        raise CaptureError("hf", f"{source}: no such user", "a directory") from error


def locate(source: str, folder: Path | None = None) -> Path:
    """The directory of `source`: a path, or a model of the Hugging Face hub, downloaded.

    What exists is a path, as is what starts with `.`, `/` or `~` or has more than one slash; only
    `owner/name` and `name` are looked for on the hub.
    Raises CaptureError where there is neither.
    """
    name = source.removeprefix("hf:")
    if not name.strip():
        raise CaptureError("hf", "no name", "a directory, or the name of a model of the hub")
    place = local(name, folder)
    if place.is_dir():
        return place
    if place.exists():
        raise CaptureError("hf", f"{name}, a file", "a directory in the transformers layout")
    looks_like_hub = name.count("/") <= 1 and not name.startswith((".", "/", "~"))
    if not looks_like_hub or name.endswith("/"):
        raise CaptureError("hf", f"{name}, which does not exist", "a directory with config.json")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        do = "check the name, or unset HF_HUB_OFFLINE to download it"
        got = f"{name}: no such directory, and the hub was not asked, as HF_HUB_OFFLINE is set"
        raise CaptureError("hf", got, "a directory in the transformers layout", do)
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.txt", "*.model", "*.spm"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # no network, no such model, no permission, wrong name
        reason = (str(error).strip() or "no text").splitlines()[0][:160].removeprefix("Got: ")
        got = f"{name}: no such directory, and no such model from the hub ({reason})"
        need = "a directory in the transformers layout, or a model that can be downloaded"
        raise CaptureError("hf", got, need, "check the name and the network") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises FormatError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FormatError(path.name, f"unreadable: {error.strerror}", "", AGAIN) from error
    except (ValueError, RecursionError) as error:
        raise FormatError(path.name, f"not JSON: {error}", "", AGAIN) from error


def read_config(folder: Path) -> Any:
    """The transformers configuration of a directory.

    Raises FormatError where there is none or it is damaged, CaptureError for a model type that
    transformers does not have, for models with code of their own and for weights that are
    quantized already.
    """
    path = folder / "config.json"
    if not path.is_file():
        need = "a directory in the transformers layout"
        raise FormatError("hf", f"{folder} without config.json", need)
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise FormatError(path.name, f"a {type(raw).__name__}", "a JSON object", AGAIN)
    _check_raw(path.name, raw)
    from transformers import AutoConfig

    with silent():
        try:
            return AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # wrong types and values of keys raise all kinds
            got = f"settings that transformers refuses: {first_line(error)}"
            raise FormatError(path.name, got) from error


def _check_raw(where: str, raw: dict[str, Any]) -> None:
    """Raise for what would fail later with less to say about it."""
    names = raw.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise FormatError(where, f"architectures {names!r}", "a list of class names")
    if "quantization_config" in raw:
        settings = raw["quantization_config"]
        method = settings.get("quant_method") if isinstance(settings, dict) else settings
        do = "give the unquantized checkpoint, then add a quantize-weights pass"
        raise CaptureError(where, f"weights quantized by {method}", "float weights", do)
    _known_type(raw)


def _known_type(raw: dict[str, Any]) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = raw.get("model_type")
    if isinstance(kind, str) and kind in CONFIG_MAPPING:
        return
    if "auto_map" in raw:
        need = "an architecture that transformers itself has"
        raise CaptureError("config.json", f"model_type {kind!r} with code of its own", need)
    need = "a model_type that the installed transformers knows"
    raise CaptureError("config.json", f"model_type {kind!r}", need)


# ------------------------------------------------------------------ shared by the readers
@contextlib.contextmanager
def silent() -> Iterator[None]:
    """transformers' progress bars and log lines stay unprinted within the block."""
    from transformers.utils import logging as messages

    level, bars = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity(logging.CRITICAL)
    messages.disable_progress_bar()
    try:
        yield
    finally:
        messages.set_verbosity(level)
        if bars:
            messages.enable_progress_bar()


def first_line(error: Exception) -> str:
    """The error's kind and text in one short line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:240]
