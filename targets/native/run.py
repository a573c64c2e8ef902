"""Execution of a native model on this machine: its own library, or another's under an emulator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from edgec.errors import FormatError, UnsupportedError, ValidationError
from edgec.interpreter import check_inputs
from edgec.ir import DType
from edgec.runtime.container_reader import read_container
from edgec.target import Executable, Signature
from edgec.targets.native.files import ABOUT
from edgec.targets.native.machines import MACHINES, Here, Machine
from edgec.targets.native.toolchain import host_triple

AGAIN = "emit the model again"


class NativeExecutable(Executable):
    """A folder with one model, opened for this machine's own triple, or else for one of the others
    that can be executed here.

    triple     of the library that executes
    functions  by name
    """

    def __init__(self, folder: Path, threads: int = 1, triple: str = "") -> None:
        weights = sorted(folder.glob("*.weights"))
        if len(weights) != 1:
            got = f"{len(weights)} files called *.weights"
            raise FormatError(str(folder), got, "exactly one", AGAIN)
        self.functions = _signatures(weights[0])
        self.triple, library = _choose(folder, triple)
        of_host = self.triple == host_triple()
        machine: type[Machine] = Here if of_host else MACHINES[self.triple]
        self.machine = machine(library, weights[0], threads)
        self.folder = folder

    @cached_property
    def others(self) -> dict[str, NativeExecutable]:
        """The libraries for other platforms that can be executed here too, by triple."""
        found = {}
        for triple in _libraries(self.folder).keys() & MACHINES.keys() - {self.triple}:
            with suppress(UnsupportedError):
                found[triple] = NativeExecutable(self.folder, triple=triple)
        return dict(sorted(found.items()))

    def run(self, function: str, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Execute a function. Raises ValidationError for inputs that do not fit its signature."""
        if function not in self.functions:
            raise ValidationError("run", function, f"one of {', '.join(self.functions)}")
        signature = self.functions[function]
        graph = signature.graph()
        tensors = check_inputs(graph, inputs)
        env = graph.bind(tuple(t.shape) for t in tensors)
        arrays = [_to_numpy(t) for t in tensors]
        made = self.machine.run(signature, {n: env[n] for n in graph.dims}, arrays)
        return [_to_torch(a, v.type.dtype) for a, v in zip(made, signature.outputs, strict=True)]

    def values(
        self, function: str, inputs: Sequence[torch.Tensor], names: Sequence[str] | None = None
    ) -> dict[str, torch.Tensor]:
        """Outputs by their names: a compiled model holds no other values. Raises ValidationError
        for other names."""
        results = dict(
            zip(
                (v.name for v in self.functions[function].outputs),
                self.run(function, inputs),
                strict=True,
            )
        )
        if missing := [n for n in names or () if n not in results]:
            raise ValidationError(function, ", ".join(missing), f"one of {', '.join(results)}")
        return {n: results[n] for n in names} if names is not None else results


def _libraries(folder: Path) -> dict[str, Path]:
    """What can be loaded, by triple."""
    return {p.parent.name: p for p in sorted(folder.glob("lib/*/*")) if p.suffix != ".a"}


def _choose(folder: Path, wanted: str) -> tuple[str, Path]:
    """The triple to execute and its library: this machine's own before those of others."""
    there = _libraries(folder)
    known = [t for t in (host_triple(), *MACHINES) if t in there]
    chosen = wanted or next(iter(known), "")
    if chosen not in known:
        got = f"libraries for {', '.join(there) or 'no platform'}"
        need = wanted or f"one for {', '.join(dict.fromkeys((host_triple(), *MACHINES)))}"
        do = 'emit for this machine too, with outputs=["shared"]'
        raise UnsupportedError("native", got, need, do)
    return chosen, there[chosen]


def _signatures(path: Path) -> dict[str, Signature]:
    container = read_container(path)
    entry = container.entries.get(ABOUT)
    try:
        if entry is None:
            raise ValueError
        about = json.loads(entry.data.tobytes())
        return {str(n): Signature.from_json(t) for n, t in about["functions"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FormatError(str(path), f"no proper {ABOUT}", "weights of edgec", AGAIN) from error


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def _to_torch(array: np.ndarray, dtype: DType) -> torch.Tensor:
    if dtype is DType.BF16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
