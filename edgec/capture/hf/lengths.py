"""How long the sequences of a model may be, from its configuration and its position tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgec.capture.hf.directory import read_json
from edgec.errors import CaptureError

DEFAULT = 512  # for models whose positions are relative, and whose tokenizer names no limit
_SANE = 10**6  # tokenizers write 1e30 for "no limit"
_SOURCE = ("max_source_positions", "max_encoder_position_embeddings", "max_position_embeddings")
_TARGET = ("max_target_positions", "max_decoder_position_embeddings", "max_position_embeddings")


def longest_source(model: Any, folder: Path) -> int:
    """Positions of the encoder (or the only stack)."""
    return _longest(model, folder, _SOURCE)


def longest_target(model: Any, folder: Path) -> int:
    """Positions of the decoder, the first token included."""
    return _longest(model, folder, _TARGET)


def limited(limit: int, wanted: int | None) -> int:
    """`limit`, or the smaller number that the user wants. Raises CaptureError for a larger one."""
    if wanted is None:
        return limit
    if not 1 <= wanted <= limit:
        raise CaptureError(
            "hf", f"max_length={wanted}", f"1 <= max_length <= {limit} for this model"
        )
    return wanted


def _longest(model: Any, folder: Path, names: tuple[str, ...]) -> int:
    config = model.config.get_text_config()
    found = [getattr(config, n, None) for n in names]
    sizes = [n for n in found if isinstance(n, int) and n > 0][:1]
    if not sizes:
        return _tokenizer_limit(folder) or DEFAULT
    return min([*sizes, *_tables_from_padding(model)])


def _tables_from_padding(model: Any) -> list[int]:
    """Usable rows of tables whose first position comes after the padding index (RoBERTa's)."""
    usable = []
    for name, part in model.named_modules():
        padding = getattr(part, "padding_idx", None)
        table = getattr(part, "weight", getattr(part, "weights", None))
        if "position" in name and isinstance(padding, int) and table is not None:
            usable.append(table.shape[0] - padding - 1)
    return [n for n in usable if n > 0]


def _tokenizer_limit(folder: Path) -> int | None:
    path = folder / "tokenizer_config.json"
    limit = read_json(path).get("model_max_length") if path.is_file() else None
    return int(limit) if isinstance(limit, int | float) and 0 < limit < _SANE else None
