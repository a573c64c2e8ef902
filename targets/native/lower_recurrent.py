"""lstm, gru and rnn of one layer and direction: one product for all steps, then a loop of cells."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.ir import Node, dims
from edgec.ir.dims import Dim
from edgec.kernels.recurrent import Cell, GruCell, LstmCell, RnnCell
from edgec.ops.recurrent import Recurrent, Rnn
from edgec.targets.native.lower_linear import multiply
from edgec.targets.native.lowering import lowers
from edgec.targets.native.statements import Call, Loop, Statement
from edgec.targets.native.views import Place, View
from edgec.targets.native.writer import Writer, copy_call


@lowers("lstm", "gru", "rnn")
def recurrent(w: Writer, node: Node) -> Sequence[View]:
    op = node.op
    assert isinstance(op, Recurrent)
    x, *others = [n for n in node.inputs if n is not None]
    starts, weights = others[: op.states], others[op.states :]
    w_ih, w_hh, *biases = weights
    part = multiply(w, w.dense(x), w_ih, biases[0] if biases else None, f"{node.output.name}.part")
    y, *ends = (w.temporary(v.type, v.name) for v in node.outputs)
    now = [w.copied(w.dense(name)) for name in starts]
    batch, steps = y.shape[:2] if op.batch_first else (y.shape[1], y.shape[0])
    for bias in biases:
        w.dense(bias)  # what makes it dense stands ahead of the loop
    before = len(w.statements)
    rows = now[0].reshaped((batch, op.hidden))
    assert rows is not None
    rec = multiply(w, rows, w_hh, biases[1] if biases else None, f"{node.output.name}.rec")
    body: list[Statement] = w.statements[before:]
    del w.statements[before:]
    step = f"{node.output.name}_step"
    body.append(_cell(op, step, part, rec, now, ends, y, batch, steps))
    body += [copy_call(end, state) for end, state in zip(ends, now, strict=True)]
    for end, state in zip(ends, now, strict=True):  # what stands where there is no step
        w.copy(state, end)
    w.statements.append(Loop(step, steps, body))
    return [y, *ends]


def _cell(
    op: Recurrent,
    step: str,
    part: View,
    rec: View,
    now: Sequence[View],
    ends: Sequence[View],
    y: View,
    batch: Dim,
    steps: Dim,
) -> Call:
    """The call of one step; rows of a batch are a step or a whole sequence apart."""
    width = dims.normal(op.gates * op.hidden)
    apart = steps if op.batch_first else 1
    ahead = 1 if op.batch_first else batch
    t = dims.symbol(step)
    places = [
        Place(part.storage, dims.normal(part.offset + t * ahead * width)),
        *(v.place for v in (rec, *now, *ends)),
        Place(y.storage, dims.normal(y.offset + t * ahead * op.hidden)),
    ]
    sizes: dict[str, Dim | float] = {
        "batch": batch,
        "hidden": op.hidden,
        "part_stride": dims.normal(apart * width),
        "y_stride": dims.normal(apart * op.hidden),
    }
    return Call(_kernel(op), tuple(places), sizes)


def _kernel(op: Recurrent) -> Cell:
    if isinstance(op, Rnn):
        return RnnCell(op.activation)
    return LstmCell() if op.name == "lstm" else GruCell()
