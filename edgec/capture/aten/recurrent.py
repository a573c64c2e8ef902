"""Recurrent layers and cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgec.capture.call import Call
from edgec.capture.registry import aten, rule
from edgec.ir import dims
from edgec.ir.graph import Value


def _layer(
    c: Call,
    op: str,
    x: Value,
    states: Sequence[Value],
    weights: Sequence[Value],
    bias: bool,
    layers: int,
    bidirectional: bool,
    batch_first: bool,
    **extra: Any,
) -> tuple[Value, ...]:
    each = (4 if bias else 2) * layers * (2 if bidirectional else 1)
    if len(weights) != each:
        c.fail("projections (proj_size); need a layer without, followed by nn.Linear")
    hidden = c.require_static(states[0].type.shape[-1], "the hidden size")
    made = getattr(c.b, op)(
        x,
        *states,
        *weights,
        hidden=hidden,
        layers=layers,
        bidirectional=bidirectional,
        bias=bias,
        batch_first=batch_first,
        **extra,
    )
    return tuple(made)


# ------------------------------------------------------------------ our own operators
@rule("edgec.lstm.default")
def own_lstm(
    c: Call,
    x: Value,
    h: Value,
    cell: Value,
    weights: Sequence[Value],
    layers: int,
    bidirectional: bool,
    bias: bool,
    batch_first: bool,
) -> tuple[Value, ...]:
    return _layer(c, "lstm", x, [h, cell], weights, bias, layers, bidirectional, batch_first)


@rule("edgec.gru.default")
def own_gru(
    c: Call,
    x: Value,
    h: Value,
    weights: Sequence[Value],
    layers: int,
    bidirectional: bool,
    bias: bool,
    batch_first: bool,
) -> tuple[Value, ...]:
    return _layer(c, "gru", x, [h], weights, bias, layers, bidirectional, batch_first)


@rule("edgec.rnn.default")
def own_rnn(
    c: Call,
    x: Value,
    h: Value,
    weights: Sequence[Value],
    layers: int,
    bidirectional: bool,
    bias: bool,
    batch_first: bool,
    activation: str,
) -> tuple[Value, ...]:
    return _layer(
        c, "rnn", x, [h], weights, bias, layers, bidirectional, batch_first, activation=activation
    )


# ------------------------------------------------------------------ torch's, exported elsewhere
@aten("lstm.input")
def lstm(
    c: Call,
    x: Value,
    states: Sequence[Value],
    weights: Sequence[Value],
    bias: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Value, ...]:
    return _layer(c, "lstm", x, states, weights, bias, layers, bidirectional, batch_first)


@aten("gru.input", "rnn_tanh.input", "rnn_relu.input")
def one_state(
    c: Call,
    x: Value,
    h: Value,
    weights: Sequence[Value],
    bias: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Value, ...]:
    op, _, activation = c.overload.split(".")[1].partition("_")
    extra = {"activation": activation} if activation else {}
    return _layer(c, op, x, [h], weights, bias, layers, bidirectional, batch_first, **extra)


# ------------------------------------------------------------------ cells
def _gates(c: Call, value: Value, count: int) -> list[Value]:
    """[B, count H] -> count times [B, H]."""
    size = dims.floordiv(value.type.shape[-1], count)
    return [
        c.slice(value, -1, dims.normal(i * size), dims.normal((i + 1) * size)) for i in range(count)
    ]


@aten("lstm_cell")
def lstm_cell(
    c: Call,
    x: Value,
    states: Sequence[Value],
    w_ih: Value,
    w_hh: Value,
    b_ih: Value | None,
    b_hh: Value | None,
) -> tuple[Value, Value]:
    """Gates in the order input, forget, cell, output."""
    h, cell = states
    total = c.b.add(c.b.linear(x, w_ih, b_ih), c.b.linear(h, w_hh, b_hh))
    i, f, g, o = _gates(c, total, 4)
    kept = c.b.mul(c.b.sigmoid(f), cell)
    cell = c.b.add(kept, c.b.mul(c.b.sigmoid(i), c.b.tanh(g)))
    return c.b.mul(c.b.sigmoid(o), c.b.tanh(cell)), cell


@aten("gru_cell")
def gru_cell(
    c: Call,
    x: Value,
    h: Value,
    w_ih: Value,
    w_hh: Value,
    b_ih: Value | None,
    b_hh: Value | None,
) -> Value:
    """n + z (h - n),   n = tanh(n_x + r n_h)."""
    r, z, n = _gates(c, c.b.linear(x, w_ih, b_ih), 3)
    r_h, z_h, n_h = _gates(c, c.b.linear(h, w_hh, b_hh), 3)
    update = c.b.sigmoid(c.b.add(z, z_h))
    fresh = c.b.tanh(c.b.add(n, c.b.mul(c.b.sigmoid(c.b.add(r, r_h)), n_h)))
    return c.value(c.b.add(fresh, c.b.mul(update, c.b.sub(h, fresh))))


@aten("rnn_tanh_cell", "rnn_relu_cell")
def rnn_cell(
    c: Call,
    x: Value,
    h: Value,
    w_ih: Value,
    w_hh: Value,
    b_ih: Value | None,
    b_hh: Value | None,
) -> Value:
    total = c.b.add(c.b.linear(x, w_ih, b_ih), c.b.linear(h, w_hh, b_hh))
    return c.value(c.b.tanh(total) if "tanh" in c.overload else c.b.relu(total))
