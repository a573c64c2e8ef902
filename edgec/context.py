"""What a pass is given beside the program: calibration data, the original program, a listener."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

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
    given: Mapping[str, Iterable[Iterable[torch.Tensor]]] | None,
) -> Calibration:
    """Any iterables of calls, generators for example, as lists: passes repeat them.

    Raises PassError, with everything that is wrong, for what is no calls by function.
    """
    if given is None or isinstance(given, Calls):
        return given or {}
    need = 'calls by function, {"main": [[first input, second input], ...]}'
    if not isinstance(given, Mapping):
        raise PassError("calibration", type(given).__name__, need)
    made, problems = {}, []
    for name, calls in given.items():
        if not _listed(calls):
            problems.append(f"{name}: {type(calls).__name__}")
            continue
        found = list(calls)
        wrong = [(i, type(c).__name__) for i, c in enumerate(found) if not _listed(c)]
        problems += [f"{name}, call {i}: {kind}" for i, kind in wrong]
        made[name] = [] if wrong else [list(c) for c in found]
    if problems:
        raise PassError("calibration", _first(problems), need)
    return made


def _listed(value: object) -> bool:
    """Whether something is a list, or a generator; a tensor alone would be read row by row."""
    alone = isinstance(value, torch.Tensor | Mapping | str | bytes)
    return isinstance(value, Iterable) and not alone


def _first(problems: Sequence[str]) -> str:
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return "; ".join(problems[:5]) + more


def check_calibration(program: Program, calibration: Calibration) -> None:
    """Raise PassError, with everything that is wrong, for data that cannot calibrate `program`.

    That is: no call at all, functions that the program does not have, inputs of another number,
    dtype or shape than its signature has, NaNs or infinities in them, and ids that a table which is
    read at an input does not have.
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
        raise PassError("calibration", _first(problems))


def _call_problems(graph: Graph, inputs: Sequence[torch.Tensor]) -> list[str]:
    try:
        tensors = check_inputs(graph, inputs)
        graph.bind(tuple(t.shape for t in tensors))
    except EdgecError as error:
        return [str(error)]
    if empty := [v.name for v, t in zip(graph.inputs, tensors, strict=True) if t.is_meta]:
        return [f"{name} is on the device meta, it has no values" for name in empty]
    given = {v.name: t for v, t in zip(graph.inputs, tensors, strict=True)}
    problems = [
        f"{name} has NaN or infinite values"
        for name, t in given.items()
        if t.is_floating_point() and not bool(t.isfinite().all())
    ]
    for name, rows in _table_rows(graph).items():
        t = given[name]
        if t.numel() and not 0 <= int(t.min()) <= int(t.max()) < rows:
            got = f"{name} has values from {int(t.min())} to {int(t.max())}"
            problems.append(f"{got}, need 0 to {rows - 1}: a table is read there")
    return problems


def _table_rows(graph: Graph) -> dict[str, int]:
    """Rows of the smallest table that is read at each input, where their number is known."""
    names = {v.name for v in graph.inputs}
    found: dict[str, int] = {}
    for node in graph.nodes:
        table, ids = node.inputs[:2] if node.op.name == "gather" else (None, None)
        if table and ids in names:
            op: Any = node.op
            rows = graph.type(table).shape[op.axis]
            if isinstance(rows, int):
                found[ids] = min(rows, found.get(ids, rows))
    return found
