"""A checkpoint loaded without surprises.

Weights come from safetensors only, never from a pickle; code that ships with a checkpoint is never
run. What transformers would fill with random numbers (missing weights) is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgec.capture.hf.directory import first_line, silent
from edgec.capture.hf.weights import check_weights, opened, weight_files
from edgec.errors import FormatError

_NUMBER = re.compile(r"\b\d+\b")


@dataclass(frozen=True)
class Loaded:
    """A model in eval mode, float32.

    missing   weights that the checkpoint lacks, of parts that the caller said it does not need
    """

    model: Any
    config: Any
    folder: Path
    missing: frozenset[str] = frozenset()


def load_model(
    folder: Path, config: Any, model_class: Any, optional: tuple[str, ...] = ()
) -> Loaded:
    """An instance of `model_class` with the directory's weights, float32, in eval mode.

    optional   prefixes of weights that may be missing, since nothing that the caller computes
               needs them
    Raises FormatError for weights that are missing, of another shape, or damaged.
    """
    check_weights(folder)
    with silent():
        try:
            model, info = model_class.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
        except Exception as error:  # other shapes, impossible sizes, unknown activations, ...
            why = _other_shapes(folder, config, model_class) or first_line(error)
            got = f"weights that do not fit {model_class.__name__}: {why}"
            raise FormatError("hf", got, "the weights of this configuration") from error
    missing = frozenset(map(str, info["missing_keys"]))
    _check_complete(model, info, missing, optional)
    return Loaded(model.eval(), config, folder, missing)


def _other_shapes(folder: Path, config: Any, model_class: Any) -> str:
    """The weights whose shape in the files is not that of the configuration, "" for none."""
    try:
        with torch.device("meta"):
            own = {k: list(v.shape) for k, v in model_class(config).state_dict().items()}
    except Exception:  # a configuration that no model can be built from has its own message
        return ""
    found = []
    for path in weight_files(folder):
        with opened(path) as file:
            held = {k: file.get_slice(k).get_shape() for k in file.keys() if k in own}
            found += [f"{k} {held[k]}, not {own[k]}" for k in held if held[k] != own[k]]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(found[:3]) + more


def _check_complete(
    model: Any, info: dict[str, Any], missing: frozenset[str], optional: tuple[str, ...]
) -> None:
    """Every weight that is needed came from the files, and no layer of the files was left over."""
    own = list(model.state_dict())
    unneeded = {
        key
        for prefix in optional
        for group in [{k for k in own if k.startswith(prefix)}]
        if group <= missing  # in part missing means damaged, not left out
        for key in group
    }
    other = [k[0] if isinstance(k, tuple) else str(k) for k in info["mismatched_keys"]]
    found = {
        "missing": sorted(missing - unneeded),
        "of another shape": sorted(other),
        "of layers that config.json does not count": _more_layers(own, info["unexpected_keys"]),
    }
    problems = [f"{len(k)} {what} ({', '.join(k[:3])})" for what, k in found.items() if k]
    problems += map(str, info["error_msgs"])
    if problems:
        got = f"weights of {type(model).__name__}: {'; '.join(problems)}"
        do = "give the complete checkpoint; missing weights would be random numbers"
        raise FormatError("hf", got, "the weights of this configuration", do)


def _more_layers(own: list[str], unexpected: Any) -> list[str]:
    """Left-over weights that differ from a weight of the model in a layer's number only."""
    known = {_NUMBER.sub("#", key) for key in own}
    shapes = {str(key): _NUMBER.sub("#", str(key)) for key in unexpected}
    return sorted(
        key
        for key, shape in shapes.items()
        if "#" in shape and (shape in known or shape.partition(".")[2] in known)
    )
