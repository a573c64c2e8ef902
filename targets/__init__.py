"""One folder per kind of artifact that edgec emits, and executes again to check it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgec.errors import FormatError, UnsupportedError

if TYPE_CHECKING:
    from edgec.target import Target

# Name -> "module:class"; a module is imported when its target is first asked for.
TARGETS: dict[str, str] = {
    "onnx": "edgec.targets.onnx:Onnx",
    "native": "edgec.targets.native:Native",
}

_SPEC = re.compile(r"\s*([\w-]+)\s*(?:\{(.*)\})?\s*", re.DOTALL)


def target_class(name: str) -> type[Target]:
    """The class of a target.

    Raises UnsupportedError for an unknown name, and for a target whose packages are not installed.
    """
    if name not in TARGETS:
        near = difflib.get_close_matches(name, TARGETS, 1, 0.5)
        do = f"did you mean {near[0]}?" if near else ""
        raise UnsupportedError("targets", repr(name), f"one of {', '.join(sorted(TARGETS))}", do)
    module, _, attribute = TARGETS[name].partition(":")
    try:
        found: type[Target] = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "edgec":
            raise
        need = f"the package {error.name}"
        raise UnsupportedError(
            name, "not installed", need, f"pip install 'edgec[{name}]'"
        ) from error
    return found


def get_target(spec: str, options: Mapping[str, Any] | None = None) -> Target:
    """The target `spec`, as `onnx` or `onnx{opset=23}`, with further options.

    Raises UnsupportedError for an unknown target and for unknown or ill-typed options.
    """
    import dataclasses

    from edgec.ir.text import parse_attributes, show_value

    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UnsupportedError("targets", repr(spec), "name{option=value,...}")
    cls = target_class(match[1])
    texts = [match[2]] if match[2] else []
    texts += [f"{name}={show_value(value)}" for name, value in (options or {}).items()]
    try:
        target: Target = parse_attributes(cls, ", ".join(texts), match[1])
    except FormatError as error:
        known = [f.name for f in dataclasses.fields(cls)]
        wrong = re.findall(r"unknown (\w+)", error.got)
        near = [n for w in wrong for n in difflib.get_close_matches(w, known, 1, 0.5)]
        do = f"did you mean {', '.join(near)}?" if near else error.do
        raise UnsupportedError(match[1], error.got, error.need, do) from error
    return target
