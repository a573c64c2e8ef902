"""Every architecture of the public list as a native library, executed at several sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import edgec
from edgec.comparison import compare
from edgec.interpreter import Interpreter, flatten
from edgec.ir import Program
from edgec.passes import CLEANUP, parse_pipeline
from edgec.target import Support
from edgec.targets.native import Native
from tests.architectures import ZOO
from tests.capture.harness import resized

# One of each kind; the others run with `-m slow`.
DEFAULT = {"bert", "gpt2_step", "lstm_tagger", "mobilenet_v2"}
NAMES = [n if n in DEFAULT else pytest.param(n, marks=pytest.mark.slow) for n in ZOO]
TOLERANCE = 1e-5  # of the largest ordinary element: what capture is held to as well


@pytest.mark.parametrize("name", NAMES)
def test_architecture(name: str, tmp_path: Path) -> None:
    """As captured, and as a build has it: cleaned up, with 4-bit weights in groups."""
    module, inputs, dynamic_shapes = ZOO[name]()
    program = edgec.capture(module, inputs, dynamic_shapes)
    samples = [inputs]
    if dynamic_shapes is not None:
        samples.append(resized(module, inputs, dynamic_shapes))
    flat = [[torch.as_tensor(t) for t in flatten(program.main, sample)] for sample in samples]
    check(program, flat, tmp_path / "captured")
    compressed, _ = parse_pipeline([*CLEANUP, "quantize-weights{bits=4, group=16}"]).run(program)
    check(compressed, flat, tmp_path / "compressed")


def check(program: Program, samples: list[list[torch.Tensor]], folder: Path) -> None:
    """Emit and execute at every size."""
    target = Native()
    folder.mkdir()
    artifact = target.emit(target.legalize(program).verify(), folder)
    assert {s.support for s in artifact.stored.values()} <= {Support.NATIVE, Support.DECODED}
    executable, interpreter = Native.load(folder), Interpreter(program)
    for sample in samples:
        wanted = interpreter.run(sample)
        assert any(bool(want.any()) for want in wanted), (
            "a model that computes nothing shows nothing"
        )
        for got, want in zip(executable.run("main", sample), wanted, strict=True):
            same(got, want)


def same(got: torch.Tensor, want: torch.Tensor) -> None:
    """Equal within rounding; infinities, NaN and fillers of masks at the same places."""
    found = compare("output", got, want, TOLERANCE if want.is_floating_point() else 0.0)
    assert found.passed, found
