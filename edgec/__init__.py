"""edgec: an ahead-of-time compiler for edge and mobile models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgec import nn
    from edgec.capture import capture
    from edgec.compiler import Release, compile
    from edgec.ir import Program

__all__ = ["Program", "Release", "__version__", "capture", "compile", "nn"]

# The public names are looked up on first use, so that `import edgec` loads nothing heavy.
_HOME = {
    "Program": "edgec.ir",
    "Release": "edgec.compiler",
    "capture": "edgec.capture",
    "compile": "edgec.compiler",
    "nn": "edgec.nn",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgec' has no attribute {name!r}")
    home = import_module(_HOME[name])
    # the package edgec.capture can be called like its function, so that both answer to one name
    value = home if name in ("capture", "nn") else getattr(home, name)
    globals()[name] = value
    return value
