"""Program: named functions over one pool of constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from edgec.errors import ValidationError
from edgec.ir.encoding import Constant
from edgec.ir.graph import Graph


@dataclass
class Program:
    """Functions (`main`, or `encode` and `step`, ...) that share one pool of constants.

    metadata   JSON values that travel with the program: task, tokenizer files, generation settings
    """

    graphs: dict[str, Graph]
    constants: dict[str, Constant]
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def main(self) -> Graph:
        """The only function, or `main`. Raises ValidationError where neither is there."""
        if len(self.graphs) == 1:
            return next(iter(self.graphs.values()))
        if "main" in self.graphs:
            return self.graphs["main"]
        need = f"the name of one of {', '.join(self.graphs)}"
        raise ValidationError("program", f"{len(self.graphs)} functions", need)

    @property
    def nbytes(self) -> int:
        """Exact payload of all constants that some function uses, each counted once."""
        used = set().union(*(g.used_constants() for g in self.graphs.values()))
        return sum(self.constants[n].encoding.nbytes for n in used)

    def copy(self) -> Program:
        """A program that a pass may change: own node lists and pool, shared tensors."""
        constants = dict(self.constants)
        graphs = {
            name: g.replace(nodes=list(g.nodes), constants=constants, dims=dict(g.dims))
            for name, g in self.graphs.items()
        }
        return Program(graphs, constants, dict(self.metadata))

    def map_graphs(self, change: Callable[[Graph], Graph]) -> Program:
        """A program with every function replaced by `change(function)`."""
        program = self.copy()
        program.graphs = {name: change(g) for name, g in program.graphs.items()}
        return program

    def drop_unused_constants(self) -> Program:
        """The same program without constants that no function refers to."""
        used = set().union(*(g.used_constants() for g in self.graphs.values()))
        program = self.copy()
        for name in [n for n in program.constants if n not in used]:
            del program.constants[name]
        return program

    def run(self, *inputs: Any, function: str | None = None) -> Any:
        """Interpret one function (default: `main`) on the module's nested inputs; nested outputs.

        Raises ValidationError for inputs of wrong structure, dtype or shape, or a dimension out of
        its range.
        """
        from edgec.interpreter import Interpreter

        return Interpreter(self).call(*inputs, function=function)

    def text(self) -> str:
        from edgec.ir.text import show_program

        return show_program(self)

    def save(self, path: Path | str) -> None:
        """Write the file form, a folder with `program.json` and `constants.safetensors`."""
        from edgec.ir.file import save

        save(self, Path(path))

    @staticmethod
    def load(path: Path | str) -> Program:
        """Read the file form. Raises FormatError for anything damaged."""
        from edgec.ir.file import load

        return load(Path(path))

    def verify(self) -> Program:
        """Check every invariant of the IR, return self. Raises VerifyError listing all problems."""
        from edgec.ir.verify import verify

        verify(self)
        return self


def as_tensor(value: Any) -> torch.Tensor:
    """A tensor from a tensor, array or number."""
    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value)
