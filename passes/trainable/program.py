"""A program whose constants are functions of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from edgec.ir import Constant, Program
from edgec.passes.trainable.form import Form, Parameter, Start
from edgec.passes.trainable.forms import Fixed, trainable
from edgec.passes.weights import Selection

# Which operands of an op are learned, beside the weights of recurrent ops (all behind x).
_LEARNED: Mapping[str, tuple[int, ...]] = {
    "linear": (1, 2),
    "matmul": (0, 1),
    "gather": (0,),
    "conv": (1, 2),
    "conv_transpose": (1, 2),
    "layer_norm": (1, 2),
    "rms_norm": (1,),
    "group_norm": (1, 2),
    "batch_norm": (3, 4),
    "lstm": tuple(range(1, 99)),
    "gru": tuple(range(1, 99)),
    "rnn": tuple(range(1, 99)),
}


def learned(program: Program, selected: Selection) -> list[str]:
    """Weights, biases and gains of norms among the constants: floats of one axis or more."""
    found = {
        ref[1:]
        for graph in program.graphs.values()
        for node in graph.nodes
        for index, ref in enumerate(node.inputs)
        if ref is not None and ref.startswith("@") and index in _LEARNED.get(node.op.name, ())
    }
    types = {name: c.type for name, c in program.constants.items()}
    return [
        n
        for n, t in types.items()
        if n in found & types.keys() and n in selected and t.rank and t.dtype.is_float
    ]


class TrainableProgram:
    """A program and the trainable forms of some of its constants."""

    def __init__(
        self,
        program: Program,
        names: list[str],
        original: Program | None = None,
        start: Start = Start(),  # noqa: B008 - immutable
    ) -> None:
        self._program = program
        self.forms: dict[str, Form] = {}
        for name in names:
            begin = replace(start, original=_weights(original, name))
            form = trainable(program.constants[name].encoding, begin)
            if not isinstance(form, Fixed):
                self.forms[name] = form

    @property
    def parameters(self) -> dict[str, Parameter]:
        """All of them, by `constant:parameter`."""
        return {f"{n}:{k}": p for n, f in self.forms.items() for k, p in f.parameters.items()}

    def values(self) -> dict[str, Tensor]:
        """Decoded constants, with gradients to the parameters."""
        return {name: form.value() for name, form in self.forms.items()}

    def program(self) -> Program:
        """The program with the constants that the parameters stand for; others are shared."""
        made = self._program.copy()
        with torch.no_grad():
            for name, form in self.forms.items():
                made.constants[name] = Constant(name, form.encoding())
        return made


def _weights(original: Program | None, name: str) -> Tensor | None:
    """What the original has under the name, where that are finite floats."""
    if original is None or name not in original.constants:
        return None
    found = original.constants[name].encoding.decode()
    return found if found.is_floating_point() and bool(found.isfinite().all()) else None
