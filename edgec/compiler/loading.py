"""MODEL, as recipes and the command line name it: `hf:DIRECTORY` or `package.module:function`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from edgec.errors import CaptureError, EdgecError, RecipeError
from edgec.ir.program import Program
from edgec.transform import Samples

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

        name = text.removeprefix("hf:")
        local = (folder / name).expanduser()
        program = hf.load(str(local if local.is_dir() else name))
        return Model(program, f"hf:{Path(local.resolve()).name if local.is_dir() else name}")
    module, colon, attribute = text.partition(":")
    if not colon or not module or not attribute:
        do = "put hf: before a directory" if (folder / text).exists() else ""
        raise RecipeError("model", repr(text), FORMS, do)
    return _from_function(module, attribute, folder, text)


def _from_function(module: str, attribute: str, folder: Path, text: str) -> Model:
    with _importable(folder):
        function = _find(module, attribute, text)
        try:
            made = function()
        except EdgecError:
            raise
        except Exception as error:
            got = f"{text}() raised {type(error).__name__}: {_line(error)}"
            do = "call it in Python, or run again with --debug"
            raise CaptureError("model", got, "", do) from error
        if not isinstance(made, tuple) or len(made) not in (3, 4):
            need = "(module, example inputs, dynamic shapes) and, if wanted, a metric"
            raise RecipeError("model", f"{text}() gave {type(made).__name__}", need)
        return _captured(made, text)


def _captured(made: tuple[Any, ...], text: str) -> Model:
    from edgec.capture import capture

    module, inputs, shapes, *rest = made
    if not isinstance(module, torch.nn.Module) or not isinstance(inputs, tuple):
        got = f"{type(module).__name__} and {type(inputs).__name__}"
        raise RecipeError(
            "model", f"{text}() gave {got}", "a torch.nn.Module and a tuple of inputs"
        )
    program = capture(module, inputs, shapes)
    flat = [t for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor)]
    fits = len(flat) == len(program.main.inputs)
    samples = {program.main.name: [flat]} if fits else None
    return Model(program, text, rest[0] if rest else "", samples)


def _find(module: str, attribute: str, text: str) -> Callable[[], Any]:
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if module == missing or module.startswith(f"{missing}."):
            do = "check the name, or run where the module lies"
            raise RecipeError("model", f"{text}: no module {missing}", FORMS, do) from error
        got = f"{module} imports {missing}, which is not installed"
        raise RecipeError("model", got, "a module that can be imported", "install it") from error
    except Exception as error:
        got = f"importing {module} raised {type(error).__name__}: {_line(error)}"
        raise RecipeError("model", got, "", "correct it, or run again with --debug") from error
    function = getattr(found, attribute, None)
    if not callable(function):
        callables = sorted(n for n, v in vars(found).items() if callable(v) and n[0] != "_")
        need = f"a function, such as {', '.join(callables[:6]) or 'one that makes a model'}"
        raise RecipeError("model", f"{text}: no function {attribute}", need)
    return function  # type: ignore[no-any-return]


def _line(error: Exception) -> str:
    return (str(error).strip() or "no text").splitlines()[0][:200]


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """`folder` first on the search path."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
