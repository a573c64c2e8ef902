"""Capture: from a PyTorch module to a program of the IR, by torch.export and one rule per operator.

`edgec.capture(module, inputs, dynamic_shapes)` is the entry. This package and that function share
a name, so the package itself can be called: whichever way and order it is imported in,
`edgec.capture` is both.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from edgec.capture.functions import Function, capture, capture_functions
from edgec.ir.program import Program

__all__ = ["Function", "capture", "capture_functions"]


class _CallablePackage(types.ModuleType):
    def __call__(
        self,
        module: Any,
        inputs: tuple[Any, ...],
        dynamic_shapes: Any = None,
        *,
        adapt: bool = True,
    ) -> Program:
        return capture(module, inputs, dynamic_shapes, adapt=adapt)


_CallablePackage.__call__.__doc__ = capture.__doc__
sys.modules[__name__].__class__ = _CallablePackage
