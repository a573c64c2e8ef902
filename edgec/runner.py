"""Runner: what can be executed, a graph by the interpreter or an artifact, seen alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from edgec.interpreter import Interpreter
from edgec.ir.graph import Graph
from edgec.ir.program import Program

Run = Callable[[str, list[torch.Tensor]], Sequence[torch.Tensor]]


@dataclass(frozen=True)
class Runner:
    """Functions that can be called.

    graphs      signature of each function: names, types, ranges of dimensions, states
    run         (function, flat inputs) -> flat outputs
    metadata    the program's: task, generation
    tokenizer   files of the tokenizer, by name
    """

    graphs: Mapping[str, Graph]
    run: Run
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Mapping[str, Path] = field(default_factory=dict)

    @staticmethod
    def of_program(program: Program) -> Runner:
        """Runs the program's own graphs."""
        interpreter = Interpreter(program)

        def run(function: str, inputs: list[torch.Tensor]) -> Sequence[torch.Tensor]:
            return interpreter.run(inputs, function)

        return Runner(program.graphs, run, program.metadata, tokenizer_files(program.metadata))


def tokenizer_files(metadata: Mapping[str, Any], folder: Path | None = None) -> dict[str, Path]:
    """Paths of a program's tokenizer files by name, relative ones below `folder`."""
    files = (metadata.get("tokenizer") or {}).get("files") or {}
    return {name: (folder / path if folder else Path(path)) for name, path in files.items()}
