"""mixed-precision: within its limit, better than one form for all, and clear about what it did."""

from __future__ import annotations

import pytest
import torch

from edgec.capture import capture
from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Affine, Builder, DType, Program, TensorType
from edgec.passes import parse_pass, parse_pipeline
from edgec.targets.onnx import Onnx

MENU = 'menu=["quantize-weights{bits=2}","quantize-weights{bits=4}","quantize-weights{bits=8}"]'


class Uneven(torch.nn.Module):
    """The output depends on `loud` a hundred times as much as on `quiet`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.loud, self.quiet = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.loud(x) + 0.01 * self.quiet(x)


@pytest.fixture(name="program")
def made() -> Program:
    return capture(Uneven(), (torch.zeros(4, 64),))


@pytest.fixture(name="data")
def calls() -> dict[str, list[list[torch.Tensor]]]:
    generator = torch.Generator().manual_seed(1)
    return {"main": [[torch.randn(4, 64, generator=generator)] for _ in range(16)]}


def bits(program: Program, name: str) -> int:
    stored = program.constants[f"{name}.weight"].encoding
    assert isinstance(stored, Affine)
    return stored.bits


@pytest.mark.parametrize("sensitivity", ["predicted", "measured"])
def test_what_matters_gets_the_bits(program, data, sensitivity):
    spec = f"mixed-precision{{{MENU},ratio=0.19,sensitivity={sensitivity}}}"
    after, (record,) = parse_pipeline([spec]).run(program, calibration=data)
    assert after.nbytes <= 0.19 * program.nbytes
    assert (bits(after, "loud"), bits(after, "quiet")) == (8, 2)
    assert any("2 weights" in n or "1 weights" in n for n in record.notes)
    even, _ = parse_pipeline(["quantize-weights{bits=4}"]).run(program)
    lost, lost_even = (error(p, program, data) for p in (after, even))
    assert lost < lost_even / 50


def error(after: Program, before: Program, data) -> float:
    pairs = [(Interpreter(p).run(x)[0] for p in (after, before)) for x in data["main"]]
    return sum(float((g - w).square().sum()) for g, w in pairs)


def test_everything_fits(program, data):
    spec = f'mixed-precision{{{MENU},size="1MB"}}'
    after, (record,) = parse_pipeline([spec]).run(program, calibration=data)
    assert not record.modified and after.nbytes == program.nbytes
    assert "nothing to do: everything fits as it is" in record.notes


def test_what_is_left_dense_stays_so(program, data):
    spec = f"mixed-precision{{{MENU},ratio=0.7,include=[loud*]}}".replace("loud*", '"loud*"')
    after, _ = parse_pipeline([spec]).run(program, calibration=data)
    assert after.constants["quiet.weight"] is program.constants["quiet.weight"]
    assert bits(after, "loud") == 8


def test_limits_that_cannot_be_met(program, data):
    with pytest.raises(PassError, match=r"limit of 100 bytes.*need at least \d+.*widen the menu"):
        parse_pipeline([f'mixed-precision{{{MENU},size="100"}}']).run(program, calibration=data)


def test_ratio_is_of_the_program_before_all_passes(program, data):
    first = "cast-weights"
    spec = f"mixed-precision{{{MENU},ratio=0.3}}"
    after, _ = parse_pipeline([first, spec]).run(program, calibration=data)
    assert 0.15 * program.nbytes < after.nbytes <= 0.3 * program.nbytes


def test_emitted(program, data, tmp_path):
    spec = f"mixed-precision{{{MENU},ratio=0.19}}"
    after, _ = parse_pipeline([spec]).run(program, calibration=data)
    target = Onnx()
    target.emit(target.legalize(after), tmp_path)
    got = Onnx.load(tmp_path).run("main", data["main"][0])[0]
    torch.testing.assert_close(got, Interpreter(after).run(data["main"][0])[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixed-precision{menu=[],ratio=1.5}", r"menu=\[\], need passes; ratio=1.5, need 0 < rat"),
        (f'mixed-precision{{{MENU},size="many"}}', "many"),
        ('mixed-precision{size="1MB",ratio=0.5}', "ratio=0.5 and size=1MB, need one of them"),
        (f"mixed-precision{{{MENU},ratio=0.5,calls=0,draws=0}}", "calls=0.*draws=0"),
        ('mixed-precision{menu=["fuse"],ratio=0.5}', "fuse, need passes that treat weights"),
        ('mixed-precision{menu=["gptq{bit=3}"],ratio=0.5}', "unknown bit"),
    ],
)
def test_mistakes(text, message):
    with pytest.raises(PassError, match=message):
        parse_pass(text)


def test_text():
    spec = f"mixed-precision{{{MENU},ratio=0.19}}"
    assert parse_pass(str(parse_pass(spec))) == parse_pass(spec)


def test_passes_that_change_the_graph_are_refused(program, data):
    spec = 'mixed-precision{menu=["awq{otherwise=multiply,bits=3,scales=absmax}"],ratio=0.5}'
    uneven = {"main": [[x * torch.logspace(-2, 2, 64)] for (x,) in data["main"]]}
    with pytest.raises(PassError, match="changes the graph; need passes that only change how"):
        parse_pipeline([spec]).run(program, calibration=uneven)


def test_nothing_to_do(program, data):
    spec = 'mixed-precision{menu=["quantize-weights{min_numel=1000000}"],ratio=0.5}'
    _, (record,) = parse_pipeline([spec]).run(program, calibration=data)
    assert "nothing to do: no weight has another form" in record.notes
    assert "@loud.weight: 4096 weights; need 1000000 (min_numel); left dense" in record.notes


@pytest.mark.parametrize("sensitivity", ["predicted", "measured"])
def test_weights_that_no_output_on_the_data_depends_on_are_named(sensitivity):
    b = Builder.new("main", [("x", TensorType(DType.F32, (4, 64)))])
    weights = [torch.randn(64, 64, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    loud, silent = (b.constant(w, n) for w, n in zip(weights, ("loud", "silent"), strict=True))
    nothing = b.mul(b.linear(b.input("x"), silent, None), b.scalar(0.0, DType.F32))
    graph = b.finish([b.add(b.linear(b.input("x"), loud, None), nothing)], ["y"])
    program = Program({"main": graph}, graph.constants).verify()
    data = {"main": [[torch.randn(4, 64, generator=torch.Generator().manual_seed(9))]]}
    spec = f"mixed-precision{{{MENU},ratio=0.3,sensitivity={sensitivity}}}"
    _, (record,) = parse_pipeline([spec]).run(program, calibration=data)
    assert (
        "no form of @silent changes an output on the data: taken as losing nothing" in record.notes
    )
