"""Small random programs: well-typed, finite, of plain ops and of the idioms that passes look for.

An idiom is often written with a flaw (another axis, another constant, an inner value that is a
result too), so that rules that fire too often are found as well as rules that fire too seldom.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import torch

import edgec.ops  # noqa: F401 - registers the ops
from edgec.ir import Builder, DType, Program, Range, TensorType, Value, dims, symbol

B = symbol("batch")
F32, I64, BOOL = DType.F32, DType.I64, DType.BOOL
SHAPES = ((B, 4), (4,), (1, 4), (B, 1), (B, 1, 4), (B, 2, 4), (4, 4), (2, 4), ())
NUMBERS = (0.0, 1.0, -1.0, 0.5, 2.0, 6.0, -0.25)
LOWEST = -3.4028234663852886e38


@dataclass
class Writer:
    """Appends random nodes to a graph.

    exact   comparisons of floats are allowed: a rounding that comes before would turn them over
    steps   to choose from
    """

    rng: random.Random
    b: Builder
    values: list[Value]
    exact: bool
    steps: Sequence[Callable[[Writer], Any]]

    def coin(self) -> bool:
        return self.rng.random() < 0.5

    def pick(self, *options: Any) -> Any:
        return self.rng.choice(options)

    def value(self, *dtypes: DType, fits: Callable[[Value], bool] = lambda v: True) -> Value:
        """A value of one of the dtypes, f32 by default; recent ones are picked more often."""
        dtype = self.pick(*dtypes) if dtypes else F32
        found = [v for v in self.values if v.type.dtype is dtype and fits(v)]
        return self.pick(*found[-3:]) if self.coin() else self.pick(*found)

    def number(self, dtype: DType = F32) -> Value:
        """A number as a scalar, or in every place of a tensor."""
        value = self.coin() if dtype is BOOL else self.pick(*NUMBERS)
        value = int(value) if dtype is I64 else value
        if self.coin():
            return self.b.scalar(value, dtype)
        full: Value = self.b.full(shape=self.pick(*SHAPES), value=value, dtype=dtype)
        return full

    def other(self, x: Value) -> Value:
        """An operand that broadcasts with x."""
        if self.coin():
            return self.value(x.type.dtype, fits=lambda v: broadcast(v, x))
        number = self.number(x.type.dtype)
        return number if broadcast(number, x) else self.b.scalar(1, x.type.dtype)

    def constant(self, *shape: int) -> Value:
        generator = torch.Generator().manual_seed(self.rng.randrange(3))
        values = torch.randint(-8, 9, shape, generator=generator).float() / 8
        return self.b.constant(values, "weight")

    def f32(self, value: float) -> Value:
        return self.b.scalar(value, F32)

    def step(self) -> None:
        made = self.pick(*self.steps)(self)
        self.values += made if isinstance(made, tuple) else (made,)


def broadcast(*values: Value) -> bool:
    """Whether the values broadcast against each other."""
    rank = max(v.type.rank for v in values)
    columns = zip(*((1,) * (rank - v.type.rank) + v.type.shape for v in values), strict=True)
    real = ([d for d in column if d != 1] for column in columns)
    return all(dims.same(column[0], d) for column in real for d in column[1:])


# ------------------------------------------------------------------ plain ops
def unary(w: Writer) -> Value:
    x = w.value()
    names = ("neg", "relu", "sigmoid", "tanh", "abs", "erf", "silu", "sin", "neg")
    for name in w.rng.sample(names, w.pick(1, 2)):
        x = getattr(w.b, name)(x)
    return w.b.neg(w.b.neg(x)) if w.rng.random() < 0.2 else x


def bounded(w: Writer) -> Value:
    return w.b.clamp(w.value(), min=w.pick(None, -4.0, 0.0), max=w.pick(None, 4.0, 6.0))


def binary(w: Writer) -> Value:
    x = w.value(F32, F32, I64)
    y = w.other(x)
    y = w.b.neg(y) if w.rng.random() < 0.2 else y
    name = w.pick("add", "sub", "mul", "maximum", "minimum")
    made = getattr(w.b, name)(*((x, y) if w.coin() else (y, x)))
    return w.b.clamp(made, min=-64.0, max=64.0)


def powers(w: Writer) -> Value:
    x = w.b.add(w.b.abs(w.value()), w.f32(0.5))
    y = w.value(fits=lambda v: broadcast(v, x))
    return w.pick(
        lambda: w.b.pow(x, w.f32(w.pick(2.0, 0.5, -0.5, -1.0, 1.0, 3.0))),
        lambda: w.b.div(y, w.pick(x, w.b.sqrt(x))),
        lambda: w.b.mul(y, w.b.reciprocal(w.pick(x, w.b.sqrt(x)))),
        lambda: w.b.sqrt(w.b.reciprocal(x)),
        lambda: w.b.mul(w.b.div(y, w.f32(w.pick(3.0, 1.0, -2.0))), w.f32(w.pick(0.5, 3.0))),
    )()


def compare(w: Writer) -> Value:
    x = w.value(*((F32, I64, BOOL) if w.exact else (I64, BOOL)))
    orders = ("eq", "ne") if x.type.dtype is BOOL else ("eq", "ne", "lt", "le", "gt", "ge")
    made = getattr(w.b, w.pick(*orders))(x, w.other(x))
    return w.b.logical_not(made) if w.coin() else made


def logic(w: Writer) -> Value:
    x = w.value(BOOL)
    y = w.pick(x, w.other(x))
    made = getattr(w.b, w.pick("logical_and", "logical_or", "logical_xor"))(x, y)
    for _ in range(w.pick(0, 0, 1, 2)):
        made = w.b.logical_not(made)
    return made


def choose(w: Writer) -> Value:
    x = w.value(F32, I64, BOOL)
    y = w.pick(x, w.other(x))
    cond = w.value(BOOL, fits=lambda c: broadcast(c, x, y)) if w.coin() else w.b.scalar(True, BOOL)
    cond = w.b.logical_not(cond) if w.coin() else cond
    if w.coin() and x.type.dtype is BOOL:
        return w.b.where(cond, w.b.scalar(w.coin(), BOOL), w.b.scalar(w.coin(), BOOL))
    return w.b.where(cond, x, y)


def cast(w: Writer) -> Value:
    x = w.value(*((F32, I64, BOOL) if w.exact else (I64, BOOL)))
    y = w.b.cast(x, dtype=w.pick(DType.I32, I64, BOOL, F32, DType.F64))
    if w.coin() and y.type.dtype is not BOOL:
        zero = w.b.scalar(0, y.type.dtype)
        return getattr(w.b, w.pick("ne", "eq", "gt"))(y, zero) if w.exact else y
    return w.b.cast(y, dtype=w.pick(I64, BOOL, F32))


# ------------------------------------------------------------------ views
def view(w: Writer) -> Any:
    x = w.value(F32, F32, I64, BOOL)
    seen = []
    for _ in range(w.pick(1, 2, 3)):
        x = one_view(w, x)
        seen.append(x)
    return x if w.coin() else tuple(seen)


def one_view(w: Writer, x: Value) -> Value:
    rank, shape = x.type.rank, x.type.shape
    axis = w.rng.randrange(rank) if rank else 0
    order = tuple(w.rng.sample(range(rank), rank))
    options = [
        lambda: w.b.reshape(x, shape=(x.type.numel,)),
        lambda: w.b.reshape(x, shape=tuple(d for d in shape if d != 1)),
        lambda: w.b.permute(x, order=order),
    ]
    if rank < 4:
        options += [
            lambda: w.b.reshape(x, shape=(*shape[:axis], 1, *shape[axis:])),
            lambda: w.b.reshape(x, shape=(1, *shape)),
            lambda: w.b.expand(x, shape=(w.pick(1, 2, B), *shape)),
        ]
    return w.pick(*options, *(part_views(w, x, axis) if rank else ()))()


def part_views(w: Writer, x: Value, axis: int) -> list[Callable[[], Value]]:
    size = x.type.shape[axis]
    start, stop = (0, None) if not isinstance(size, int) else (0, w.rng.randint(size // 2, size))
    start = w.rng.randint(0, stop) if stop else start
    signed = axis - w.pick(0, x.type.rank)

    def part() -> Value:
        return w.b.slice(x, axis=signed, start=start, stop=stop)

    def rest() -> Value:
        return w.b.slice(x, axis=axis, start=0 if stop is None else stop)

    def whole() -> Value:
        return w.b.concat(*w.pick((x,), (part(), rest()), (rest(), part()), (x, x)), axis=axis)

    def piece() -> Value:
        y = whole()
        limit = y.type.shape[axis]
        end = w.rng.randint(0, limit) if isinstance(limit, int) else None
        return w.b.slice(y, axis=axis, stop=end)

    return [
        part,
        whole,
        piece,
        lambda: w.b.flip(x, axes=(axis,)),
        lambda: w.b.flip(w.b.flip(x, axes=(axis,)), axes=(signed,)),
        lambda: w.b.pad(x, pads=((0, 0),) * x.type.rank),
    ]


def reduced(w: Writer) -> Value:
    x = w.value(fits=lambda v: v.type.rank > 0 and v.type.numel != 0)
    axis = w.rng.randrange(x.type.rank)
    y = w.b.reduce_mean(x, axes=(axis,))
    shape = (*x.type.shape[:axis], 1, *x.type.shape[axis + 1 :])
    return w.b.reshape(y, shape=shape) if w.coin() else y


# ------------------------------------------------------------------ from nothing
def source(w: Writer) -> Value:
    size, start = w.pick(B, 4, 1), w.pick(0, 0, 2, -1)
    positions = w.b.iota(size=size, start=start, step=w.pick(1, 1, 2))
    return w.pick(
        lambda: w.b.reshape(positions, shape=w.pick((size,), (size, 1), (1, 1, size))),
        lambda: w.b.cast(w.b.dim_value(dim=w.pick(B, 4)), dtype=F32),
        lambda: w.number(w.pick(F32, BOOL, I64)),
        lambda: w.constant(*w.pick((4,), (2, 4), (1,), ())),
        lambda: getattr(w.b, w.pick("ge", "lt", "gt"))(positions, w.b.scalar(w.pick(0, -1), I64)),
    )()


def padding_mask(w: Writer) -> Value:
    """A mask indexed by positions, and compared with 0: as transformers writes it."""
    mask = w.value(BOOL, I64, fits=lambda v: v.type.rank >= 2)
    rows, columns = mask.type.shape[:2]
    first = w.b.reshape(w.b.iota(size=rows), shape=(rows, 1, 1))
    last = w.b.reshape(w.b.iota(size=columns), shape=(1, 1, columns))
    ids = w.pick((first, last), (first,), (first, w.b.iota(size=columns)))
    picked = w.b.gather_nd(mask, *ids)
    valid = w.b.ge(first, w.b.scalar(w.pick(0, 0, 1), I64))
    if mask.type.dtype is I64 or not broadcast(picked, valid):
        return picked
    return w.b.logical_and(picked, valid)


# ------------------------------------------------------------------ formulas
def weighted(w: Writer) -> Value:
    x = w.value(fits=lambda v: v.type.rank > 0 and v.type.shape[-1] in (1, 2, 4))
    width = x.type.shape[-1]
    if w.coin() and x.type.rank > 1:
        y = w.b.matmul(x, w.constant(width, 4))
    else:
        y = w.b.linear(x, w.constant(4, width), w.pick(None, w.constant(4)))
    for _ in range(w.pick(0, 1, 2)):
        factor = w.pick(w.f32(0.5), w.constant(4))
        y = w.b.add(y, w.constant(4)) if w.coin() else w.b.mul(factor, y)
    return w.b.clamp(y, min=-64.0, max=64.0)


def convolved(w: Writer) -> Any:
    x = w.value(fits=lambda v: v.type.rank == 3 and v.type.shape[1] == 2)
    bias = w.pick(None, w.constant(4))
    y = w.b.conv(x, w.constant(4, 2, 1), bias, stride=(1,), padding=((0, 0),), dilation=(1,))
    variance = w.b.constant(torch.tensor([0.5, 1.0, 2.0, 4.0]), "variance")
    if w.coin():
        z = w.b.batch_norm(y, w.constant(4), variance, w.pick(None, w.constant(4)))
    else:
        z = w.b.add(w.b.mul(y, w.constant(1, 4, 1)), w.constant(4, 1))
    z = w.b.clamp(z, min=-64.0, max=64.0)
    return w.pick(z, z, (z, y))


def norm(w: Writer) -> Any:
    """Almost a norm: other axes, other factors, a mean of absolute values."""
    x = w.value(fits=lambda v: v.type.rank > 1 and v.type.shape[-2:] == (2, 4))
    first, second = w.pick(((-1,), (-1,)), ((-2,), (-1,)), ((-2, -1), (-2, -1)), ((-2,), (-2,)))
    x = w.b.sub(x, w.b.reduce_mean(x, axes=first, keep=True))
    square = w.b.mul(x, w.b.abs(x) if w.rng.random() < 0.2 else x)
    mean = w.b.reduce_mean(square, axes=second, keep=True)
    return w.b.mul(x, w.b.rsqrt(w.b.add(w.b.abs(mean) if w.coin() else mean, w.f32(64.0))))


def rms(w: Writer) -> Any:
    """A norm as models write it, with weight and bias."""
    x = w.value(fits=lambda v: v.type.rank > 0 and v.type.shape[-1] == 4)
    if w.coin():
        x = w.b.sub(x, w.b.reduce_mean(x, axes=(-1,), keep=True))
    square = w.b.mul(x, x) if w.coin() else w.b.pow(x, w.f32(2.0))
    mean = w.b.reduce_mean(square, axes=(-1,), keep=True)
    root = w.b.sqrt(w.b.add(mean, w.f32(w.pick(0.5, 0.001))))
    y = w.b.mul(x, w.b.reciprocal(root)) if w.coin() else w.b.div(x, root)
    y = w.b.mul(w.constant(4), y) if w.coin() else y
    y = w.b.add(y, w.constant(4)) if w.coin() else y
    return w.pick(y, y, y, (y, mean))


def activation(w: Writer) -> Any:
    return w.pick(gated, gelu, gelu, hard)(w, w.value())


def gated(w: Writer, x: Value) -> Any:
    gate = w.b.sigmoid(w.b.mul(w.f32(w.pick(1.702, 1.7)), x) if w.coin() else x)
    y = w.b.mul(*((x, gate) if w.coin() else (gate, x)))
    return w.pick(y, y, (y, gate))


def gelu(w: Writer, x: Value) -> Value:
    if w.coin():
        inner = w.b.erf(w.b.mul(x, w.f32(w.pick(0.70710678, 0.7))))
    else:
        cube = w.b.mul(w.f32(0.044715), w.b.mul(w.b.mul(x, x), x))
        inner = w.b.tanh(w.b.mul(w.f32(w.pick(0.7978845608, 0.79)), w.b.add(x, cube)))
    one = w.b.add(inner, w.f32(1.0))
    first, second, third = w.rng.sample((x, one, w.f32(0.5)), 3)
    return w.b.mul(first, w.b.mul(third, second))


def hard(w: Writer, x: Value) -> Value:
    sharp = w.b.clamp(w.b.add(x, w.f32(3.0)), min=0.0, max=w.pick(6.0, 6.0, 5.0))
    if w.coin():
        return w.b.div(w.b.mul(x, sharp), w.f32(6.0))
    y = w.b.div(sharp, w.f32(6.0))
    return w.b.mul(x, y) if w.coin() else y


def attended(w: Writer) -> Any:
    """Attention of queries [batch, 2, 4] over themselves, written out."""
    x = w.value(fits=lambda v: v.type.same(TensorType(F32, (B, 2, 4))))
    q = w.b.mul(x, w.f32(0.5)) if w.coin() else x
    scores = w.b.matmul(q, w.b.permute(x, order=(0, 2, 1)))
    scores = w.b.mul(scores, w.f32(w.pick(0.5, 0.25))) if w.coin() else scores
    mask = w.value(BOOL)
    if w.coin() and broadcast(mask, scores):
        lowest = w.f32(w.pick(LOWEST, -4.0))
        scores = w.b.where(mask, scores, lowest)
    if not scores.type.same(TensorType(F32, (B, 2, 2))):
        return x
    p = w.b.softmax(scores, axis=w.pick(-1, -1, -1, 1))
    y = w.b.matmul(p, x)
    return w.pick(y, y, (y, p))


def heads(w: Writer) -> Value:
    """The op itself, with repeated heads and a mask of numbers."""
    x = w.value(fits=lambda v: v.type.same(TensorType(F32, (B, 2, 4))))
    q = w.b.expand(w.b.reshape(x, shape=(B, 1, 2, 4)), shape=(B, 4, 2, 4))
    k = w.b.reshape(x, shape=(B, 2, 1, 4))
    groups = w.b.expand(w.b.reshape(k, shape=(B, 2, 1, 1, 4)), shape=(B, 2, 2, 1, 4))
    k = w.b.reshape(groups, shape=(B, 4, 1, 4))
    mask = w.value(BOOL, fits=lambda m: m.type.rank == 0) if w.coin() else w.b.scalar(True, BOOL)
    shape = (B, 1, 2, 1)
    number = w.b.where(mask, w.f32(0.0), w.f32(w.pick(-float("inf"), LOWEST)))
    return w.b.attention(q, k, k, w.b.expand(w.pick(mask, number), shape=shape))


STEPS = (
    *(unary, bounded, binary, binary, powers, compare, logic, choose, cast),
    *(view, view, view, reduced, source, source, padding_mask),
    *(weighted, convolved, norm, rms, activation, attended, heads),
)


def random_program(seed: int, steps: int, exact: bool) -> Program:
    """A program over x, y f32[batch, 4], z f32[batch, 2, 4], ids and a mask."""
    inputs = [
        *((n, TensorType(F32, (B, 4))) for n in ("x", "y")),
        ("z", TensorType(F32, (B, 2, 4))),
        ("ids", TensorType(I64, (B, 4))),
        ("mask", TensorType(BOOL, (B, 4))),
    ]
    b = Builder.new("main", inputs, dims={"batch": Range(1, 64)})
    start = [b.input(n) for n, _ in inputs]
    start += [b.scalar(0.5, F32), b.scalar(True, BOOL)]
    start += [b.constant(torch.tensor([1.0, -2.0, 0.0, 3.0]), "row")]
    writer = Writer(random.Random(seed), b, start, exact, STEPS)
    for _ in range(steps):
        writer.step()
    local = [v for v in writer.values if not v.is_constant]
    results = [*local[-2:], *writer.rng.choices(local, k=2)]
    graph = b.finish(results, [f"result{i}" for i in range(len(results))])
    return Program({"main": graph}, graph.constants)


def programs(exact: bool) -> st.SearchStrategy[Program]:
    """Programs of 1 to 16 steps.

    exact   whether results may depend on comparisons of floats, which a rounding turns over
    """
    return st.builds(
        random_program, st.integers(0, 2**32 - 1), st.integers(1, 16), exact=st.just(exact)
    )
