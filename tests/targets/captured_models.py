"""Models of the public list, captured and compressed, for the tests of each target."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch

import edgec
from edgec.comparison import compare
from edgec.interpreter import Interpreter, flatten
from edgec.ir import Program
from edgec.passes import CLEANUP, parse_pipeline
from edgec.target import Executable
from tests.architectures import ZOO
from tests.capture.harness import resized

TOLERANCE = 1e-5  # of the largest ordinary element: what capture is held to as well


def names(default: Collection[str]) -> list[object]:
    """All of the list to parametrize with; those that are not in `default` are slow."""
    assert set(default) <= set(ZOO)
    return [n if n in default else pytest.param(n, marks=pytest.mark.slow) for n in ZOO]


@dataclass(frozen=True)
class Captured:
    """A program with inputs of one size, or of two where it has named dims.

    form   captured, or compressed: cleaned up, with 4-bit weights in groups
    """

    form: str
    program: Program
    samples: Sequence[list[torch.Tensor]]

    def check(self, executable: Executable) -> None:
        """Equal within rounding; infinities, NaN and fillers of masks at the same places."""
        interpreter = Interpreter(self.program)
        for sample in self.samples:
            wanted = interpreter.run(sample)
            assert any(bool(w.any()) for w in wanted), "a model that computes nothing shows nothing"
            for got, want in zip(executable.run("main", sample), wanted, strict=True):
                allowed = TOLERANCE if want.is_floating_point() else 0.0
                found = compare("output", got, want, allowed)
                assert found.passed, found


def forms(name: str) -> Iterator[Captured]:
    """As captured, and as a build has it."""
    module, inputs, dynamic_shapes = ZOO[name]()
    program = edgec.capture(module, inputs, dynamic_shapes)
    samples = [inputs]
    if dynamic_shapes is not None:
        samples.append(resized(module, inputs, dynamic_shapes))
    flat = [[torch.as_tensor(t) for t in flatten(program.main, sample)] for sample in samples]
    yield Captured("captured", program, flat)
    compressed, _ = parse_pipeline([*CLEANUP, "quantize-weights{bits=4, group=16}"]).run(program)
    yield Captured("compressed", compressed, flat)
