"""Target native: a C library per platform, its header and a file of weights. No interpreter.

TVM compiles the kernels, this target plans the memory and writes the program as C, the system's
compiler or ziglang links it with the runtime.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgec.errors import UnsupportedError
from edgec.ir import Program, Range
from edgec.target import Artifact, Executable, Target, legalized
from edgec.targets.native.encodings import encoding_verdict
from edgec.targets.native.files import write
from edgec.targets.native.legal import op_verdict
from edgec.targets.native.names import check_file_name, check_names
from edgec.targets.native.outputs import check_outputs
from edgec.targets.native.platforms import platforms
from edgec.targets.native.toolchain import host_triple


@dataclass(frozen=True)
class Native(Target):
    """A C library for each platform, a header and a file of weights.

    file_name   of header, weights and library, and prefix of the C functions
    triples     platforms to build for; (): this machine
    outputs     what is written of each besides header and weights: shared, static, cmake, source
    max_sizes   "seq=512,past=448": greatest sizes that memory is planned for, where the captured
                ranges are wider
    """

    name: ClassVar[str] = "native"
    packages: ClassVar[tuple[str, ...]] = ("apache-tvm", "apache-tvm-ffi")

    file_name: str = "model"
    triples: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ("shared",)
    max_sizes: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.file_name):
            need = "letters, digits and _, a letter first: it begins names in C"
            raise UnsupportedError("native", f"file_name={self.file_name!r}", need)
        check_file_name(self.file_name)
        object.__setattr__(self, "triples", tuple(self.triples) or (host_triple(),))
        object.__setattr__(self, "outputs", tuple(self.outputs))
        check_outputs(platforms(self.triples), self.outputs)

    def legalize(self, program: Program) -> Program:
        check_names(program.graphs.values())
        return legalized(self.narrowed(program), self.name, op_verdict, encoding_verdict)

    def narrowed(self, program: Program) -> Program:
        """The program with the ranges that `max_sizes` leaves."""
        limits = dict(_limit(text) for text in self.max_sizes.split(",") if text.strip())
        known = {n for g in program.graphs.values() for n in g.dims}
        if unknown := sorted(limits.keys() - known):
            need = f"dimensions of the program: {', '.join(sorted(known)) or 'none'}"
            raise UnsupportedError("native", f"max_sizes of {', '.join(unknown)}", need)
        program = program.copy()
        for name, graph in program.graphs.items():
            ranges = {
                n: Range(r.min, min(r.max, limits.get(n, r.max))) for n, r in graph.dims.items()
            }
            if empty := [n for n, r in ranges.items() if r.max < r.min]:
                got = f"max_sizes leave no size of {', '.join(empty)}"
                raise UnsupportedError("native", got, "sizes above the captured minimum")
            program.graphs[name] = dataclasses.replace(graph, dims=ranges)
        return program

    def emit(self, program: Program, folder: Path, recipe: str = "") -> Artifact:
        return write(program, self, folder, recipe)

    @staticmethod
    def load(folder: Path, threads: int = 1) -> Executable:
        from edgec.targets.native.run import NativeExecutable

        return NativeExecutable(folder, threads)


def _limit(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.strip().isdigit():
        raise UnsupportedError("native", f"max_sizes {text!r}", "name=size, separated by commas")
    return name.strip(), int(number)


__all__ = ["Native"]
