"""Cells, called step by step as a program does, against the whole op in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.kernels import InstructionSet
from edgec.kernels.calling import host_sets
from edgec.ops.recurrent import Gru, Lstm, Recurrent, Rnn
from tests.kernels.guarded import check, run

pytest.importorskip("tvm")

STEPS, FEATURES = 5, 6


def sample(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cell_of(op: Any) -> Any:
    from edgec.kernels import recurrent as k

    if isinstance(op, Lstm):
        return k.LstmCell()
    return k.GruCell() if isinstance(op, Gru) else k.RnnCell(op.activation)


def by_steps(
    op: Recurrent, isa: InstructionSet, x: torch.Tensor, states: Any, weights: Any
) -> list[Any]:
    """y and the last states; the products are torch's."""
    w_ih, w_hh, b_ih, b_hh = weights
    batch, hidden = x.shape[0], op.hidden
    part = torch.nn.functional.linear(x, w_ih, b_ih)
    names = ["h", "c"][: op.states]
    now = [s[0].numpy() for s in states]
    rows = []
    width = op.gates * hidden
    sizes = {"batch": batch, "hidden": hidden, "part_stride": STEPS * width, "y_stride": hidden}
    for t in range(STEPS):
        rec = torch.nn.functional.linear(torch.from_numpy(now[0]), w_hh, b_hh)
        flat = part.reshape(-1)[t * width :][: max((batch - 1) * STEPS * width + width, 0)]
        arrays = {"part": flat.numpy(), "rec": rec.numpy(), **dict(zip(names, now, strict=True))}
        shapes = {f"{n}_new": (batch, hidden) for n in names} | {"y": (batch, hidden)}
        made = run(cell_of(op), isa, arrays, sizes, shapes)
        now = [np.array(made[f"{n}_new"]) for n in names]
        np.testing.assert_array_equal(made["y"], now[0])
        rows.append(now[0])
    return [np.stack(rows, 1), *(n[None] for n in now)]


@pytest.mark.parametrize("isa", host_sets(), ids=lambda i: i.name)
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
@settings(max_examples=6)
@given(batch=st.integers(1, 3), hidden=st.sampled_from([1, 7, 16, 33]))
def test_cells_make_the_layer(kind: str, isa: InstructionSet, batch: int, hidden: int) -> None:
    one = (hidden, 1, False, True)
    made: dict[str, Recurrent] = {
        "lstm": Lstm(*one),
        "gru": Gru(*one),
        "rnn_tanh": Rnn(*one),
        "rnn_relu": Rnn(*one, activation="relu"),
    }
    op = made[kind]
    rows = op.gates * hidden
    shapes = [(rows, FEATURES), (rows, hidden), (rows,), (rows,)]
    weights = [sample(*s, seed=i) for i, s in enumerate(shapes)]
    x = sample(batch, STEPS, FEATURES, seed=9)
    states = [sample(1, batch, hidden, seed=10 + i) for i in range(op.states)]
    got = by_steps(op, isa, x, states, weights)
    want = op.evaluate(*(t.double() for t in (x, *states, *weights)))
    for a, b in zip(got, want, strict=True):
        check(op, a, b, (FEATURES + hidden) * STEPS)
