"""Execution of a native model on this machine, through its C interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from edgec.errors import FormatError, UnsupportedError, ValidationError
from edgec.interpreter import check_inputs
from edgec.ir import DType
from edgec.runtime.container_reader import read_container
from edgec.runtime.model import Model
from edgec.target import Signature
from edgec.targets.native.files import ABOUT
from edgec.targets.native.toolchain import host_triple

AGAIN = "emit the model again"


class NativeExecutable:
    """A folder with one model, opened for this machine's own triple."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        weights = sorted(folder.glob("*.weights"))
        if len(weights) != 1:
            got = f"{len(weights)} files called *.weights"
            raise FormatError(str(folder), got, "exactly one", AGAIN)
        self.functions = _signatures(weights[0])
        libraries = sorted(folder.glob(f"lib/{host_triple()}/lib*.so"))
        if len(libraries) != 1:
            there = ", ".join(p.name for p in sorted(folder.glob("lib/*"))) or "none"
            need = f"a library for {host_triple()}; there are: {there}"
            raise UnsupportedError("native", str(folder), need, "emit for this triple too")
        self.model = Model(libraries[0], weights[0], threads)

    def run(self, function: str, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Execute a function. Raises ValidationError for inputs that do not fit its signature."""
        if function not in self.functions:
            raise ValidationError("run", function, f"one of {', '.join(self.functions)}")
        signature = self.functions[function]
        graph = signature.graph()
        tensors = check_inputs(graph, inputs)
        env = graph.bind(tuple(t.shape) for t in tensors)
        arrays = [_to_numpy(t) for t in tensors]
        made = self.model.run(function, {n: env[n] for n in graph.dims}, arrays, keep_states=False)
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
