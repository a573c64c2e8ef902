"""Calibration data of a program whose signature has become smaller: the same calls, with less."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from edgec.context import Calibration
from edgec.ir import Program
from edgec.passes.structure.removal import Removal
from edgec.sequences import Calls

Change = Callable[[str, str, Tensor], Tensor | None]
"""(function, input, what it was given) -> what it is given now, None where it is gone."""


def without_units(before: Program, removals: Sequence[Removal]) -> Change:
    """Caches without the heads that are gone."""
    given = {(f, v.name) for f, graph in before.graphs.items() for v in graph.inputs}
    kept: dict[tuple[str, str], list[tuple[int, list[int]]]] = {}
    for removal in removals:
        for (function, name, axis), labels in removal.trace.axes.items():
            if (function, name) in given:
                kept.setdefault((function, name), []).append((axis, labels.kept(removal.units)))

    def change(function: str, name: str, tensor: Tensor) -> Tensor:
        for axis, indices in kept.get((function, name), ()):
            tensor = tensor.index_select(axis, torch.tensor(indices))
        return tensor

    return change


def without_inputs(after: Program) -> Change:
    """No tensors for inputs that are gone."""
    names = {f: {v.name for v in g.inputs} for f, g in after.graphs.items()}

    def change(function: str, name: str, tensor: Tensor) -> Tensor | None:
        return tensor if name in names[function] else None

    return change


def recalled(before: Program, change: Change) -> Callable[[Calibration], Calibration]:
    """What makes calls of the program before into such of the program after."""
    names = {f: [v.name for v in g.inputs] for f, g in before.graphs.items()}

    def inputs(function: str, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        made = {name: change(function, name, t) for name, t in given.items()}
        return {name: t for name, t in made.items() if t is not None}

    def apply(calibration: Calibration) -> Calibration:
        calls = {
            f: [list(inputs(f, dict(zip(names[f], c, strict=True))).values()) for c in found]
            for f, found in calibration.items()
        }
        if not isinstance(calibration, Calls):
            return calls
        sequences = [
            [dataclasses.replace(c, inputs=inputs(c.function, c.inputs)) for c in sequence]
            for sequence in calibration.sequences
        ]
        return Calls(calls, sequences)

    return apply
