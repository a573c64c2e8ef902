"""Recurrent layers: one node each, with a dynamic number of steps, the module left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.export import Dim

import edgec
from edgec.capture.recurrent import symbolic_time
from edgec.errors import CaptureError
from tests.capture.harness import assert_equal, check_family, resized

B, T = Dim("b", min=1, max=32), Dim("t", min=1, max=500)
KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@pytest.mark.parametrize("kind", KINDS)
def test_layers_take_any_number_of_steps(kind: str) -> None:
    torch.manual_seed(0)
    make = KINDS[kind]
    parts = {
        "plain": make(6, 5),
        "batch_first": make(6, 5, batch_first=True),
        "deep": make(6, 5, num_layers=2, bidirectional=True, batch_first=True),
        "no_bias": make(6, 5, bias=False),
    }
    cases = {
        "plain": lambda t: t.plain(t.x),
        "batch_first": lambda t: t.batch_first(t.x)[0],
        "deep": lambda t: t.deep(t.x),
        "no_bias": lambda t: t.no_bias(t.x)[0],
        "single": lambda t: t.batch_first(t.x[0]),
        "again": lambda t: t.batch_first(t.x * 2)[0],
    }
    program = check_family(cases, {"x": torch.randn(3, 7, 6)}, {"x": {0: B, 1: T}}, parts)
    assert {n.op.name for n in program.main.nodes} >= {kind}
    assert str(program.main.dims["t"]) == "Range(min=1, max=500)"


def test_given_states_and_relu() -> None:
    torch.manual_seed(0)
    parts = {
        "lstm": nn.LSTM(6, 5, batch_first=True, num_layers=2),
        "gru": nn.GRU(6, 5, batch_first=True),
        "rnn": nn.RNN(6, 5, nonlinearity="relu", batch_first=True),
    }
    tensors = {
        "x": torch.randn(3, 7, 6),
        "h": torch.randn(2, 3, 5),
        "c": torch.randn(2, 3, 5),
        "g": torch.randn(1, 3, 5),
    }
    cases = {
        "lstm": lambda t: t.lstm(t.x, (t.h, t.c)),
        "gru": lambda t: t.gru(t.x, t.g),
        "rnn": lambda t: t.rnn(t.x, hx=t.g),
    }
    shapes = {"x": {0: B, 1: T}, "h": {1: B}, "c": {1: B}, "g": {1: B}}
    check_family(cases, tensors, shapes, parts)


def test_cells() -> None:
    torch.manual_seed(0)
    parts = {"lstm": nn.LSTMCell(6, 5), "gru": nn.GRUCell(6, 5), "rnn": nn.RNNCell(6, 5)}
    tensors = {"x": torch.randn(3, 6), "h": torch.randn(3, 5), "c": torch.randn(3, 5)}
    cases = {
        "lstm": lambda t: t.lstm(t.x, (t.h, t.c)),
        "gru": lambda t: t.gru(t.x, t.h),
        "rnn": lambda t: t.rnn(t.x, t.h),
        "rnn_start": lambda t: t.rnn(t.x),
    }
    check_family(cases, tensors, {"x": {0: B}, "h": {0: B}, "c": {0: B}}, parts)


def test_the_module_is_left_as_it_was() -> None:
    layer = nn.LSTM(3, 4, batch_first=True)
    module = nn.Sequential(layer, nn.Identity()).train()
    state = dict(module.state_dict())
    with symbolic_time(module):
        assert "forward" in vars(layer)
    assert "forward" not in vars(layer)
    with pytest.raises(CaptureError):
        edgec.capture(module, (torch.randn(2, 5, 4),))  # a wrong width: export fails
    assert "forward" not in vars(layer) and module.training and layer.training
    assert all(p.requires_grad for p in module.parameters())
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


def test_a_layer_that_is_exported_elsewhere_keeps_its_static_steps() -> None:
    class Direct(Tagger):
        def forward(self, x):
            zeros = x.new_zeros(1, x.shape[0], 3)
            weights = [w for w in self.lstm._flat_weights if w is not None]
            return torch.lstm(x, (zeros, zeros), weights, True, 1, 0.0, False, False, True)[0]

    torch.manual_seed(0)
    module, inputs = Direct().eval(), (torch.randn(2, 5, 4),)
    program = edgec.capture(module, inputs, ({0: B},))
    assert [n.op.name for n in program.main.nodes].count("lstm") == 1
    assert_equal(program, module, inputs)
    assert_equal(program, module, resized(module, inputs, ({0: B},)))


def test_projections_are_refused_with_the_reason() -> None:
    with pytest.raises(CaptureError, match="proj_size"):
        edgec.capture(nn.LSTM(4, 6, proj_size=3, batch_first=True), (torch.randn(2, 5, 4),))
