"""equalize-layers: equal ranges on both sides, the same function, and only where both hold."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from torch import Tensor, nn

import edgec
from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Program
from edgec.passes import CLEANUP, parse_pass, parse_pipeline
from edgec.passes.numerics.equalization import equalization, reads, scaled_inputs, writes
from edgec.targets.onnx import Onnx
from edgec.transform import PassRecord


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def captured(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> Program:
    torch.manual_seed(0)
    net = make().eval()
    for module in net.modules():  # channels of very different ranges
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data = torch.rand(module.num_features) * 3 + 0.05
            module.running_var = torch.rand(module.num_features) * 4 + 0.1
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.weight.data *= torch.rand(len(module.weight), *[1] * (module.weight.dim() - 1))
    return parse_pipeline(CLEANUP).run(edgec.capture(net, (randn(*shape),)))[0]


def apply(given: Program, *specs: str) -> tuple[Program, PassRecord]:
    data = {"main": [[randn(*map(int, given.main.inputs[0].type.shape), seed=i)] for i in range(4)]}
    made, records = parse_pipeline(specs or ("equalize-layers",)).run(given, calibration=data)
    return made, records[-1]


def ratio(program: Program, first: str, second: str, groups: int = 1) -> float:
    """Greatest r1 / r2 or r2 / r1 of a channel between two weights."""
    w, v = (program.constants[n].encoding.decode() for n in (first, second))
    logs = (writes(w) / reads(v, groups)).log().abs()
    return float(logs.max().exp())


def deviation(made: Program, given: Program) -> float:
    x = randn(*map(int, given.main.inputs[0].type.shape), seed=7)
    (a,), (b,) = Interpreter(made).run([x]), Interpreter(given).run([x])
    return float((a - b).abs().max() / b.abs().max())


def mobile() -> nn.Module:
    """Convolutions with batch norm, a depthwise one between, then pooling and a linear layer."""
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    layers += [nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.1)]
    layers += [nn.Conv2d(8, 12, 1), nn.PReLU(12), nn.MaxPool2d(2), nn.ZeroPad2d(1)]
    layers += [nn.Conv2d(12, 6, 3, groups=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(6, 4))


def weights(program: Program) -> list[tuple[str, int]]:
    """Weight and groups of each layer in order."""
    layers = [n for n in program.main.nodes if n.op.name in ("conv", "linear")]
    return [(str(n.inputs[1])[1:], getattr(n.op, "groups", 1)) for n in layers]


# ------------------------------------------------------------------ numerics
positive = st.floats(0.001953125, 512, width=32)


@hypothesis.given(st.lists(st.tuples(positive, positive), min_size=1, max_size=9))
def test_ranges_are_equal_behind_it(pairs: list[tuple[float, float]]) -> None:
    r1, r2 = torch.tensor(pairs).double().T
    s = equalization(r1, r2)
    torch.testing.assert_close(s, (r1 * r2).sqrt() / r2)  # eq. 11
    torch.testing.assert_close(r1 / s, r2 * s)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_input_channels_of_convolutions_in_groups(groups: int) -> None:
    v, x, s = randn(8, 4 // groups, 3, 3), randn(2, 4, 5, 5, seed=1), torch.rand(4) + 0.5
    wanted = nn.functional.conv2d(x * s.view(1, -1, 1, 1), v, groups=groups)
    made = nn.functional.conv2d(x, scaled_inputs(v, groups, s), groups=groups)
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-5)
    for channel in range(4):  # what is read of a channel: its response to single pixels
        pixels = torch.zeros(9, 4, 9)
        pixels[:, channel] = torch.eye(9)
        response = nn.functional.conv2d(pixels.view(9, 4, 3, 3), v, groups=groups)
        assert float(reads(v, groups)[channel]) == float(response.abs().max())


# ------------------------------------------------------------------ the pass
def test_all_pairs_of_a_chain_are_equalized(tmp_path: Path) -> None:
    given = captured(mobile, (2, 3, 16, 16))
    names = weights(given)
    before = [ratio(given, a, b, g) for (a, _), (b, g) in itertools.pairwise(names)]
    made, record = apply(given)
    after = [ratio(made, a, b, g) for (a, _), (b, g) in itertools.pairwise(names)]
    assert record.modified and min(before) > 1.3 and max(after) < 1.01
    assert deviation(made, given) < 1e-5
    assert [n.op for n in made.main.nodes] == [n.op for n in given.main.nodes]
    again, record = apply(made, "equalize-layers{rounds=1}")
    assert deviation(again, given) < 1e-5


def test_linear_layers_and_ranges_of_the_activations() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 24), nn.Linear(24, 5))

    given = captured(make, (3, 16))
    made, _ = apply(given)
    names = [n for n, _ in weights(given)]
    assert max(ratio(made, a, b) for a, b in itertools.pairwise(names)) < 1.01
    assert deviation(made, given) < 1e-5


def test_quantized_it_computes_the_same_as_onnx(tmp_path: Path) -> None:
    given = captured(mobile, (2, 3, 16, 16))
    specs = ("equalize-layers", "quantize-weights{bits=8}", "quantize-activations")
    made, _ = apply(given, *specs)
    Onnx().emit(Onnx().legalize(made), tmp_path)
    x = randn(2, 3, 16, 16, seed=8)
    (got,), (want,) = Onnx.load(tmp_path).run("main", [x]), Interpreter(made).run([x])
    assert float((got - want).abs().max()) <= 5e-3 * float(want.abs().max())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.relu(self.first(x))
        return y + self.second(y)


BETWEEN: dict[str, Callable[[], nn.Module]] = {
    "gelu": lambda: nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8)),
    "sigmoid": lambda: nn.Sequential(nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 8)),
    "softmax": lambda: nn.Sequential(nn.Linear(8, 8), nn.Softmax(-1), nn.Linear(8, 8)),
    "layer norm": lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8)),
    "two readers": Residual,
}


@pytest.mark.parametrize("name", BETWEEN)
def test_what_does_not_scale_is_left(name: str) -> None:
    _, record = apply(captured(BETWEEN[name], (3, 8)))
    assert not record.modified
    assert record.notes == ("nothing to do: no two layers whose channels differ in range",)


def test_a_clamp_is_told() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU6(), nn.Conv2d(8, 4, 3))

    _, record = apply(captured(make, (1, 3, 8, 8)))
    assert not record.modified and record.notes[0].endswith("a clamp between two layers; left")


def test_pixels_that_the_channels_are_flattened_with_are_no_channels() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))

    assert not apply(captured(make, (1, 3, 8, 8)))[1].modified


def test_codes_and_patterns_are_left() -> None:
    given = captured(mobile, (2, 3, 16, 16))
    _, record = apply(given, "quantize-weights{bits=8,min_numel=1}", "equalize-layers")
    assert not record.modified
    _made, record = apply(given, f"equalize-layers{{include=['{weights(given)[0][0]}']}}")
    assert not record.modified


def test_channels_of_zeros_stay() -> None:
    def make() -> nn.Module:
        first, second = nn.Linear(8, 8), nn.Linear(8, 8)
        first.weight.data[3] = 0
        second.weight.data[:, 5] = 0
        return nn.Sequential(first, nn.ReLU(), second)

    given = captured(make, (3, 8))
    made, _ = apply(given)
    assert deviation(made, given) < 1e-5


def test_options_that_do_not_go() -> None:
    with pytest.raises(PassError, match="need rounds >= 1"):
        parse_pass("equalize-layers{rounds=0}")
