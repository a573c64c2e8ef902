"""The user's source line of an exported node, or of a failure."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path

import torch

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in ')


def _roots(with_transformers: bool) -> tuple[str, ...]:
    """Folders of code that a user neither wrote nor can change: the line that called it says
    more."""
    roots = [str(Path(__file__).parent), str(Path(torch.__file__).parent), "torch/"]
    if with_transformers and "transformers" in sys.modules:
        roots.append(str(Path(str(sys.modules["transformers"].__file__)).parent))
    return tuple(roots)


def source_line(stack_trace: str | None) -> str:
    """`model.py:12` from a node's stack trace, "" where there is none.

    The innermost frame outside of torch, transformers and edgec's capture, or else the innermost
    outside of torch and edgec's capture, or else the innermost. Only the file's name is kept: a
    path would tie the text to one machine.
    """
    frames = [(path, int(line)) for path, line in _FRAME.findall(stack_trace or "")]
    return _pick(frames)


def error_line(error: BaseException) -> str:
    """The user's line that raised `error`, "" where no frame is the user's."""
    frames = [(f.filename, f.lineno or 0) for f in traceback.extract_tb(error.__traceback__)]
    listed = [(p, int(n)) for p, n in _FRAME.findall(str(error))]
    own = [f for f in [*frames, *listed] if not f[0].startswith(("<", *_roots(True)))]
    return _show(own[-1]) if own else ""


def _pick(frames: list[tuple[str, int]]) -> str:
    for roots in (_roots(True), _roots(False), ()):
        own = [f for f in frames if not f[0].startswith(("<", *roots))]  # <...>: generated code
        if own:
            return _show(own[-1])
    return ""


def _show(frame: tuple[str, int]) -> str:
    return f"{Path(frame[0]).name}:{frame[1]}"
