"""smooth-activations: the scales of eq. 4, where they go, and what they are good for."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from torch import Tensor

from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Builder, Program, Range, TensorType
from edgec.passes import parse_pass, parse_pipeline
from edgec.passes.numerics.smoothing import smoothing
from edgec.targets.onnx import Onnx
from edgec.transform import PassRecord

WIDTH = 32
ROUNDED = ("quantize-weights{bits=8}", "quantize-activations{observer=minmax}")


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def program(norm: bool = True, read_twice: bool = False) -> Program:
    """A norm with some strong channels, two layers that read it, and one behind the first."""
    b = Builder.new("main", [("x", TensorType.parse("f32[n, 32]"))], {}, {"n": Range(1, 64)})
    gain = torch.ones(WIDTH)
    gain[::8] = 40.0
    g, shift = b.constant(gain, "g"), b.constant(randn(WIDTH, seed=9), "shift")
    x = b.input("x")
    h = b.layer_norm(x, g, shift, eps=1e-5) if norm else b.mul(x, g)
    p, q, r = (b.constant(randn(WIDTH, WIDTH, seed=i) / 6, f"w{i}") for i in range(3))
    first = b.linear(b.linear(h, p, None), r, None)
    outputs = [first, b.linear(h, q, None), *([h] if read_twice else [])]
    return Program({"main": b.finish(outputs)}, b.graph.constants).verify()


def calls() -> dict[str, list[list[Tensor]]]:
    return {"main": [[randn(16, WIDTH, seed=i)] for i in range(20, 24)]}


def apply(given: Program, *specs: str) -> tuple[Program, list[PassRecord]]:
    return parse_pipeline(specs).run(given, calibration=calls())


def deviation(made: Program, given: Program) -> float:
    (x,) = calls()["main"][0]
    pairs = zip(Interpreter(made).run([x]), Interpreter(given).run([x]), strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


positive = st.floats(0.015625, 1024, width=32)


@hypothesis.given(st.lists(st.tuples(positive, positive), min_size=1, max_size=9), st.floats(0, 1))
def test_scales_are_those_of_the_paper(tops: list[tuple[float, float]], alpha: float) -> None:
    x, w = torch.tensor(tops).T
    weights = [torch.stack([w, -w / 2]), (w / 3).unsqueeze(0)]
    s = smoothing(x, weights, alpha).double()
    wanted = x.double() ** alpha / w.double() ** (1 - alpha)
    torch.testing.assert_close(s / s[0], wanted / wanted[0], rtol=1e-5, atol=0)
    assert float(s.log().mean()) == pytest.approx(0, abs=1e-5)


def test_inputs_and_columns_of_zeros_stay() -> None:
    x, w = torch.tensor([0.0, 4.0, 2.0, 1.0]), torch.tensor([[1.0, 0.0, 1.0, 8.0]])
    s = smoothing(x, [w], 0.5)
    assert s[:2].tolist() == [1.0, 1.0] and float(s[2] / s[3]) == pytest.approx(4.0)
    assert smoothing(torch.zeros(4), [w], 0.5).tolist() == [1.0] * 4


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_function_stays(alpha: float) -> None:
    given = program()
    made, (record,) = apply(given, f"smooth-activations{{alpha={alpha}}}")
    assert record.modified
    assert deviation(made, given) < 1e-5
    assert [n.op.name for n in made.main.nodes] == [n.op.name for n in given.main.nodes]


def test_rounding_activations_loses_less_behind_it(tmp_path: Path) -> None:
    given = program()
    plain, _ = apply(given, *ROUNDED)
    smooth, _ = apply(given, "smooth-activations", *ROUNDED)
    assert deviation(smooth, given) < 0.7 * deviation(plain, given)
    Onnx().emit(Onnx().legalize(smooth), tmp_path)
    (x,) = calls()["main"][0]
    for got, want in zip(
        Onnx.load(tmp_path).run("main", [x]), Interpreter(smooth).run([x]), strict=True
    ):
        assert float((got - want).abs().max()) <= 2e-3 * float(want.abs().max())


def test_dynamic_activations_gain_as_well() -> None:
    given, dynamic = program(), "quantize-weights{bits=8,activations=dynamic}"
    plain, _ = apply(given, dynamic)
    smooth, _ = apply(given, "smooth-activations", dynamic)
    assert deviation(smooth, given) < 0.7 * deviation(plain, given)


@pytest.mark.parametrize("given", [program(norm=False), program(read_twice=True)])
def test_without_a_place_for_the_scales_it_is_left_or_multiplied(given: Program) -> None:
    left, (record,) = apply(given, "smooth-activations")
    assert record.notes[0].endswith("read by more than linear layers, or made by no norm; left")
    made, (record,) = apply(given, "smooth-activations{otherwise=multiply}")
    count = sum(n.op.name == "mul" for n in given.main.nodes)
    assert sum(n.op.name == "mul" for n in made.main.nodes) == count + 1
    assert deviation(left, given) < 1e-5 and deviation(made, given) < 1e-5


def test_nothing_to_do_is_told() -> None:
    given = program()
    _, (record,) = apply(given, "smooth-activations{skip=['w*']}")
    assert not record.modified and record.notes == ("nothing to do: no inputs were scaled",)


def test_inputs_that_are_not_finite_are_left() -> None:
    given = program(norm=False)
    data = {"main": [[torch.full((2, WIDTH), 3e38)]]}
    passes = parse_pipeline(["smooth-activations{otherwise=multiply}"])
    _, (record,) = passes.run(given, calibration=data)
    assert any("NaN or infinite; left" in note for note in record.notes)


@pytest.mark.parametrize("alpha", ["-0.1", "1.5", "nan"])
def test_options_that_do_not_go(alpha: str) -> None:
    with pytest.raises(PassError, match="need 0 <= alpha <= 1"):
        parse_pass(f"smooth-activations{{alpha={alpha}}}")
