"""Fidelity: right artifacts pass, wrong ones fail and name the first wrong value."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import edgec
from edgec.compiler.emission import opener
from edgec.errors import ValidationError
from edgec.interpreter import Interpreter
from edgec.ir import Builder, Constant, Dense, DType, Program, Range, TensorType, symbol
from edgec.target import Executable
from edgec.validate import fidelity, make_cases
from edgec.validate.fidelity import ArtifactError, rollout
from tests.programs import classifier, decoder, embedder
from tests.reference_target import Reference, Running


def emitted(program: Program, folder: Path, spoil: str = "") -> Executable:
    Reference(spoil).emit(program, folder)
    return Reference.load(folder)


@pytest.mark.parametrize("make", [classifier, embedder, decoder])
def test_a_right_artifact_passes_at_every_size(make, tmp_path) -> None:
    program = make()
    found = fidelity(program, emitted(program, tmp_path), make_cases(program))
    assert found.passed
    assert found.first is None
    assert {c.function for c in found.checked} == set(program.graphs)
    labels = {c.label for c in found.checked}
    assert {"typical", "smallest", "largest"} <= labels
    assert ("rollout" in labels) == (make is decoder)
    assert found.max_ratio is not None and 0 < found.max_ratio < 1e-5


def test_a_wrong_weight_fails_and_is_named(tmp_path) -> None:
    program = classifier()
    wrong = emitted(program, tmp_path, spoil="layer1.weight")
    found = fidelity(program, wrong, make_cases(program))
    assert not found.passed
    assert found.first is not None
    assert found.first.value == "scores"
    assert "%scores: f32[batch, 10] = linear(%hidden, @layer1.weight, _)" in found.first.node
    assert found.first.local is True
    ratio = found.first.max_ratio
    assert ratio is not None and ratio > 100 * found.first.tolerance


def test_the_first_of_all_values_that_a_mistake_reaches_is_named(tmp_path) -> None:
    program = classifier()
    found = fidelity(program, emitted(program, tmp_path, spoil="layer0.bias"), make_cases(program))
    assert found.first is not None
    assert found.first.node.endswith("= linear(%x, @layer0.weight, @layer0.bias)")
    assert "first differing value" in str(found.first)


def test_an_artifact_without_inner_values_is_emitted_again(tmp_path) -> None:
    program, target = classifier(), Reference("layer0.bias", blind=True)
    target.emit(program, tmp_path)
    wrong = Reference.load(tmp_path)
    found = fidelity(program, wrong, make_cases(program), again=opener(target))
    assert found.first is not None
    assert found.first.node.endswith("= linear(%x, @layer0.weight, @layer0.bias)")
    assert found.first.local is True


@pytest.mark.parametrize("again", [None, opener(Reference(blind=True))], ids=["none", "right"])
def test_a_wrong_output_is_named_where_nothing_shows_more(again, tmp_path) -> None:
    """Without another emission, or with one that is right everywhere."""
    program = classifier()
    Reference("layer0.bias", blind=True).emit(program, tmp_path)
    found = fidelity(program, Reference.load(tmp_path), make_cases(program), again=again)
    assert found.first is not None
    assert found.first.value == "scores" and found.first.local is None


def test_a_change_far_below_one_percent_is_noticed(tmp_path) -> None:
    """What rounding cannot do: 3e-4 of one weight's row."""
    program = classifier()
    values = program.constants["layer1.weight"].encoding.decode().clone()
    values[3] *= 1 + 3e-4
    wrong = program.copy()
    wrong.constants["layer1.weight"] = Constant("layer1.weight", Dense(values))
    assert not fidelity(program, Running(wrong), make_cases(program)).passed


def test_the_users_own_inputs_are_executed_too(tmp_path) -> None:
    program = classifier()
    cases = make_cases(program, samples={"main": [[torch.ones(5, 64)], [torch.zeros(1, 64)]]})
    assert [c.setting.label for c in cases[:2]] == ["example", "example 2"]
    assert cases[0].setting.env == {"batch": 5}


def test_each_output_is_held_to_its_own_conditioning() -> None:
    """An ill-conditioned output does not widen the tolerance of another one."""

    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x.exp(), (x * 1e4 + 1e7) - 1e7

    program = edgec.capture(Two(), (torch.randn(4, 8),))
    case = make_cases(program)[0]
    well, ill = case.tolerances
    assert ill > 100 * well
    assert case.own_error > 1e-6


def test_expected_values_come_from_float64() -> None:
    program = classifier()
    case = make_cases(program)[0]
    exact = Interpreter(program, compute=torch.float64).run(case.inputs)[0]
    assert torch.equal(case.wants[0], exact.float())
    assert 0 < case.own_error < 1e-5


def test_states_are_rolled_out_from_the_start() -> None:
    program = decoder()
    interpreter = Interpreter(program)
    found = rollout(
        program.graphs, "step", {"batch": 2, "length": 3, "past": 9}, _run(interpreter), 0
    )
    assert found is not None
    inputs, env = found
    assert env == {"batch": 2, "length": 3, "past": 3}
    table = program.constants["table"].encoding.decode()
    rows = inputs[2].reshape(-1, table.shape[1])
    assert all(bool((table == row).all(-1).any()) for row in rows), (
        "the cache holds rows of the table"
    )


def _run(interpreter):
    return lambda function, inputs: interpreter.run(inputs, function)


def test_inputs_that_the_graph_cannot_take_are_told_as_such() -> None:
    ids = TensorType(DType.I64, (3,))
    b = Builder.new("main", [("ids", ids)])
    squared = b.mul(b.input("ids"), b.scalar(7, DType.I64))
    graph = b.finish([b.gather(b.constant(torch.zeros(4, 2), "table"), squared)], ["y"])
    program = Program({"main": graph}, graph.constants)
    with pytest.raises(ValidationError, match="give valid inputs as samples"):
        make_cases(program)


def test_an_artifact_that_does_not_run_is_told_as_such(tmp_path) -> None:
    program = classifier()
    cases = make_cases(program)

    class Broken(Running):
        def run(self, function, inputs):
            raise ValidationError("main", "kernel not found")

    with pytest.raises(ArtifactError, match="fails to run") as caught:
        fidelity(program, Broken(program), cases)
    assert caught.value.exit_code == 11


def test_a_range_that_the_graph_cannot_take_is_reduced_and_told() -> None:
    """32 positions are declared, the table has 10 rows."""
    length = symbol("length")
    b = Builder.new(
        "main", [("x", TensorType(DType.F32, (length, 4)))], {}, {"length": Range(1, 32)}
    )
    positions = b.gather(b.constant(torch.ones(10, 4), "positions"), b.iota(size=length))
    graph = b.finish([b.add(b.input("x"), positions)], ["y"])
    program = Program({"main": graph}, graph.constants)
    largest = make_cases(program)[-1].setting
    assert largest.env == {"length": 8}
    assert largest.reduced
    assert "the graph itself fails at {'length': 16}" in largest.note
