"""quantize-activations: which nodes get a scale, from which data, and what ONNX then computes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgec
from edgec.context import Context
from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Constant, Dense, Node, Program
from edgec.ir.text import parse_program, show_program
from edgec.passes import CLEANUP, parse_pass, parse_pipeline
from edgec.passes.numerics.observers import scale_and_zero
from edgec.passes.quantize_activations import QuantizeActivations
from edgec.targets.onnx import Onnx
from edgec.transform import PassRecord
from tests.programs import classifier, decoder

EIGHT = "quantize-weights{bits=8,min_numel=1}"


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.deep(torch.relu(self.first(x))))
        return self.last(x.mean((2, 3)))


@cache
def captured() -> Program:
    program = edgec.capture(Net().eval(), (randn(2, 3, 8, 8),))
    return parse_pipeline(CLEANUP).run(program)[0]


def net() -> Program:
    return captured().copy()


def calls(count: int = 4) -> dict[str, list[list[Tensor]]]:
    return {"main": [[randn(2, 3, 8, 8, seed=i)] for i in range(count)]}


def apply(program: Program, *specs: str, data: Any = None) -> tuple[Program, PassRecord]:
    after, records = parse_pipeline(specs).run(program, calibration=data or calls())
    return after, records[-1]


def layers(program: Program, function: str = "main") -> list[Any]:
    return [n.op for n in program.graphs[function].nodes if hasattr(n.op, "activations")]


def _remember(known: dict[str, Tensor], node: Node, made: tuple[Tensor, ...]) -> None:
    known[node.output.name] = made[0]


@pytest.mark.parametrize("eight", [EIGHT, "gptq{bits=8,min_numel=1}"])
def test_all_layers_with_byte_weights_get_a_scale(eight: str) -> None:
    after, record = apply(net(), eight, "quantize-activations")
    assert [op.activations for op in layers(after)] == ["static"] * 3
    assert record.modified and not record.notes


def test_the_range_is_that_of_what_the_layer_reads() -> None:
    """minmax, against torch's own hooks."""
    after, _ = apply(net(), EIGHT, "quantize-activations{observer=minmax}")
    seen: list[Tensor] = []
    quantized = apply(net(), EIGHT)[0]
    trace = {n.output.name: n.inputs[0] for n in quantized.main.nodes}
    wanted = [n.output.name for n in quantized.main.nodes if hasattr(n.op, "activations")]
    for name in wanted:
        values = []
        for (x,) in calls()["main"]:
            known = {quantized.main.inputs[0].name: x}
            Interpreter(quantized).run([x], trace=partial(_remember, known))
            values.append(known[str(trace[name])].reshape(-1))
        seen.append(torch.cat(values))
    for op, x in zip(layers(after), seen, strict=True):
        low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
        assert (op.x_scale, op.x_zero) == scale_and_zero(low, high)


@pytest.mark.parametrize("observer", ["minmax", "percentile", "entropy", "mse"])
def test_the_artifact_computes_what_the_graph_says(observer: str, tmp_path: Path) -> None:
    spec = f"quantize-activations{{observer={observer}}}"
    after, _record = apply(net(), EIGHT, spec)
    Onnx().emit(Onnx().legalize(after), tmp_path)
    (x,) = calls(1)["main"][0]
    (got,) = Onnx.load(tmp_path).run("main", [x])
    (want,) = Interpreter(after).run([x])
    (plain,) = Interpreter(net()).run([x])
    top = float(want.abs().max())
    assert float((got - want).abs().max()) <= 1e-3 * top  # a code of 256 may fall the other way
    assert 0 < float((want - plain).abs().max()) <= 0.05 * top


