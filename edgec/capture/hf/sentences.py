"""Sentence embedders in the layout of sentence-transformers: an encoder, pooling, and what follows.

`modules.json` lists the parts in order: Transformer, Pooling, Dense, Normalize. The result is one
function, `main`: input_ids, attention_mask i64[batch, seq] -> embedding f32[batch, E].
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgec.capture.hf.directory import read_json
from edgec.capture.hf.weights import WEIGHTS, check_weights
from edgec.errors import CaptureError, FormatError

MODULES = "modules.json"


class SentenceEncoder(nn.Module):
    """The encoder's last states, pooled over the visible tokens, through the parts that follow."""

    def __init__(self, encoder: Any, pooling: nn.Module, rest: list[nn.Module]) -> None:
        super().__init__()
        self.encoder, self.pooling = encoder, pooling
        self.rest = nn.Sequential(*rest)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        out = self.encoder(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        pooled: Tensor = self.rest(self.pooling(out.last_hidden_state, attention_mask))
        return pooled


# ------------------------------------------------------------------ pooling of [B, S, E] to [B, E]
def _cls(states: Tensor, mask: Tensor) -> Tensor:
    return states[:, 0]


def _weights(states: Tensor, mask: Tensor) -> Tensor:
    return mask.unsqueeze(-1).to(states.dtype)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    w = _weights(states, mask)
    return (states * w).sum(1) / w.sum(1).clamp(min=1e-9)


def _mean_sqrt_length(states: Tensor, mask: Tensor) -> Tensor:
    w = _weights(states, mask)
    return (states * w).sum(1) / w.sum(1).clamp(min=1e-9).sqrt()


def _max(states: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask.unsqueeze(-1) == 0, -1e9, states).amax(1)


POOLING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_length,
}
_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
}


class Pooling(nn.Module):
    """The results of one or several poolings, side by side."""

    def __init__(self, modes: list[str]) -> None:
        super().__init__()
        self.modes = modes

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        pooled = [POOLING[m](states, mask) for m in self.modes]
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, -1)


class Normalize(nn.Module):
    """Unit length in the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(x, p=2, dim=1)


# ------------------------------------------------------------------ the layout
def parts(folder: Path) -> list[tuple[str, Path]] | None:
    """(class name, folder) of each part of a sentence embedder; None where there is no list.

    Raises FormatError for a damaged list, CaptureError for a part that is not known.
    """
    path = folder / MODULES
    if not path.is_file():
        return None
    listed = read_json(path)
    try:
        ordered = sorted(listed, key=lambda m: int(m["idx"]))
        found = [(str(m["type"]).rsplit(".", 1)[-1], folder / str(m["path"])) for m in ordered]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            MODULES, f"an entry that is none: {error!r}", "idx, path, type"
        ) from error
    known = ["Transformer", "Pooling", "Dense", "Normalize"]
    odd = [name for name, _ in found if name not in known]
    if odd or [name for name, _ in found[:2]] != known[:2]:
        got = f"the parts {', '.join(name for name, _ in found)}"
        raise CaptureError(MODULES, got, "Transformer, Pooling, then Dense or Normalize")
    return found


def build(encoder: Any, found: list[tuple[str, Path]]) -> SentenceEncoder:
    """The embedder around a loaded encoder."""
    rest = [Normalize() if name == "Normalize" else _dense(path) for name, path in found[2:]]
    return SentenceEncoder(encoder, Pooling(_modes(found[1][1])), rest).eval()


def _modes(folder: Path) -> list[str]:
    settings = _settings(folder)
    named = settings.get("pooling_mode")
    modes = [named] if isinstance(named, str) else list(named or [])
    modes += [mode for key, mode in _KEYS.items() if settings.get(key)]
    other = [
        k for k, v in settings.items() if k.startswith("pooling_mode_") and v and k not in _KEYS
    ]
    odd = other + [m for m in modes if m not in POOLING]
    if odd or not modes:
        got = f"pooling {', '.join(odd) or 'of no kind'}"
        raise CaptureError(f"{folder.name}/config.json", got, f"one of {', '.join(POOLING)}")
    return list(dict.fromkeys(modes))


def _dense(folder: Path) -> nn.Module:
    settings = _settings(folder)
    name = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh")).rsplit(
        ".", 1
    )[-1]
    activations: dict[str, nn.Module] = {
        "Tanh": nn.Tanh(),
        "Identity": nn.Identity(),
        "ReLU": nn.ReLU(),
        "GELU": nn.GELU(),
    }
    if name not in activations:
        need = f"one of {', '.join(activations)}"
        raise CaptureError(f"{folder.name}/config.json", f"activation {name}", need)
    check_weights(folder)
    from safetensors.torch import load_file

    weights = load_file(folder / WEIGHTS)
    sizes = (int(settings["in_features"]), int(settings["out_features"]))
    layer = nn.Linear(*sizes, bias=bool(settings.get("bias", True)))
    try:
        layer.load_state_dict({k.removeprefix("linear."): v for k, v in weights.items()})
    except RuntimeError as error:
        line = " ".join(str(error).split())[:200]
        raise FormatError(f"{folder.name}/{WEIGHTS}", line, f"a layer of {sizes}") from error
    return nn.Sequential(layer.float(), activations[name])


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise FormatError(MODULES, f"no {folder.name}/config.json", "the settings of each part")
    settings = read_json(path)
    if not isinstance(settings, dict):
        raise FormatError(
            f"{folder.name}/config.json", "no JSON object", "the settings of the part"
        )
    return settings


def max_tokens(folder: Path, limit: int) -> int:
    """Tokens of a text that the embedder was made to read; longer ones are cut."""
    path = folder / "sentence_bert_config.json"
    settings = read_json(path) if path.is_file() else {}
    wanted = settings.get("max_seq_length")
    return min(limit, wanted) if isinstance(wanted, int) and wanted > 0 else limit
