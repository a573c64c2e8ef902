"""Golden calls of a release: validation inputs and what must come out, for `edgec verify`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from edgec.errors import FormatError
from edgec.metrics.data import read_tensors
from edgec.validate import Case, Checked, Setting

NAME = "evidence/golden.safetensors"


def save_cases(folder: Path, cases: Sequence[Case]) -> None:
    """Write inputs and expected outputs; the rest of a case is in release.json."""
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    for i, case in enumerate(cases):
        tensors |= {f"{i}/input/{j}": t for j, t in enumerate(case.inputs)}
        tensors |= {f"{i}/want/{j}": t for j, t in enumerate(case.wants)}
    stored = {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}
    path = folder / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(stored))


def load_cases(folder: Path, checked: Sequence[Checked]) -> list[Case]:
    """The cases behind `checked` of release.json. Raises FormatError for a damaged file."""
    tensors = read_tensors(folder / NAME)
    cases = []
    for i, entry in enumerate(checked):
        inputs, wants = (_numbered(tensors, f"{i}/{part}/") for part in ("input", "want"))
        if len(wants) != len(entry.outputs):
            got = f"{len(wants)} outputs of call {i}"
            raise FormatError(NAME, got, f"{len(entry.outputs)}", "build the release again")
        setting = Setting(entry.label, entry.dims, entry.reduced, entry.note)
        own_error = math.inf if entry.own_error is None else entry.own_error
        allowed = tuple(o.tolerance for o in entry.outputs)
        cases.append(Case(entry.function, setting, inputs, wants, own_error, allowed))
    return cases


def _numbered(tensors: dict[str, torch.Tensor], prefix: str) -> tuple[torch.Tensor, ...]:
    found: list[torch.Tensor] = []
    while f"{prefix}{len(found)}" in tensors:
        found.append(tensors[f"{prefix}{len(found)}"])
    return tuple(found)
