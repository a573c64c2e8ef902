"""MODEL, as recipes and the command line name it: `hf:DIRECTORY` or `package.module:function`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from edgec.context import Samples
from edgec.errors import CaptureError, RecipeError
from edgec.ir.program import Program
from edgec.userfunction import find, importable, told

FORMS = "hf:DIRECTORY or package.module:function"


@dataclass(frozen=True)
class Model:
    """A captured model.

    program   its functions
    name      what it is called in records: no folders
    metric    name of a metric, or a function, that the model's own function gave; "" otherwise
    samples   the example inputs it was captured with, for the fidelity check
    """

    program: Program
    name: str
    metric: str | Callable[[Any, Any], float] = ""
    samples: Samples | None = None


def load_model(text: str, folder: Path | None = None) -> Model:
    """Load and capture MODEL; relative directories are below `folder` (default: here).

    `package.module:function` is called without arguments and returns (module, example inputs,
    dynamic shapes), and a metric as a fourth if it likes; modules are also looked up in `folder`.
    Raises RecipeError for a text of another form or a function that cannot be used, and
    CaptureError or FormatError for a model that cannot be loaded or captured.
    """
    folder = folder or Path.cwd()
    if text.startswith("hf:"):
        from edgec.capture import hf

        program = hf.load(text, folder=folder)
        local = hf.local(text, folder)
        return Model(program, f"hf:{local.resolve().name}" if local.is_dir() else text)
    module, colon, attribute = text.partition(":")
    if not colon or not module or not attribute:
        do = "put hf: before a directory" if text and (folder / text).exists() else ""
        raise RecipeError("model", repr(text), FORMS, do)
    return _from_function(text, folder)


def _from_function(text: str, folder: Path) -> Model:
    function = find(text, "model", folder)
    with importable(folder), told(f"{text}()", "model", CaptureError):
        made = function()
    if not isinstance(made, tuple) or len(made) not in (3, 4):
        need = "(module, example inputs, dynamic shapes) and, if wanted, a metric"
        raise RecipeError("model", f"{text}() gave {type(made).__name__}", need)
    with importable(folder):
        return _captured(made, text)


def _captured(made: tuple[Any, ...], text: str) -> Model:
    from edgec.capture import capture

    module, inputs, shapes, *rest = made
    if not isinstance(module, torch.nn.Module) or not isinstance(inputs, tuple):
        got = f"{type(module).__name__} and {type(inputs).__name__}"
        raise RecipeError(
            "model", f"{text}() gave {got}", "a torch.nn.Module and a tuple of inputs"
        )
    try:
        program = capture(module, inputs, shapes)
    except SystemExit as error:  # what else a module raises, capture tells
        got = f"{type(module).__name__}.forward raised SystemExit"
        raise CaptureError("model", got, "a forward that returns") from error
    flat = [t for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor)]
    fits = len(flat) == len(program.main.inputs)
    samples = {program.main.name: [flat]} if fits else None
    return Model(program, text, rest[0] if rest else "", samples)
