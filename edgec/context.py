"""What a pass is given beside the program: calibration data, the original program, a listener."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import torch

from edgec.errors import EdgecError, PassError
from edgec.interpreter import check_inputs
from edgec.ir import Program
from edgec.ir.graph import Graph
from edgec.sequences import Calls, CallSequence

Samples: TypeAlias = Mapping[str, Sequence[Sequence[torch.Tensor]]]
"""Flat inputs to try, by function: {"main": [[ids, mask], ...]}."""

Calibration: TypeAlias = Samples
"""Inputs of the kind that the model will get, for passes that look at activations."""

Steps: TypeAlias = Callable[[int, int], None]
"""Called with (steps done, steps in all) while a pass works."""


def unheard(done: int, total: int) -> None:
    """Steps that nobody watches."""


@dataclass(frozen=True)
class Context:
    """What a pass may look at and report to.

    calibration   inputs of the kind that the model will get; {} without any
    original      the program before all passes: what is to be kept; None: the pass's argument
    exact         the program before the first lossy pass: with the original's function, and, value
                  by value, what the lossy passes are to keep; None: the pass's argument
    steps         called while the pass works
    folder        where files that options name are looked up; None: the working directory
    """

    calibration: Calibration = field(default_factory=dict)
    original: Program | None = None
    exact: Program | None = None
    steps: Steps = unheard
    folder: Path | None = None

    def calls(self, where: str, otherwise: str = "leave the pass out") -> Calibration:
        """The calls of each function that has some. Raises PassError, in `where`, without any."""
        found = {name: calls for name, calls in self.calibration.items() if calls}
        if not found:
            do = f"give the recipe a [calibration] table, or {otherwise}"
            raise PassError(where, "no calibration data", "inputs of the model", do)
        return found

    @property
    def sequences(self) -> Sequence[CallSequence]:
        """Sequences of calls that were recorded with the calibration data, [] without any."""
        return self.calibration.sequences if isinstance(self.calibration, Calls) else []


NOTHING = Context()


def as_calibration(
    given: Mapping[str, Iterable[Sequence[torch.Tensor]]] | None,
) -> Calibration:
    """Any iterables of calls, generators for example, as lists: passes repeat them."""
    if isinstance(given, Calls):
        return given
    return {name: list(calls) for name, calls in (given or {}).items()}


def check_calibration(program: Program, calibration: Calibration) -> None:
    """Raise PassError, with everything that is wrong, for data that cannot calibrate `program`.

    That is: no call at all, functions that the program does not have, inputs of another number,
    dtype or shape than its signature has, and NaNs or infinities in them.
    """
    do = "give the recipe a [calibration] table, or `calibration` to edgec.compile"
    if not any(calibration.values()):
        raise PassError("calibration", "no data", "inputs like those that the model will get", do)
    problems: list[str] = []
    for name, calls in calibration.items():
        graph = program.graphs.get(name)
        if graph is None:
            problems.append(f"function {name}, need one of {', '.join(program.graphs)}")
            continue
        for i, inputs in enumerate(calls):
            problems += (f"{name}, call {i}: {p}" for p in _call_problems(graph, inputs))
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise PassError("calibration", "; ".join(problems[:5]) + more)


def _call_problems(graph: Graph, inputs: Sequence[torch.Tensor]) -> list[str]:
    try:
        tensors = check_inputs(graph, inputs)
        graph.bind(tuple(t.shape for t in tensors))
    except EdgecError as error:
        return [str(error)]
    return [
        f"{v.name} has NaN or infinite values"
        for v, t in zip(graph.inputs, tensors, strict=True)
        if t.is_floating_point() and not bool(t.isfinite().all())
    ]
