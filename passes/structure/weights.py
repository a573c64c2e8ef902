"""The weight of a product that sums over units, as rows w[N, K], and the units of its K columns."""

from __future__ import annotations

import torch
from torch import Tensor

from edgec.passes.structure.trace import Sink
from edgec.passes.weights import Weight


def weight_of(sink: Sink) -> Weight:
    """With the axis of its rows."""
    name = (sink.node.inputs[1] or "")[1:]
    axis = 1 if sink.node.op.name == "matmul" else 0
    return Weight(name, frozenset({sink.node.op.name}), axis)


def rows_of(sink: Sink, w: Tensor) -> Tensor:
    """[N, K]: that of a matmul is transposed, kernels are flattened."""
    return w.T if sink.node.op.name == "matmul" else w.reshape(w.shape[0], -1)


def stored(sink: Sink, rows: Tensor, like: Tensor) -> Tensor:
    """What `rows_of` was made of."""
    back = rows.T if sink.node.op.name == "matmul" else rows
    return back.reshape(like.shape).contiguous()


def units_of(sink: Sink, columns: int) -> Tensor:
    """i64[K]: the unit of each column; kernels have several for a channel."""
    units = torch.tensor(sink.labels.flat)
    return units.repeat_interleave(columns // len(units))
