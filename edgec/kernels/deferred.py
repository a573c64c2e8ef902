"""TVM's modules, imported when something of them is first used.

A program is lowered, and a compiled model executed, without compiling a kernel: neither needs TVM,
which takes seconds to import. Code of kernels imports `tvm`, `tir` and `T` from here.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class _Deferred:
    """Stands for a module until it is needed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(import_module(self._name), attribute)
        setattr(self, attribute, value)
        return value


tvm: Any = _Deferred("tvm")
tir: Any = _Deferred("tvm.tirx")
T: Any = _Deferred("tvm.script.ir_builder.tirx")
ir_builder: Any = _Deferred("tvm.script.ir_builder")
