"""The instruction sets that kernels are built for: data, no code depends on a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgec.errors import UnsupportedError


@dataclass(frozen=True)
class InstructionSet:
    """One kind of vector unit.

    name       as in object files and in tuning databases
    triple     of the compiler and linker: `x86_64-linux-gnu`
    lanes      f32 elements of one vector register
    registers  vector registers that code can name
    fma        fused multiply-add: results of a sum of products are rounded once per term
    target     what TVM is told
    """

    name: str
    triple: str
    lanes: int
    registers: int
    fma: bool
    target: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)


_WASM = {
    "kind": "llvm",
    "mtriple": "wasm32-unknown-unknown",
    "mattr": ["+simd128", "+bulk-memory"],
    "vector-width": 128,  # the same object without it, but TVM prints a warning
}


def _x86(cpu: str) -> dict[str, Any]:
    return {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": cpu}


def _arm(triple: str) -> dict[str, Any]:
    # x18 belongs to the system on Android and Apple's machines: the same objects serve Linux too.
    return {"kind": "llvm", "mtriple": triple, "mattr": ["+neon", "+reserve-x18"]}


INSTRUCTION_SETS = {
    i.name: i
    for i in (
        InstructionSet("x86_64_avx512", "x86_64-linux-gnu", 16, 32, True, _x86("cascadelake")),
        InstructionSet("x86_64_avx2", "x86_64-linux-gnu", 8, 16, True, _x86("haswell")),
        InstructionSet("aarch64", "aarch64-linux-gnu", 4, 32, True, _arm("aarch64-linux-gnu")),
        InstructionSet("wasm32", "wasm32-unknown-unknown", 4, 16, False, _WASM),
    )
}


def get_instruction_set(name: str) -> InstructionSet:
    """Raises UnsupportedError for an unknown name."""
    if name not in INSTRUCTION_SETS:
        raise UnsupportedError("kernels", name, f"one of {', '.join(INSTRUCTION_SETS)}")
    return INSTRUCTION_SETS[name]
