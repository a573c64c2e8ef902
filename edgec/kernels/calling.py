"""Calling compiled kernels from Python, for tests, tuning and benchmarks on this machine."""

from __future__ import annotations

import ctypes
import functools
import platform
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from edgec.errors import BuildError
from edgec.kernels.building import build_objects
from edgec.kernels.instruction_sets import INSTRUCTION_SETS, InstructionSet
from edgec.kernels.kernel import Kernel, Pointer

ALIGNMENT = 64


@functools.cache
def host_sets() -> tuple[InstructionSet, ...]:
    """The instruction sets that this machine executes, best first."""
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        return (INSTRUCTION_SETS["aarch64"],)
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    has = {"x86_64_avx512": {"avx512f", "avx512_vnni"}, "x86_64_avx2": {"avx2", "fma"}}
    return tuple(INSTRUCTION_SETS[n] for n, need in has.items() if need <= flags)


class Callable:
    """One compiled kernel: call it with numpy arrays and numbers in the order of its parameters.

    The whole range of items is [0, items); `begin` takes a part of it.
    """

    def __init__(self, kernel: Kernel, function: Any, isa: InstructionSet) -> None:
        self.kernel = kernel
        self._function = function
        self._workspace = aligned(np.zeros(max(kernel.workspace_bytes(isa), 1), "u1"))

    def bind(self, *arguments: Any, items: int, begin: int = 0) -> Any:
        """A function without arguments: what is timed."""
        converted = [
            address(a) if isinstance(p, Pointer) else _number(a, p.dtype)
            for a, p in zip(arguments, self.kernel.parameters(), strict=True)
        ]
        tail = [address(self._workspace), ctypes.c_int32(begin), ctypes.c_int32(items)]
        function = self._function
        return lambda _alive=(arguments, self._workspace): function(*converted, *tail)

    def __call__(self, *arguments: Any, items: int, begin: int = 0) -> None:
        self.bind(*arguments, items=items, begin=begin)()


def compile_here(kernel: Kernel, isa: InstructionSet | None = None) -> Callable:
    """The kernel for this machine. Raises BuildError without a C compiler to link it."""
    return compile_all([kernel], isa)[kernel]


def compile_all(
    kernels: Iterable[Kernel], isa: InstructionSet | None = None
) -> dict[Kernel, Callable]:
    """Several kernels in one library."""
    kernels = list(dict.fromkeys(kernels))
    isa = isa or host_sets()[0]
    objects = build_objects(kernels, isa)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.so"
        command = ["cc", "-shared", "-o", str(path), *(str(objects[k]) for k in kernels), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise BuildError("kernels", f"{error}", "a C compiler called cc") from error
        library = ctypes.CDLL(str(path))
    made = {}
    for kernel in kernels:
        function = getattr(library, kernel.name)
        function.restype = None
        made[kernel] = Callable(kernel, function, isa)
    return made


def aligned(array: np.ndarray) -> np.ndarray:
    """A contiguous copy that starts on 64 bytes (numpy itself gives 16)."""
    array = np.ascontiguousarray(array)
    raw = np.empty(array.nbytes + ALIGNMENT, "u1")
    start = -raw.ctypes.data % ALIGNMENT
    out = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    out[...] = array
    return out


def address(array: Any) -> ctypes.c_void_p:
    """Pointer to the data of a numpy array or a torch tensor."""
    pointer = array.ctypes.data if isinstance(array, np.ndarray) else array.data_ptr()
    return ctypes.c_void_p(pointer)


def _number(value: float, dtype: str) -> Any:
    return ctypes.c_int32(int(value)) if dtype == "int32" else ctypes.c_float(value)
