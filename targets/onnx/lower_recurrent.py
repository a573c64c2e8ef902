"""Lowering of edgec.ops.recurrent: one LSTM, GRU or RNN node per layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgec.ir import Node
from edgec.ops.recurrent import Gru, Lstm, Recurrent, Rnn
from edgec.targets.onnx.lowering import lowers
from edgec.targets.onnx.writer import Name, Writer

# position in torch's rows of each gate in ONNX's order
IOFC = (0, 3, 1, 2)  # torch: i f g o
ZRH = (1, 0, 2)  # torch: r z n


@lowers("lstm")
def lstm(w: Writer, node: Node, x: Name, h: Name, c: Name, *weights: Name) -> tuple[Name, ...]:
    assert isinstance(node.op, Lstm)
    return _layers(w, node.op, "LSTM", x, (h, c), weights, IOFC)


@lowers("gru")
def gru(w: Writer, node: Node, x: Name, h: Name, *weights: Name) -> tuple[Name, ...]:
    assert isinstance(node.op, Gru)
    return _layers(w, node.op, "GRU", x, (h,), weights, ZRH, linear_before_reset=1)


@lowers("rnn")
def rnn(w: Writer, node: Node, x: Name, h: Name, *weights: Name) -> tuple[Name, ...]:
    op = node.op
    assert isinstance(op, Rnn)
    names = [op.activation.capitalize()] * op.directions
    return _layers(w, op, "RNN", x, (h,), weights, (0,), activations=names)


def _layers(
    w: Writer,
    op: Recurrent,
    kind: str,
    x: Name,
    states: Sequence[Name],
    weights: Sequence[Name],
    order: Sequence[int],
    **attributes: Any,
) -> tuple[Name, ...]:
    """The states are [layers * directions, B, H], the sequence is [T, B, E] inside."""
    n = op.directions
    x = w.transpose(x, (1, 0, 2)) if op.batch_first else x
    ends: list[tuple[Name, ...]] = []
    for layer in range(op.layers):
        own = weights[layer * n * op.each : (layer + 1) * n * op.each]
        start = states
        if op.layers > 1:
            start = [w.slice(s, 0, layer * n, (layer + 1) * n) for s in states]
        y, *end = w.node_of(
            1 + op.states,
            kind,
            x,
            _stacked(w, own[0 :: op.each], op, order),
            _stacked(w, own[1 :: op.each], op, order),
            _biases(w, own, op, order) if op.bias else None,
            None,
            *start,
            hidden_size=op.hidden,
            direction="bidirectional" if op.bidirectional else "forward",
            **attributes,
        )
        # [T, directions, B, H] -> [T, B, directions * H]
        x = w.static_reshape(w.transpose(y, (0, 2, 1, 3)), 0, 0, -1)
        ends.append(tuple(end))
    last = [w.concat(column) for column in zip(*ends, strict=True)]
    return w.transpose(x, (1, 0, 2)) if op.batch_first else x, *last


def _stacked(w: Writer, parts: Sequence[Name], op: Recurrent, order: Sequence[int]) -> Name:
    """Matrices [G H, *] of all directions, gates in ONNX's order: [directions, G H, *]."""
    return w.concat([w.unsqueeze(_reordered(w, p, op, order, 2), 0) for p in parts])


def _biases(w: Writer, own: Sequence[Name], op: Recurrent, order: Sequence[int]) -> Name:
    """[directions, 2 G H]: input biases, then recurrent ones."""
    rows = []
    for d in range(op.directions):
        pair = own[d * op.each + 2 : d * op.each + 4]
        both = w.concat([_reordered(w, b, op, order, 1) for b in pair])
        rows.append(w.unsqueeze(both, 0))
    return w.concat(rows)


def _reordered(w: Writer, x: Name, op: Recurrent, order: Sequence[int], rank: int) -> Name:
    """Blocks of H rows in another order."""
    if len(order) == 1:
        return x
    tail = [-1] if rank == 2 else []
    blocks = w.static_reshape(x, op.gates, op.hidden, *tail)
    moved = w.node("Gather", blocks, w.ints(*order), axis=0)
    return w.static_reshape(moved, op.gates * op.hidden, *tail)
