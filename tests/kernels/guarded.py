"""Running kernels on memory where a step too far is fatal, and in parts.

Every array ends where a page without access begins, and inputs are read-only: a kernel that reads
or writes beyond its buffers dies, as does the test run, at the line that called it.
"""

from __future__ import annotations

import ctypes
import functools
import math
import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from edgec.ir import dims
from edgec.ir.op import Op
from edgec.kernels import InstructionSet, Kernel, Pointer
from edgec.kernels.calling import compile_here
from edgec.validate.tolerance import STANDARD

PAGE = mmap.PAGESIZE
READ, WRITE = 1, 2


def place(array: Any, writable: bool = False) -> Any:
    """A copy of the array whose last byte is the last one that may be touched."""
    array = np.ascontiguousarray(array)
    room = -(-max(array.nbytes, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, room + PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    raw = np.frombuffer(memory, "u1", array.nbytes, room - array.nbytes)
    made = raw.view(array.dtype).reshape(array.shape)
    made[...] = array
    _protect(base + room, PAGE, 0)
    _protect(base, room, READ | WRITE if writable else READ)
    return made


def _protect(start: int, size: int, rights: int) -> None:
    done = ctypes.CDLL(None).mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size), rights)
    assert done == 0


@functools.cache
def compiled(kernel: Kernel, isa: InstructionSet) -> Any:
    return compile_here(kernel, isa)


def run(
    kernel: Kernel,
    isa: InstructionSet,
    arrays: Mapping[str, Any],
    sizes: Mapping[str, float],
    results: Mapping[str, tuple[int, ...]],
) -> dict[str, Any]:
    """Outputs of the kernel by name, `results` having their shapes.

    The whole range of items is run, and two parts of it in the wrong order: with the same bits.
    """
    items = _items(kernel, sizes)
    inputs = {name: place(a) for name, a in arrays.items()}

    def outputs(*ranges: tuple[int, int]) -> dict[str, Any]:
        made = {}
        arguments: list[Any] = []
        for p in kernel.parameters():
            if not isinstance(p, Pointer):
                arguments.append(sizes[p.name])
            elif p.output:
                kind = p.dtype.replace("bfloat16", "uint16")
                blank = np.full(results[p.name], 0x5A, kind)
                made[p.name] = place(blank, writable=True)
                arguments.append(made[p.name])
            else:
                arguments.append(inputs[p.name])
        for begin, end in ranges:
            compiled(kernel, isa)(*arguments, items=end, begin=begin)
        return made

    whole = outputs((0, items))
    middle = items // 3
    parts = outputs((middle, items), (0, middle))
    for name, array in whole.items():
        assert array.tobytes() == parts[name].tobytes(), f"{name} depends on the split"
    return whole


def _items(kernel: Kernel, sizes: Mapping[str, float]) -> int:
    """The number of items, said by numbers and by an expression alike."""
    numbers = {n: v for n, v in sizes.items() if isinstance(v, int)}
    given = kernel.items(numbers)
    symbolic = kernel.items({n: dims.symbol(n) for n in numbers})
    assert dims.evaluate(symbolic, numbers) == given
    assert isinstance(given, int)
    return given


def bits(x: torch.Tensor) -> Any:
    """What a kernel gets: bf16 as its bits, truth values as bytes."""
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view("u2")
    return x.to(torch.uint8).numpy() if x.dtype == torch.bool else x.numpy()


def check(op: Op, got: Any, want: torch.Tensor, length: int = 1) -> None:
    """`got` is within what the op declares of the exact values; `length` that of its sums.

    Relative to the greatest finite magnitude, as in edgec.validate.tolerance.
    """
    made = torch.from_numpy(got.view("i2")).view(torch.bfloat16) if got.dtype == "u2" else got
    made = torch.as_tensor(made)
    exact = want.double().numpy()
    assert tuple(made.shape) == exact.shape
    bound = STANDARD * torch.finfo(made.dtype).eps * op.factor * math.sqrt(max(length, 1))
    finite = np.abs(exact[np.isfinite(exact)])
    np.testing.assert_allclose(
        made.double().numpy(), exact, rtol=0, atol=bound * finite.max(initial=0), equal_nan=True
    )
