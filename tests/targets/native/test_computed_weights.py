"""Convolutions whose weights are computed when the program runs, or are not f32."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import edgec
from edgec.interpreter import Interpreter
from edgec.ir import Affine, Builder, Constant, DType, Program, TensorType
from edgec.target import Executable
from edgec.targets.native import Native
from tests.cases.case import Case
from tests.cases.ops.conv import CONV, TWO
from tests.cases.rounding import agree, differences, rounding
from tests.targets.native.one_library import add
from tests.targets.native.test_ops import Cases, bounded

UP = "stride=[2, 2], padding=[0, 0], output_padding=[0, 0], dilation=[1, 1]"
APART = "stride=[3, 2], padding=[1, 2], output_padding=[2, 0], dilation=[1, 2], groups=2"

#: More rows than a panel has, whole panels and others, more columns than a part has, 16 and 64
#: bits. With windows of CONV, whose kernels are then there.
LARGE = (
    Case("conv", TWO, ("f32[1, 24, 5, 6]", "f32[40, 24, 3, 3]", "f32[40]")),
    Case("conv", f"{TWO}, groups=2", ("f32[2, 6, 5, 6]", "f32[64, 3, 3, 3]", "f32[64]")),
    Case("conv", f"{TWO}, groups=36", ("f32[1, 36, 5, 6]", "f32[72, 1, 3, 3]", "f32[72]")),
    Case("conv", TWO, ("f16[1, 3, 5, 5]", "f16[33, 3, 3, 3]", "f16[33]")),
    Case("conv_transpose", UP, ("f32[1, 70, 4, 5]", "f32[70, 64, 2, 2]", "f32[64]")),
    Case("conv_transpose", UP, ("bf16[1, 3, 4, 5]", "bf16[3, 5, 2, 2]", "bf16[5]")),
    Case("conv_transpose", APART, ("f32[2, 6, 4, 5]", "f32[6, 18, 3, 3]", "_")),
    Case("conv", f"{TWO}, groups=2", ("f64[2, 6, 5, 6]", "const f64[4, 3, 3, 3]", "f64[4]")),
    Case("conv_transpose", APART, ("f64[2, 6, 4, 5]", "f64[6, 2, 3, 3]", "_")),
)


def given(case: Case) -> Case:
    """The case with its constants as inputs."""
    return dataclasses.replace(
        case, operands=tuple(o.removeprefix("const ") for o in case.operands)
    )


CASES = (*map(given, CONV), *LARGE)


@pytest.fixture(scope="module")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Executable:
    found = Cases()
    for i, case in enumerate(CASES):
        add(found.program, Native().legalize(bounded(case)).verify(), f"case_{i}")
    folder = tmp_path_factory.mktemp("computed")
    Native().emit(found.program, folder)
    return Native.load(folder)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda i: CASES[i].name)
def test_weights_that_are_inputs(number: int, executable: Executable) -> None:
    assert differences(executable, f"case_{number}", CASES[number]) == []


class Made(torch.nn.Module):
    """Kernels for each text, and one that is normalized, with something to fuse behind each."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = torch.nn.Linear(6, 10 * 4 * 3 * 3)
        self.raw = torch.nn.Parameter(torch.randn(10, 5, 4))

    def forward(self, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        made = self.kernels(text).view(10, 4, 3, 3)
        y = F.relu(F.conv2d(x, made, padding=1)).flatten(2)
        scale = text.sum() / self.raw.flatten(1).norm(dim=1)
        return F.gelu(F.conv_transpose1d(y, self.raw * scale[:, None, None], stride=2))


def test_kernels_that_depend_on_an_input_are_torchs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, inputs = Made().eval(), (torch.randn(2, 4, 6, 5), torch.randn(6))
    program = edgec.capture(module, inputs)
    Native().emit(Native().legalize(program), tmp_path)
    (got,) = Native.load(tmp_path).run("main", list(inputs))
    torch.testing.assert_close(got, module(*inputs))


@pytest.mark.parametrize("op", ["conv", "conv_transpose"])
@pytest.mark.parametrize("dtype", [DType.F32, DType.F16])
def test_views_of_compressed_weights(op: str, dtype: DType, tmp_path: Path) -> None:
    """Which folding leaves alone, since the file would grow; a constant of f16 is decoded."""
    torch.manual_seed(0)
    codes = torch.randint(-8, 8, (3, 5, 4, 2), dtype=torch.int8)
    weight = Affine(codes, torch.rand(3, 1).to(dtype.torch_dtype), None, 4, axis=0, dtype=dtype)
    b = Builder.new("main", [("x", TensorType(dtype, (2, 4, 6, 7)))])
    b.graph.constants["w"] = Constant("w", weight)
    order = (1, 2, 0, 3) if op == "conv" else (2, 1, 0, 3)
    pads = {"padding": ((0, 1), (1, 1))} if op == "conv" else {"padding": (1, 0)}
    options = pads if op == "conv" else pads | {"output_padding": (0, 1)}
    w = b.permute("@w", order=order)
    y = getattr(b, op)(b.input("x"), w, stride=(1, 2), dilation=(1, 1), groups=1, **options)
    graph = b.finish([y])
    program, x = Program({"main": graph}, graph.constants), torch.randn(2, 4, 6, 7)
    inputs = [x.to(dtype.torch_dtype)]
    Native().emit(Native().legalize(program), tmp_path)
    (got,) = Native.load(tmp_path).run("main", inputs)
    (want,) = Interpreter(program, compute=torch.float64).run(inputs)
    assert agree(got, want, rounding(want, 4 * 3 * 2, dtype))
