"""Losses of changed weights: the prediction against the definition, and against measurements."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from edgec.capture import capture
from edgec.interpreter import Interpreter
from edgec.ir import Program
from edgec.passes.sensitivity import Candidates, distance, measured, predicted, some_calls


class Logits(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.a, self.b = torch.nn.Linear(12, 16), torch.nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.b(torch.tanh(self.a(x)))


@pytest.fixture(name="program")
def made() -> Program:
    return capture(Logits(), (torch.zeros(4, 12),))


def calls(count: int) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(4, 12, generator=generator)] for _ in range(count)]


def small_changes(program: Program) -> Candidates:
    generator = torch.Generator().manual_seed(2)
    found = {}
    for name in ("a.weight", "b.weight"):
        w = program.constants[name].encoding.decode()
        noise = torch.randn(w.shape, generator=generator)
        changes = {"small": 0.002 * noise, "twice": 0.004 * noise, "none": 0 * noise}
        found[name] = {label: partial(torch.add, w, d) for label, d in changes.items()}
    return found


@pytest.mark.parametrize("loss", ["mse", "kl"])
def test_the_prediction_is_what_is_measured(program, loss):
    given, candidates = some_calls({"main": calls(60)}, 60), small_changes(program)
    want = measured(program, candidates, given, loss)
    got = predicted(program, candidates, given, loss, draws=20)
    for name, labels in want.items():
        assert got[name]["none"] == labels["none"] == 0
        for label in ("small", "twice"):  # 1200 draws: 4 % standard error
            assert got[name][label] == pytest.approx(labels[label], rel=0.2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", ["mse", "kl"])
def test_programs_of_sixteen_bits_are_predicted_as_in_thirty_two(dtype, loss):
    data = calls(12)
    found = []
    for program, given in (
        (capture(Logits().to(dtype), (torch.zeros(4, 12, dtype=dtype),)), dtype),
        (capture(Logits(), (torch.zeros(4, 12),)), torch.float32),
    ):
        candidates = {
            f"{n}.weight": {
                "less": partial(torch.mul, program.constants[f"{n}.weight"].encoding.decode(), 0.9)
            }
            for n in "ab"
        }
        some = some_calls({"main": [[x.to(given)] for (x,) in data]}, 12)
        found.append(predicted(program, candidates, some, loss, draws=40))
    for name, labels in found[1].items():
        assert found[0][name]["less"] == pytest.approx(labels["less"], rel=0.3)


def test_predictions_are_repeated_exactly(program):
    given, candidates = some_calls({"main": calls(5)}, 5), small_changes(program)
    first, second = (predicted(program, candidates, given, seed=4) for _ in range(2))
    assert first == second
    assert first != predicted(program, candidates, given, seed=5)


def test_loss_by_its_formula(program):
    (inputs,) = calls(1)
    candidates = {"b.weight": {"half": lambda: program.constants["b.weight"].encoding.decode() / 2}}
    before = Interpreter(program).run(inputs)[0].double()
    half = {"b.weight": candidates["b.weight"]["half"]()}
    after = Interpreter(program, constants=half).run(inputs)[0].double()
    mse = measured(program, candidates, some_calls({"main": [inputs]}, 1), "mse")
    assert mse["b.weight"]["half"] == pytest.approx(
        float((after - before).square().sum() / before.square().sum())
    )
    kl = measured(program, candidates, some_calls({"main": [inputs]}, 1), "kl")
    want = torch.nn.functional.kl_div(
        after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    assert kl["b.weight"]["half"] == pytest.approx(float(want))


def test_fillers_of_masks_do_not_count():
    want = [torch.tensor([1.0, -3.4e38])]
    assert distance([torch.tensor([2.0, -3.4e38])], want, [("mse", 1.0)]) == pytest.approx(1.0)


@pytest.mark.parametrize("loss", ["mse", "kl"])
@pytest.mark.parametrize("broken", [torch.nan, torch.inf, 2e30])
def test_outputs_that_are_broken_lose_more_than_any_other(loss, broken):
    want = [torch.tensor([1.0, 2.0, -3.4e38])]
    lost = distance([torch.tensor([1.0, broken, -3.4e38])], want, [(loss, 1.0)])
    assert lost > distance([torch.tensor([9.0, -9.0, -3.4e38])], want, [(loss, 1.0)])


def test_calls_are_spread():
    given = {"main": calls(10), "other": calls(2)}
    found = some_calls(given, 4)
    assert [c.function for c in found] == ["main"] * 4 + ["other"] * 2
    assert [c.share for c in found] == [0.25] * 4 + [0.5] * 2
    assert found[1].inputs is given["main"][2]


def test_an_output_that_is_zero_is_its_own_measure():
    """A net that says 0 on the data: changes of its last weights are absolute, not infinite."""
    net = Logits()
    torch.nn.init.zeros_(net.b.weight), torch.nn.init.zeros_(net.b.bias)
    program = capture(net, (torch.zeros(4, 12),))
    candidates = {"b.weight": {"some": lambda: torch.full((10, 16), 0.01)}}
    given = some_calls({"main": calls(8)}, 8)
    want = measured(program, candidates, given)["b.weight"]["some"]
    got = predicted(program, candidates, given, draws=200)["b.weight"]["some"]
    assert 0 < want < 1
    assert got == pytest.approx(want, rel=0.2)
