"""The platforms that a model is written for: data, no code depends on a triple."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from edgec.errors import UnsupportedError
from edgec.kernels import INSTRUCTION_SETS, InstructionSet
from edgec.runtime.sources import WASM_COMPILE


@dataclass(frozen=True)
class Platform:
    """One kind of machine and system.

    triple    as in options and folders
    sets      instruction sets that its libraries hold kernels for, best first
    guard     what its C compilers define, for #if
    zig       what ziglang calls it; the C library's version is the oldest that libraries ask for
    compile   flags for the library's C files
    library   name of the shared library; "": linked by the platform's own tools, from sources
    archive   whether there is a static library
    systems, processors   what CMake calls those that the kernels' objects fit, as regular
              expressions; "" where there are no sources to compile
    """

    triple: str
    sets: tuple[InstructionSet, ...]
    guard: str
    zig: str = ""
    compile: tuple[str, ...] = ("-fPIC",)
    library: str = "lib{name}.so"
    archive: bool = True
    systems: str = ""
    processors: str = ""

    @property
    def is_webassembly(self) -> bool:
        """Whether its shared library is a WebAssembly module."""
        return self.library.endswith(".wasm")

    def library_name(self, name: str) -> str:
        return self.library.format(name=name)


def _sets(*names: str) -> tuple[InstructionSet, ...]:
    return tuple(INSTRUCTION_SETS[n] for n in names)


def _apple(isa: InstructionSet, triple: str) -> InstructionSet:
    """The same kernels in Apple's object format."""
    target = {**isa.target, "mtriple": "arm64-apple-ios13.0"}
    return dataclasses.replace(isa, triple=triple, target=target)


PLATFORMS = {
    p.triple: p
    for p in (
        Platform(
            "x86_64-linux-gnu",
            _sets("x86_64_avx512", "x86_64_avx2"),
            "defined(__x86_64__)",
            "x86_64-linux-gnu.2.28",
            systems="Linux|Android",
            processors="x86_64|AMD64|amd64",
        ),
        Platform(
            "aarch64-linux-gnu",
            _sets("aarch64"),
            "defined(__aarch64__) && !defined(__APPLE__)",
            "aarch64-linux-gnu.2.28",
            systems="Linux|Android",
            processors="aarch64|arm64|armv8-a",
        ),
        Platform(
            "wasm32-unknown-unknown",
            _sets("wasm32"),
            "defined(__wasm__)",
            "wasm32-wasi",
            WASM_COMPILE,
            "{name}.wasm",
            archive=False,
        ),
        Platform(
            "aarch64-apple-ios",
            (_apple(INSTRUCTION_SETS["aarch64"], "aarch64-apple-ios"),),
            "defined(__aarch64__) && defined(__APPLE__)",
            library="",
            archive=False,
            systems="iOS",
            processors="aarch64|arm64|",
        ),
    )
}


def platforms(triples: Sequence[str]) -> list[Platform]:
    """Raises UnsupportedError that names every unknown triple, and those that are given twice."""
    if unknown := [t for t in triples if t not in PLATFORMS]:
        need = f"some of {', '.join(PLATFORMS)}"
        raise UnsupportedError("native", f"triples {', '.join(unknown)}", need)
    if len(set(triples)) != len(triples):
        raise UnsupportedError("native", f"triples {', '.join(triples)}", "each of them once")
    return [PLATFORMS[t] for t in triples]
