"""A target for tests of the core: writes a program's file form, executes it by interpreting.

Its options break the artifact on purpose, so that checks can be seen to fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from edgec.interpreter import Interpreter
from edgec.ir import Constant, Dense, Graph, Program, Range
from edgec.ir.graph import Node
from edgec.target import Artifact, Executable, Signature, StoredAs, Support, Target
from edgec.targets import TARGETS

BLIND = "blind"  # a file whose presence says so


@pytest.fixture(scope="module", autouse=True)
def reference_target() -> Iterator[None]:
    """The target by its name, for the tests of one file; a conftest imports this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TARGETS, Reference.name, "tests.reference_target:Reference")
        yield


@dataclass(frozen=True)
class Reference(Target):
    """Options of the target.

    spoil    constant whose first element is made greater by 1 as it is written; "" for none
    bloat    further bytes that ship, for programs with encodings other than dense
    """

    name: ClassVar[str] = "reference"
    packages: ClassVar[tuple[str, ...]] = ()
    spoil: str = ""
    bloat: int = 0
    batch: int = 0
    blind: bool = False

    def narrowed(self, program: Program) -> Program:
        def narrow(graph: Graph) -> Graph:
            sizes = {n: r for n, r in graph.dims.items() if n == "batch" and self.batch}
            least = {n: Range(r.min, min(r.max, self.batch)) for n, r in sizes.items()}
            return graph.replace(dims={**graph.dims, **least})

        return program.map_graphs(narrow)

    def legalize(self, program: Program) -> Program:
        return self.narrowed(program)

    def emit(self, program: Program, folder: Path, recipe: str = "") -> Artifact:
        written = program.copy()
        if self.spoil:
            values = program.constants[self.spoil].encoding.decode().clone()
            values.view(-1)[0] += 1
            written.constants[self.spoil] = Constant(self.spoil, Dense(values))
        written.save(folder)
        if self.blind:
            (folder / BLIND).touch()
        compressed = any(not isinstance(c.encoding, Dense) for c in program.constants.values())
        if self.bloat and compressed:
            (folder / "bloat.bin").write_bytes(bytes(self.bloat))
        files = sorted(p.name for p in folder.iterdir())
        stored = {
            name: StoredAs(
                "constants.safetensors", c.encoding.nbytes, Support.NATIVE, c.encoding.describe()
            )
            for name, c in program.constants.items()
        }
        return Artifact(tuple(files), (), stored)

    @staticmethod
    def load(folder: Path, threads: int = 1) -> Executable:
        return Running(Program.load(folder), (folder / BLIND).exists())


class Running(Executable):
    """A program that is executed by the interpreter."""

    def __init__(self, program: Program, blind: bool = False) -> None:
        self._blind = blind
        self._interpreter = Interpreter(program)
        self.functions = {n: Signature.of(g) for n, g in program.graphs.items()}

    def run(self, function: str, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return list(self._interpreter.run(inputs, function))

    def values(
        self, function: str, inputs: Sequence[torch.Tensor], names: Sequence[str] | None = None
    ) -> dict[str, torch.Tensor]:
        if self._blind:
            results = self.run(function, inputs)
            return dict(
                zip((v.name for v in self.functions[function].outputs), results, strict=True)
            )
        found: dict[str, torch.Tensor] = {}

        def keep(node: Node, results: tuple[torch.Tensor, ...]) -> None:
            found.update(zip((v.name for v in node.outputs), results, strict=True))

        self._interpreter.run(inputs, function, trace=keep)
        return found if names is None else {n: found[n] for n in names}
