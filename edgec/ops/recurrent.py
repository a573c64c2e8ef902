"""Recurrent layers over a sequence; the number of steps may be dynamic."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.op import Op, op, require
from edgec.ir.types import TensorType
from edgec.ops.elementwise import APPROXIMATED
from edgec.ops.movement import same_shapes

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


@dataclass(frozen=True)
class Recurrent(Op):
    """Layers of a recurrent network, the backward direction from the last step to the first.

    Inputs       x : T[B, T, E] (T[T, B, E] without batch_first)      T a float
                 states : T[layers * directions, B, H] each, layer by layer, forward before backward
                 weights : per layer and direction w_ih T[G H, E or directions * H], w_hh T[G H, H],
                 and with bias b_ih T[G H], b_hh T[G H]; G is the number of gates
    Outputs      y : T[B, T, directions * H] (T[T, B, ..]), the states after the last step
    Attributes   hidden : H, layers : int, bidirectional, bias, batch_first : bool
    Constraints  (C1) one float dtype    (C2) x has three axes    (C3) hidden and layers from 1
                 (C4) states are [layers * directions, B, H]    (C5) as many weights as described
                 (C6) weights have the shapes above
    Exactness    ROUNDING, (E + H) T terms, factor 4
    """

    gates: ClassVar[int]
    states: ClassVar[int]
    factor: ClassVar[float] = APPROXIMATED

    hidden: int
    layers: int
    bidirectional: bool
    bias: bool
    batch_first: bool = True

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def each(self) -> int:
        """Weights per layer and direction."""
        return 4 if self.bias else 2

    def infer(self, x: TensorType, *others: TensorType) -> tuple[TensorType, ...]:
        kinds = all(t.dtype is x.dtype for t in others) and x.dtype.is_float
        got = ", ".join(sorted({t.dtype.value for t in (x, *others)}))
        require(self, kinds, "C1", got, "operands of one float dtype")
        require(self, x.rank == 3, "C2", f"x: {x}", "three axes")
        got = f"hidden={self.hidden}, layers={self.layers}"
        require(self, self.hidden >= 1 and self.layers >= 1, "C3", got, "numbers from 1")
        batch, steps = x.shape[:2] if self.batch_first else (x.shape[1], x.shape[0])
        state = x.with_shape(self.layers * self.directions, batch, self.hidden)
        for i, t in enumerate(others[: self.states]):
            require(self, t.same(state), "C4", f"state {i}: {t}", str(state))
        count = self.layers * self.directions * self.each
        got = f"{len(others)} operands behind x"
        need = f"{self.states} states and {count} weights"
        require(self, len(others) == self.states + count, "C5", got, need)
        self._check_weights(x, others[self.states :])
        leading = (batch, steps) if self.batch_first else (steps, batch)
        y = x.with_shape(*leading, self.directions * self.hidden)
        return y, *[state] * self.states

    def _check_weights(self, x: TensorType, weights: Sequence[TensorType]) -> None:
        """C6."""
        rows = self.gates * self.hidden
        for i, t in enumerate(weights):
            layer, kind = i // (self.directions * self.each), i % self.each
            inner = x.shape[2] if layer == 0 else self.directions * self.hidden
            need: tuple[Dim, ...] = ((rows, inner), (rows, self.hidden), (rows,), (rows,))[kind]
            fits = same_shapes(t.shape, need)
            require(self, fits, "C6", f"weight {i}: {t}", str(x.with_shape(*need)))

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        x = inputs[0]
        assert x is not None
        return dims.normal((x.shape[2] + self.hidden) * x.shape[1 if self.batch_first else 0])

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        x = inputs[0]
        assert x is not None
        weights = [w for w in inputs[1 + self.states :] if w is not None and w.rank == 2]
        products = sum((2 * w.numel for w in weights), 0)
        gates = 4 * self.gates * self.hidden * self.layers * self.directions
        return dims.normal(x.shape[0] * x.shape[1] * (products + gates))

    # -------------------------------------------------------------- decomposition
    def decompose(self, b: Builder, x: Value, *others: Value) -> tuple[Value, ...] | None:
        """Layers and directions one by one; one of them as steps, where their number is static."""
        states, weights = others[: self.states], others[self.states :]
        if self.layers * self.directions > 1:
            return self._split(b, x, states, weights)
        steps = x.type.shape[1 if self.batch_first else 0]
        return self._unroll(b, x, states, weights, steps) if isinstance(steps, int) else None

    def _split(
        self, b: Builder, x: Value, states: Sequence[Value], weights: Sequence[Value]
    ) -> tuple[Value, ...]:
        single = dataclasses.replace(self, layers=1, bidirectional=False)
        time = 1 if self.batch_first else 0
        ends: list[tuple[Value, ...]] = []
        for layer in range(self.layers):
            outputs = []
            for direction in range(self.directions):
                i = layer * self.directions + direction
                own = weights[i * self.each : (i + 1) * self.each]
                start = [b.slice(s, axis=0, start=i, stop=i + 1) for s in states]
                source = b.flip(x, axes=(time,)) if direction else x
                y, *end = b.emit(single, source, *start, *own)
                outputs.append(b.flip(y, axes=(time,)) if direction else y)
                ends.append(tuple(end))
            x = outputs[0] if len(outputs) == 1 else b.concat(*outputs, axis=2)
        last = [b.concat(*column, axis=0) for column in zip(*ends, strict=True)]
        return x, *last

    def _unroll(
        self, b: Builder, x: Value, states: Sequence[Value], weights: Sequence[Value], steps: int
    ) -> tuple[Value, ...]:
        time = 1 if self.batch_first else 0
        now = [b.reshape(s, shape=s.type.shape[1:]) for s in states]
        w_ih, w_hh, *biases = weights
        projected = b.linear(x, w_ih, biases[0] if biases else None)
        batch = now[0].type.shape[0]
        rows = []
        for t in range(steps):
            part = b.slice(projected, axis=time, start=t, stop=t + 1)
            part = b.reshape(part, shape=(batch, self.gates * self.hidden))
            recurrent = b.linear(now[0], w_hh, biases[1] if biases else None)
            now = self.step(b, part, recurrent, now)
            sides = (batch, 1, self.hidden) if self.batch_first else (1, batch, self.hidden)
            rows.append(b.reshape(now[0], shape=sides))
        y = b.concat(*rows, axis=time)
        return y, *(b.reshape(s, shape=(1, *s.type.shape)) for s in now)

    def step(self, b: Builder, part: Value, recurrent: Value, now: list[Value]) -> list[Value]:
        """The states after one step from x's part and the hidden state's part of the gates."""
        raise NotImplementedError

    def split_gates(self, b: Builder, x: Value) -> Iterator[Value]:
        """[B, G H] -> G times [B, H]."""
        for g in range(self.gates):
            yield b.slice(x, axis=1, start=g * self.hidden, stop=(g + 1) * self.hidden)


@op("lstm")
@dataclass(frozen=True)
class Lstm(Recurrent):
    """Long short-term memory, Hochreiter, Schmidhuber 1997, with a forget gate (Gers et al. 2000).

    i, f, g, o = w_ih x_t + b_ih + w_hh h + b_hh        (rows in this order)
    c' = sigmoid(f) c + sigmoid(i) tanh(g),   h' = sigmoid(o) tanh(c'),   y_t = h'

    lstm(x, h0, c0, *weights) -> (y, h, c); G = 4. All else as `Recurrent`.
    """

    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2

    def evaluate(self, x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        two = self.bidirectional
        made: tuple[Tensor, ...] = torch.lstm(
            x, (h, c), weights, self.bias, self.layers, 0.0, False, two, self.batch_first
        )
        return made

    def step(self, b: Builder, part: Value, recurrent: Value, now: list[Value]) -> list[Value]:
        i, f, g, o = self.split_gates(b, b.add(part, recurrent))
        kept = b.mul(b.sigmoid(f), now[1])
        cell = b.add(kept, b.mul(b.sigmoid(i), b.tanh(g)))
        return [b.mul(b.sigmoid(o), b.tanh(cell)), cell]


@op("gru")
@dataclass(frozen=True)
class Gru(Recurrent):
    """Gated recurrent unit, Cho et al. 2014, arXiv:1406.1078, reset behind the product as in torch.

    r, z, n = w_ih x_t + b_ih,   r', z', n' = w_hh h + b_hh        (rows in this order)
    u = sigmoid(z + z'),   h' = (1 - u) tanh(n + sigmoid(r + r') n') + u h,   y_t = h'

    gru(x, h0, *weights) -> (y, h); G = 3. All else as `Recurrent`.
    """

    gates: ClassVar[int] = 3
    states: ClassVar[int] = 1

    def evaluate(self, x: Tensor, h: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        two = self.bidirectional
        made: tuple[Tensor, ...] = torch.gru(
            x, h, weights, self.bias, self.layers, 0.0, False, two, self.batch_first
        )
        return made

    def step(self, b: Builder, part: Value, recurrent: Value, now: list[Value]) -> list[Value]:
        r, z, n = self.split_gates(b, part)
        r_h, z_h, n_h = self.split_gates(b, recurrent)
        update = b.sigmoid(b.add(z, z_h))
        fresh = b.tanh(b.add(n, b.mul(b.sigmoid(b.add(r, r_h)), n_h)))
        # (1 - u) n + u h = n + u (h - n)
        return [b.add(fresh, b.mul(update, b.sub(now[0], fresh)))]


@op("rnn")
@dataclass(frozen=True)
class Rnn(Recurrent):
    """Simple recurrent layer, Elman 1990.

    h' = f(w_ih x_t + b_ih + w_hh h + b_hh),   y_t = h',   f = `activation`

    rnn(x, h0, *weights) -> (y, h); G = 1. All else as `Recurrent`.
    """

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    activation: Literal["tanh", "relu"] = "tanh"

    def evaluate(self, x: Tensor, h: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        run = torch.rnn_tanh if self.activation == "tanh" else torch.rnn_relu
        two = self.bidirectional
        made: tuple[Tensor, ...] = run(
            x, h, weights, self.bias, self.layers, 0.0, False, two, self.batch_first
        )
        return made

    def step(self, b: Builder, part: Value, recurrent: Value, now: list[Value]) -> list[Value]:
        total = b.add(part, recurrent)
        return [b.tanh(total) if self.activation == "tanh" else b.relu(total)]
