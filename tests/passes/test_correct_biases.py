"""correct-biases: mean outputs on the calibration data are those of before, layer by layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import edgec
from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Constant, Dense, DType, Node, Program
from edgec.passes import CLEANUP, parse_pipeline
from edgec.targets.onnx import Onnx
from edgec.transform import PassRecord
from tests.programs import decoder

EQUAL = "correct-biases{rows=equal}"
COARSE = "quantize-weights{bits=3,min_numel=1,scales=absmax}"


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Net(nn.Module):
    """The second convolution has no bias, the last layer one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3)
        self.deep = nn.Conv2d(8, 8, 3, groups=8, bias=False)
        self.last = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.deep(torch.relu(self.first(x))))
        return self.last(x.mean((2, 3)))


def net() -> Program:
    program = edgec.capture(Net().eval(), (randn(4, 3, 9, 9),))
    return parse_pipeline(CLEANUP).run(program)[0]


def calls() -> dict[str, list[list[Tensor]]]:
    return {"main": [[randn(4, 3, 9, 9, seed=i) + 0.5] for i in range(6)]}


def apply(given: Program, *specs: str) -> tuple[Program, list[PassRecord]]:
    return parse_pipeline(specs).run(given, calibration=calls())


def means(program: Program) -> list[Tensor]:
    """Mean output of each layer over the calibration data, by the interpreter's own trace."""
    found: dict[str, list[Tensor]] = {}

    def keep(node: Node, made: tuple[Tensor, ...]) -> None:
        if node.op.name in ("conv", "linear"):
            axes = (0, 2, 3) if node.op.name == "conv" else (0,)
            found.setdefault(node.output.name, []).append(made[0].double().mean(axes))

    for inputs in calls()["main"]:
        Interpreter(program).run(inputs, trace=keep)
    return [torch.stack(values).mean(0) for values in found.values()]


def off(made: Program, wanted: Program) -> list[float]:
    pairs = zip(means(made), means(wanted), strict=True)
    return [float((a - b).abs().max()) for a, b in pairs]


def test_every_layer_keeps_its_mean_outputs(tmp_path: Path) -> None:
    given = net()
    rounded, _ = apply(given, COARSE)
    made, records = apply(given, COARSE, EQUAL)
    assert min(off(rounded, given)) > 1e-3
    assert max(off(made, given)) < 1e-6
    assert records[-1].modified and not records[-1].notes
    assert made.nbytes == rounded.nbytes + 8 * 4  # the new bias
    Onnx().emit(Onnx().legalize(made), tmp_path)
    (x,) = calls()["main"][0]
    (got,), (want,) = Onnx.load(tmp_path).run("main", [x]), Interpreter(made).run([x])
    assert float((got - want).abs().max()) <= 1e-5 * float(want.abs().max())


def test_rounded_activations_are_corrected_too() -> None:
    given = net()
    specs = ("quantize-weights{bits=8,min_numel=1}", "quantize-activations{observer=percentile}")
    rounded, _ = apply(given, *specs)
    made, _ = apply(given, *specs, EQUAL)
    assert max(off(made, given)) < 1e-6 < max(off(rounded, given))


class Loud(nn.Module):
    """A layer whose outputs are a hundred times as great for inputs of one kind."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def loud_calls() -> dict[str, list[list[Tensor]]]:
    """Eight rows each, of which the first is loud: it is clipped, the others are not."""
    loud = torch.tensor([100.0, *[1.0] * 7]).unsqueeze(1)
    return {"main": [[(randn(8, 16, seed=i) + 1) * loud] for i in range(9)]}


def test_a_few_loud_rows_do_not_decide_for_all_others() -> None:
    data = loud_calls()
    given = edgec.capture(Loud().eval(), (data["main"][0][0],))
    static = (
        "quantize-weights{bits=8,min_numel=1}",
        "quantize-activations{observer=percentile,percent=90}",
    )

    def quiet(*specs: str) -> float:
        """Mean squared error of the quiet rows."""
        made, _ = parse_pipeline(specs).run(given, calibration=data)
        pairs = ([Interpreter(p).run(x)[0][1:] for x in data["main"]] for p in (made, given))
        return float((torch.cat(next(pairs)) - torch.cat(next(pairs))).square().mean())

    equal, relative = (quiet(*static, f"correct-biases{{rows={r}}}") for r in ("equal", "relative"))
    assert relative < quiet(*static) < equal / 10


def test_relative_rows_are_least_squares_of_relative_errors() -> None:
    data = loud_calls()
    given = edgec.capture(Loud().eval(), (data["main"][0][0],))
    made, _ = parse_pipeline([COARSE, "correct-biases{rows=relative}"]).run(given, calibration=data)
    outputs = ([Interpreter(p).run(x)[0].double() for x in data["main"]] for p in (made, given))
    got, want = map(torch.cat, outputs)
    power = want.square().sum(1, keepdim=True)
    weights = 1 / power.clamp_min(0.01 * float(power.mean()))
    gradient = (weights * (got - want)).sum(0) / weights.sum()
    assert float(gradient.abs().max()) < 1e-5 * float(want.abs().mean())


def test_what_is_to_be_kept_is_what_equalized_layers_give() -> None:
    given = net()
    equal, records = apply(given, "equalize-layers")
    assert records[-1].modified
    made, _ = apply(given, "equalize-layers", COARSE, EQUAL)
    assert max(off(made, equal)) < 1e-6
    assert max(off(made, given)) > 1e-3  # of other scales
    last = (means(p)[-1] for p in (made, given))
    torch.testing.assert_close(*last, rtol=0, atol=1e-5)


def test_again_there_is_nothing_to_do() -> None:
    _, records = apply(net(), COARSE, "correct-biases", "correct-biases{skip=['*']}")
    assert not records[-1].modified
    assert records[-1].notes[-1].startswith("nothing to do: no mean output")
    _, records = apply(net(), "correct-biases")
    assert not records[-1].modified


def test_biases_that_cannot_change_are_told() -> None:
    given = net()
    bias = given.constants["first.bias"]
    stored = Dense(bias.encoding.decode().half(), DType.F32)
    given.constants["first.bias"] = Constant("first.bias", stored)
    made, records = apply(given, COARSE, EQUAL)
    assert records[-1].notes == ("%conv: bias @first.bias is not stored as f32; left",)
    assert max(off(made, given)[1:]) < 1e-6


def test_outputs_that_are_not_finite_are_left() -> None:
    given = net()
    huge = torch.full_like(given.constants["first.bias"].encoding.decode(), torch.inf)
    given.constants["first.bias"] = Constant("first.bias", Dense(huge))
    _, records = apply(given, COARSE, "correct-biases")
    assert sum("NaN or infinite outputs; left" in n for n in records[-1].notes) == 3


def test_functions_with_shared_weights() -> None:
    data = {"step": [[torch.ones(2, 1, dtype=torch.int64), randn(2, 3, 32), randn(2, 4, 32)]]}
    specs = (COARSE, EQUAL)
    made, records = parse_pipeline(specs).run(decoder(), calibration=data)
    assert records[-1].modified
    wanted, got = (Interpreter(p).run(data["step"][0], "step")[0] for p in (decoder(), made))
    torch.testing.assert_close(got.mean(0), wanted.mean(0), rtol=0, atol=1e-4)


def test_no_data_is_refused() -> None:
    with pytest.raises(PassError, match="no data"):
        parse_pipeline(["correct-biases"]).run(net())
