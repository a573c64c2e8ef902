"""nn.LSTM, nn.GRU and nn.RNN as one operator each, with a symbolic time axis.

torch.export keeps these layers as one node as well, but its shape rule unrolls the steps and so
fixes their number. While a module is exported its recurrent layers therefore call operators of our
own, whose shape rule does not look at the number of steps.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

KINDS: tuple[type[nn.RNNBase], ...] = (nn.LSTM, nn.GRU, nn.RNN)


# ------------------------------------------------------------------ operators
@torch.library.custom_op("edgec::lstm", mutates_args=())
def lstm(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    weights: list[Tensor],
    layers: int,
    bidirectional: bool,
    bias: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    made = torch.lstm(x, (h, c), weights, bias, layers, 0.0, False, bidirectional, batch_first)
    y, h, c = (t.clone() for t in made)  # a custom operator must not return its arguments
    return y, h, c


@torch.library.custom_op("edgec::gru", mutates_args=())
def gru(
    x: Tensor,
    h: Tensor,
    weights: list[Tensor],
    layers: int,
    bidirectional: bool,
    bias: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    made = torch.gru(x, h, weights, bias, layers, 0.0, False, bidirectional, batch_first)
    y, h = (t.clone() for t in made)
    return y, h


@torch.library.custom_op("edgec::rnn", mutates_args=())
def rnn(
    x: Tensor,
    h: Tensor,
    weights: list[Tensor],
    layers: int,
    bidirectional: bool,
    bias: bool,
    batch_first: bool,
    activation: str,
) -> tuple[Tensor, Tensor]:
    run = torch.rnn_tanh if activation == "tanh" else torch.rnn_relu
    made = run(x, h, weights, bias, layers, 0.0, False, bidirectional, batch_first)
    y, h = (t.clone() for t in made)
    return y, h


def _sequence(x: Tensor, h: Tensor, bidirectional: bool) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], h.shape[2] * (2 if bidirectional else 1))


@lstm.register_fake
def _(
    x: Tensor, h: Tensor, c: Tensor, weights: Any, layers: int, bidirectional: bool, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _sequence(x, h, bidirectional), torch.empty_like(h), torch.empty_like(c)


@gru.register_fake
def _(
    x: Tensor, h: Tensor, weights: Any, layers: int, bidirectional: bool, *_: Any
) -> tuple[Tensor, Tensor]:
    return _sequence(x, h, bidirectional), torch.empty_like(h)


@rnn.register_fake
def _(
    x: Tensor, h: Tensor, weights: Any, layers: int, bidirectional: bool, *_: Any
) -> tuple[Tensor, Tensor]:
    return _sequence(x, h, bidirectional), torch.empty_like(h)


# ------------------------------------------------------------------ the layers for a while
@contextlib.contextmanager
def symbolic_time(module: nn.Module) -> Iterator[None]:
    """Within the block the recurrent layers inside of `module` call our operators.

    Layers with projections, and subclasses with a `forward` of their own, stay as they are.
    """
    layers = [
        m
        for m in module.modules()
        if isinstance(m, KINDS)
        and type(m).forward in [kind.forward for kind in KINDS]
        and m.proj_size == 0
        and "forward" not in vars(m)
    ]
    for layer in layers:
        layer.forward = functools.partial(_forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: nn.RNNBase, x: Any, state: Any = None, hx: Any = None) -> Any:
    """What the layer's own forward computes, by one operator."""
    if not isinstance(
        x, Tensor
    ):  # a packed sequence: lengths are values, which no graph can follow
        return type(layer).forward(layer, x, state if state is not None else hx)
    state = state if state is not None else hx
    single = x.dim() == 2
    if single:
        x = x.unsqueeze(0 if layer.batch_first else 1)
    states = _states(layer, x, state, single)
    options = [layer.num_layers, layer.bidirectional, layer.bias, layer.batch_first]
    weights = list(layer._flat_weights)
    if isinstance(layer, nn.LSTM):
        y, *ends = torch.ops.edgec.lstm(x, *states, weights, *options)
    elif isinstance(layer, nn.GRU):
        y, *ends = torch.ops.edgec.gru(x, *states, weights, *options)
    else:
        y, *ends = torch.ops.edgec.rnn(x, *states, weights, *options, layer.nonlinearity)
    if single:
        y = y.squeeze(0 if layer.batch_first else 1)
        ends = [t.squeeze(1) for t in ends]
    return y, tuple(ends) if isinstance(layer, nn.LSTM) else ends[0]


def _states(layer: nn.RNNBase, x: Tensor, state: Any, single: bool) -> list[Tensor]:
    """The initial states [layers * directions, B, H]: the given ones, or zeros."""
    count = 2 if isinstance(layer, nn.LSTM) else 1
    if state is None:
        batch = x.shape[0 if layer.batch_first else 1]
        rows = layer.num_layers * (2 if layer.bidirectional else 1)
        return [x.new_zeros(rows, batch, layer.hidden_size)] * count
    given = list(state) if isinstance(state, tuple | list) else [state]
    return [t.unsqueeze(1) for t in given] if single else given
