"""One time step of a recurrent layer: gates and new states from two finished products.

What a program does for one layer and direction of an op of edgec/ops/recurrent.py, H = hidden,
G = gates; the backward direction goes through t from the last to the first:

    part = linear(x as [B T, E], w_ih, b_ih)                 once, for all steps: [B, T, G H]
    for t in 0 .. T - 1:
        rec = linear(h, w_hh, b_hh)                          [B, G H]
        cell(part + t G H, rec, h, (c,) h', (c',), y + t Y; batch = B, hidden = H,
             part_stride = T G H, y_stride = T Y)
        h, c = h', c'                                        two buffers each, in turns

Y is the width of a row of y: H, or 2 H for two directions, with the backward half H behind. With
time first, part and y begin at t B G H and t B Y, and strides are G H and Y. The last states are
those of the last call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from edgec.ir.dims import Dim
from edgec.kernels import scalars
from edgec.kernels.body import Body
from edgec.kernels.deferred import T
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel, Pointer, Size
from edgec.kernels.sweep import each


@dataclass(frozen=True)
class Cell(Kernel):
    """Base of the cells: f32, new states beside the old ones.

    Parameters  part f32[B, G H], rows part_stride apart; rec f32[B, G H]; old states f32[B, H];
                new states f32[B, H]; y f32[B, H], rows y_stride apart, a copy of the new h;
                batch, hidden, part_stride, y_stride
    Items       batch
    """

    states: ClassVar[tuple[str, ...]] = ("h",)

    def parameters(self) -> tuple[Pointer | Size, ...]:
        old = [Pointer(name) for name in ("part", "rec", *self.states)]
        new = [Pointer(f"{name}_new", output=True) for name in self.states]
        sizes = [Size(name) for name in ("batch", "hidden", "part_stride", "y_stride")]
        return (*old, *new, Pointer("y", output=True), *sizes)

    def items(self, sizes: Mapping[str, Dim]) -> Dim:
        return sizes["batch"]

    def gates(self) -> int:
        raise NotImplementedError

    def step(self, part: list[Any], rec: list[Any], states: list[Any]) -> list[Any]:
        """New states of one unit from both products' parts of its gates."""
        raise NotImplementedError

    def emit(self, body: Body, isa: InstructionSet) -> None:
        part, rec, y = (body.buffer(name) for name in ("part", "rec", "y"))
        old = [body.buffer(name) for name in self.states]
        new = [body.buffer(f"{name}_new") for name in self.states]
        hidden, count = body["hidden"], self.gates()
        with body.items() as row:
            given = body.let(row * body["part_stride"])
            recurrent, state = body.let(row * (count * hidden)), body.let(row * hidden)
            result = body.let(row * body["y_stride"])

            def unit(i: Any) -> None:
                ours = [body.let(part[given + g * hidden + i]) for g in range(count)]
                theirs = [body.let(rec[recurrent + g * hidden + i]) for g in range(count)]
                made = self.step(ours, theirs, [body.let(s[state + i]) for s in old])
                made = [body.let(value) for value in made]
                for buffer, value in zip(new, made, strict=True):
                    body.store(buffer, value, state + i)
                body.store(y, made[0], result + i)

            each(body, hidden, unit)


@dataclass(frozen=True)
class LstmCell(Cell):
    """c' = sigmoid(f) c + sigmoid(i) tanh(g),   h' = sigmoid(o) tanh(c');  gates i, f, g, o."""

    family: ClassVar[str] = "lstm_cell"
    states: ClassVar[tuple[str, ...]] = ("h", "c")

    def gates(self) -> int:
        return 4

    def step(self, part: list[Any], rec: list[Any], states: list[Any]) -> list[Any]:
        i, f, g, o = (T.bind(a + b) for a, b in zip(part, rec, strict=True))
        kept = scalars.sigmoid(f) * states[1]
        cell = T.bind(kept + scalars.sigmoid(i) * scalars.tanh(g))
        return [scalars.sigmoid(o) * scalars.tanh(cell), cell]


@dataclass(frozen=True)
class GruCell(Cell):
    """u = sigmoid(z + z'),   h' = (1 - u) tanh(n + sigmoid(r + r') n') + u h;  gates r, z, n."""

    family: ClassVar[str] = "gru_cell"

    def gates(self) -> int:
        return 3

    def step(self, part: list[Any], rec: list[Any], states: list[Any]) -> list[Any]:
        (r, z, n), (r_h, z_h, n_h) = part, rec
        update = T.bind(scalars.sigmoid(T.bind(z + z_h)))
        reset = scalars.sigmoid(T.bind(r + r_h))
        fresh = T.bind(scalars.tanh(n + reset * n_h))
        return [fresh + update * (states[0] - fresh)]


@dataclass(frozen=True)
class RnnCell(Cell):
    """h' = f(part + rec), f = tanh or relu (NaN stays)."""

    family: ClassVar[str] = "rnn_cell"

    activation: Literal["tanh", "relu"] = "tanh"

    def gates(self) -> int:
        return 1

    def step(self, part: list[Any], rec: list[Any], states: list[Any]) -> list[Any]:
        total = T.bind(part[0] + rec[0])
        if self.activation == "tanh":
            return [scalars.tanh(total)]
        zero = scalars.f32(0.0)
        return [scalars.select(total < zero, zero, total)]
