"""Static activations as onnxruntime executes them: the codes of the definition, nothing more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgec.interpreter import Interpreter
from edgec.ir import Builder, Program, Range, TensorType
from edgec.passes import parse_pipeline
from edgec.targets.onnx import Onnx
from tests.targets.onnx.test_encodings import optimized_ops

SCALE, ZERO = 0.015625, 100
STATIC = {"activations": "static", "x_scale": SCALE, "x_zero": ZERO}


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(kind: str, bias: bool) -> Program:
    b = Builder.new("main", [("x", TensorType.parse(kind))], {}, {"n": Range(0, 64)})
    added = b.constant(randn(48, seed=1), "b") if bias else None
    y = b.linear(b.input("x"), b.constant(randn(48, 40), "w"), added, **STATIC)
    return Program({"main": b.finish([y])}, b.graph.constants).verify()


def conv(groups: int, axes: int) -> Program:
    shape = ", ".join(["n", "8", *["9"] * axes])
    b = Builder.new("main", [("x", TensorType.parse(f"f32[{shape}]"))], {}, {"n": Range(1, 64)})
    w = b.constant(randn(16, 8 // groups, *[3] * axes), "w")
    added = b.constant(randn(16, seed=1), "b")
    kernel = {"stride": (2,) * axes, "padding": ((1, 0),) * axes, "dilation": (1,) * axes}
    y = b.conv(b.input("x"), w, added, **kernel, groups=groups, **STATIC)
    return Program({"main": b.finish([y])}, b.graph.constants).verify()


def on_the_grid(*shape: int) -> torch.Tensor:
    """Multiples of a quarter of the scale, among them halves of a code and values beyond them."""
    generator = torch.Generator().manual_seed(3)
    return torch.randint(-1200, 1200, shape, generator=generator) * (SCALE / 4)


def check(program: Program, folder: Path, x: torch.Tensor, ops: list[str], spec: str) -> None:
    made, _ = parse_pipeline([spec]).run(program)
    target = Onnx()
    target.emit(target.legalize(made), folder)
    assert optimized_ops(folder) == ops
    (got,) = Onnx.load(folder).run("main", [x])
    (want,) = Interpreter(made, compute=torch.float64).run([x])
    assert float((got - want).abs().max()) <= 2e-6 * float(want.abs().max())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["f32[40]", "f32[n, 40]", "f32[2, n, 40]"])
def test_linear_is_one_integer_product(kind: str, bias: bool, tmp_path: Path) -> None:
    shape = [7 if d == "n" else int(d) for d in kind[4:-1].split(", ")]
    ops = ["QuantizeLinear", "MatMulIntegerToFloat"]
    check(linear(kind, bias), tmp_path, on_the_grid(*shape), ops, "quantize-weights{bits=8}")


def test_linear_without_integer_codes_multiplies_rounded_values(tmp_path: Path) -> None:
    ops = ["QuantizeLinear", "Cast", "Sub", "Mul", "Gemm"]
    spec = "quantize-weights{bits=8,group=8}"
    check(linear("f32[n, 40]", True), tmp_path, on_the_grid(7, 40), ops, spec)


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_conv_multiplies_rounded_values(groups: int, axes: int, tmp_path: Path) -> None:
    x = on_the_grid(2, 8, *[9] * axes)
    made, _ = parse_pipeline(["quantize-weights{bits=8}"]).run(conv(groups, axes))
    Onnx().emit(Onnx().legalize(made), tmp_path)
    assert {"QuantizeLinear", "Mul", "Conv"} <= set(optimized_ops(tmp_path))
    (got,) = Onnx.load(tmp_path).run("main", [x])
    (want,) = Interpreter(made, compute=torch.float64).run([x])
    assert float((got - want).abs().max()) <= 2e-6 * float(want.abs().max())


def test_onnxruntime_does_not_round_the_weights_between_two_layers_again(tmp_path: Path) -> None:
    """As it does with those of a Conv or Gemm between DequantizeLinear and QuantizeLinear."""
    b = Builder.new("main", [("x", TensorType.parse("f32[1, 8, 9, 9]"))], {}, {})
    kernel = {"stride": (1, 1), "padding": ((1, 1),) * 2, "dilation": (1, 1)}
    w, v = (b.constant(randn(8, 8, 3, 3, seed=i), f"w{i}") for i in (0, 1))
    x = b.input("x")
    coarse, fine = (dict(STATIC, x_scale=s) for s in (0.25, 0.015625))
    first = b.conv(x, w, None, **kernel, **coarse)
    y = b.conv(first, v, None, **kernel, **fine)
    z = b.conv(b.relu(x), v, None, **kernel, **fine)
    program = Program({"main": b.finish([y, z])}, b.graph.constants).verify()
    made, _ = parse_pipeline(["quantize-weights{bits=8,min_numel=1}"]).run(program)
    Onnx().emit(Onnx().legalize(made), tmp_path)
    sample = [randn(1, 8, 9, 9, seed=5)]
    pairs = zip(Onnx.load(tmp_path).run("main", sample), Interpreter(made).run(sample), strict=True)
    for got, want in pairs:
        assert float((got - want).abs().max()) <= 1e-5 * float(want.abs().max())


@pytest.mark.parametrize("shape", ["5, 40", "2, 5, 40"])
@pytest.mark.parametrize("bias", [False, True])
def test_every_row_keeps_its_own_scale(shape: str, bias: bool, tmp_path: Path) -> None:
    """onnxruntime fuses MatMulInteger with the product of two scales as if one were a number."""
    b = Builder.new("main", [("x", TensorType.parse(f"f32[{shape}]"))], {}, {})
    added = b.constant(randn(48, seed=1), "b") if bias else None
    y = b.linear(b.input("x"), b.constant(randn(48, 40), "w"), added, activations="dynamic_token")
    program = Program({"main": b.finish([y])}, b.graph.constants).verify()
    made, _ = parse_pipeline(["quantize-weights{bits=8}"]).run(program)
    Onnx().emit(Onnx().legalize(made), tmp_path)
    x = randn(*map(int, shape.split(", ")), seed=2)
    x *= torch.tensor([0.01, 1.0, 100.0, 0.1, 10.0]).unsqueeze(-1)
    (got,), (want,) = Onnx.load(tmp_path).run("main", [x]), Interpreter(made).run([x])
    for a, e in zip(got.reshape(-1, 48), want.reshape(-1, 48), strict=True):
        assert float((a - e).abs().max()) <= 1e-5 * float(e.abs().max())
    assert "MatMulInteger" in optimized_ops(tmp_path)