def test_text_and_file_form_keep_every_scale(tmp_path: Path) -> None:
    after, _ = apply(net(), EIGHT, "quantize-activations")
    again = parse_program(show_program(after), after.constants)
    assert again.main.nodes == after.main.nodes
    after.save(tmp_path)
    assert Program.load(tmp_path).main.nodes == after.main.nodes
    spec = "quantize-activations{observer=percentile,percent=99.9,skip=['*.weight']}"
    assert str(parse_pass(spec)) == spec.replace("'", "").replace("*.weight", "'*.weight'")


def test_what_is_not_eight_bits_is_left() -> None:
    after, record = apply(net(), "quantize-weights{bits=4,min_numel=1}", "quantize-activations")
    assert not record.modified
    assert record.notes == ("nothing to do: no layer with 8-bit weights and inputs to observe",)
    assert {op.activations for op in layers(after)} == {"none"}


def test_patterns_choose_layers() -> None:
    after, record = apply(net(), EIGHT, "quantize-activations{include=['deep.*'],skip=['typo']}")
    assert [op.activations for op in layers(after)] == ["none", "static", "none"]
    assert record.notes == ("pattern 'typo' matches no constant",)


def test_layers_that_quantize_already_are_told() -> None:
    dynamic = "quantize-weights{bits=8,min_numel=1,activations=dynamic}"
    _after, record = apply(net(), dynamic, "quantize-activations")
    assert not record.modified and len(record.notes) == 4
    assert "activations=dynamic already; left" in record.notes[0]
    again, record = apply(net(), EIGHT, "quantize-activations", dynamic)
    assert [op.activations for op in layers(again)] == ["static"] * 3


def test_inputs_that_are_not_finite_are_left() -> None:
    program = net()
    weight = program.constants["first.bias"]
    huge = torch.full_like(weight.encoding.decode(), torch.inf)
    program.constants["first.bias"] = Constant("first.bias", Dense(huge))
    after, record = apply(program, EIGHT, "quantize-activations")
    assert [op.activations for op in layers(after)] == ["static", "none", "none"]
    assert sum("NaN or infinite inputs; left" in note for note in record.notes) == 2


@pytest.mark.parametrize("value", [0.0, 3.0, -1e-30])
def test_inputs_of_one_value(value: float, tmp_path: Path) -> None:
    data = {"main": [[torch.full((2, 3, 8, 8), value)]]}
    after, _ = apply(net(), EIGHT, "quantize-activations", data=data)
    assert {op.activations for op in layers(after)} == {"static"}
    Onnx().emit(Onnx().legalize(after), tmp_path)
    (got,) = Onnx.load(tmp_path).run("main", data["main"][0])
    (want,) = Interpreter(net()).run(data["main"][0])
    assert float((got - want).abs().max()) <= 0.02 * float(want.abs().max())


def test_inputs_that_are_empty_in_all_calls() -> None:
    program = classifier()
    graph = program.main
    graph.dims["batch"] = replace(graph.dims["batch"], min=0)
    data = {"main": [[torch.zeros(0, 64)]]}
    _, record = apply(program, EIGHT, "quantize-activations", data=data)
    assert not record.modified
    assert "its inputs are empty in all calls; left" in record.notes[0]


def test_functions_without_data_are_told() -> None:
    data = {"encode": [[torch.zeros(2, 3, dtype=torch.int64)]]}
    _, record = apply(decoder(), EIGHT, "quantize-activations", data=data)
    assert record.notes[0] == "step: no calibration data; 1 layers left"


def test_no_data_at_all_is_refused() -> None:
    program, _ = apply(net(), EIGHT)
    with pytest.raises(PassError, match=r"\[calibration\] got no data"):
        parse_pipeline(["quantize-activations"]).run(program)
    with pytest.raises(PassError, match="no calibration data; need inputs of the model"):
        QuantizeActivations().apply(program, Context())


@pytest.mark.parametrize("options", ["percent=50", "percent=101", "percent=nan"])
def test_options_that_do_not_go(options: str) -> None:
    with pytest.raises(PassError, match="need 50 < percent <= 100"):
        parse_pass(f"quantize-activations{{{options}}}")
