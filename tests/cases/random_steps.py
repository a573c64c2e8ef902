"""Steps of random graphs: elementwise, along axes, products, movement and indexing.

Ops that jump (rounding, comparing, picking the greatest) take numbers that no order of rounding
changes.
"""

from __future__ import annotations

from edgec.ir import TensorType, Value
from tests.cases.random_operands import (
    BOOL,
    F32,
    I64,
    L,
    exact,
    least,
    static,
    tamed,
    width,
)
from tests.passes.random_programs import B, Writer, broadcast

SMOOTH: dict[str, dict[str, object]] = {
    "exp": {},
    "cos": {},
    "softplus": {},
    "elu": {"alpha": 0.7},
    "hardsigmoid": {},
    "hardswish": {},
    "leaky_relu": {"slope": 0.1},
    "gelu": {"approximate": "sigmoid"},
}


# ------------------------------------------------------------------ elementwise
def smooth(w: Writer) -> Value:
    x = w.b.clamp(w.value(), min=-4.0, max=4.0)
    for name in w.rng.sample(list(SMOOTH), 2):
        x = getattr(w.b, name)(x, **SMOOTH[name])
    return x


def logarithm(w: Writer) -> Value:
    return w.b.log(w.b.add(w.b.abs(w.value()), w.f32(0.5)))


def jump(w: Writer) -> Value:
    x = exact(w)
    return w.pick(
        lambda: getattr(w.b, w.pick("floor", "ceil", "round", "sign"))(x),
        lambda: getattr(w.b, w.pick("floor_div", "mod"))(x, w.f32(w.pick(0.5, -2.0))),
        lambda: getattr(w.b, w.pick("lt", "ge", "eq", "ne"))(x, w.f32(w.pick(0.0, 0.375))),
    )()


def integers(w: Writer) -> Value:
    x = w.value(I64)
    divisor = w.b.scalar(w.pick(2, 3, -3), I64)
    return w.pick(
        lambda: getattr(w.b, w.pick("floor_div", "mod"))(x, divisor),
        lambda: getattr(w.b, w.pick("abs", "sign", "neg"))(x),
    )()


def picked(w: Writer) -> Value:
    """The greatest or smallest, its place, and the first few in order."""
    x = exact(w)
    axis = w.rng.randrange(x.type.rank)
    k = w.rng.randint(1, min(3, least(x)[axis]))
    values, places = w.b.topk(x, k=k, axis=axis, largest=w.coin())
    best = getattr(w.b, w.pick("argmax", "argmin"))(x, axis=axis, keep=w.coin())
    made: Value = w.pick(values, places, best)
    return made


# ------------------------------------------------------------------ along axes
def normed(w: Writer) -> Value:
    x = static(w, 2, 2)
    n = width(x)
    weight, bias = w.constant(n), w.pick(None, w.constant(n))
    return w.pick(
        lambda: w.b.softmax(x, axis=w.rng.randrange(x.type.rank)),
        lambda: w.b.log_softmax(x, axis=-1),
        lambda: w.b.layer_norm(x, w.pick(None, weight), bias, eps=0.01),
        lambda: w.b.rms_norm(x, w.pick(None, weight), eps=0.01),
    )()


def summed(w: Writer) -> Value:
    x = w.value(fits=lambda v: v.type.rank > 0 and min(least(v)) > 0)
    axes = tuple(sorted(w.rng.sample(range(x.type.rank), w.rng.randint(1, x.type.rank))))
    name = w.pick("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "cumsum")
    if name == "cumsum":
        return tamed(w, w.b.cumsum(x, axis=axes[0]))
    return tamed(w, getattr(w.b, name)(x, axes=axes, keep=w.coin()))


def spectrum(w: Writer) -> Value:
    x = static(w, 1, 2)
    return tamed(w, w.b.dft_real(x, axes=w.pick((-1,), tuple(range(x.type.rank))[-2:])))


# ------------------------------------------------------------------ products
def projected(w: Writer) -> Value:
    """One panel of columns or several, with epilogues behind and a residual."""
    x = static(w, 2)
    n = w.pick(width(x), 8, 33, 48)
    y = w.b.linear(x, w.constant(n, width(x)), w.pick(None, w.constant(n)))
    if w.coin() and n == width(x):
        y = w.b.add(y, x)
    return tamed(w, y)


def product(w: Writer) -> Value:
    x = static(w, 2)
    order = (*range(x.type.rank - 2), x.type.rank - 1, x.type.rank - 2)
    across = w.b.permute(x, order=order)
    return tamed(w, w.b.matmul(*((x, across) if w.coin() else (across, x))))


def several_heads(w: Writer) -> Value:
    """[batch, length, 8] over itself or another, 2 heads of 4."""
    fits = TensorType(F32, (B, L, 8))
    q, k = (w.value(fits=lambda v: v.type.same(fits)) for _ in range(2))
    split = [w.b.permute(w.b.reshape(v, shape=(B, L, 2, 4)), order=(0, 2, 1, 3)) for v in (q, k, k)]
    mask = w.value(BOOL, fits=lambda v: v.type.same(TensorType(BOOL, (B, 1, L))))
    shown = w.b.expand(w.b.reshape(mask, shape=(B, 1, 1, L)), shape=(B, 1, L, L))
    y = w.pick(
        lambda: w.b.attention(*split, None, causal=w.coin()),
        lambda: w.b.attention(*split, shown),
        lambda: w.b.attention(*split, None, pattern="window(2) + global(1)"),
    )()
    return w.b.reshape(w.b.permute(y, order=(0, 2, 1, 3)), shape=(B, L, 8))


def recurrent(w: Writer) -> Value:
    name = w.pick("lstm", "gru", "rnn")
    gates, states = {"lstm": (4, 2), "gru": (3, 1), "rnn": (1, 1)}[name]
    x = w.value(fits=lambda v: v.type.same(TensorType(F32, (B, L, 8))))
    weights = [w.constant(gates * 8, 8), w.constant(gates * 8, 8), w.constant(gates * 8)]
    start = [w.b.full(shape=(1, B, 8), value=0.25, dtype=F32)] * states
    form = {"hidden": 8, "layers": 1, "bidirectional": False, "bias": True}
    y: Value = getattr(w.b, name)(x, *start, *weights, weights[-1], **form)[0]
    return y


# ------------------------------------------------------------------ movement
def indexed(w: Writer) -> Value:
    """Rows, elements along an axis, single elements; indices are always in range."""
    x = w.value(F32, F32, I64, fits=lambda v: v.type.rank > 0 and min(least(v)) > 0)
    axis = w.rng.randrange(x.type.rank)
    ids = w.value(I64, fits=lambda v: v.type.rank <= 2)
    inside = w.b.clamp(ids, min=0.0, max=float(least(x)[axis] - 1))
    if w.coin():
        return w.b.gather(x, inside, axis=axis)
    flat = w.b.reshape(x, shape=(x.type.numel,))
    last = w.b.clamp(ids, min=0.0, max=float(least(flat)[0] - 1))
    last = w.b.reshape(last, shape=(last.type.numel,))
    return w.b.take_along(flat, last, axis=0) if w.coin() else w.b.gather_nd(flat, last)


def moved(w: Writer) -> Value:
    x = w.value(F32, F32, I64, BOOL, fits=lambda v: v.type.rank > 0 and min(least(v)) >= 1)
    axis = w.rng.randrange(x.type.rank)
    size = least(x)[axis]
    pads = tuple((w.pick(0, 1), w.pick(0, 2)) if i == axis else (0, 0) for i in range(x.type.rank))
    other = w.pick("edge", "reflect") if size > 2 and x.type.dtype is F32 else "constant"
    return w.pick(
        lambda: w.b.pad(x, pads=pads, mode=w.pick("constant", other)),
        lambda: w.b.slice(x, axis=axis, start=w.rng.randint(0, size - 1), step=w.pick(1, 2, 3)),
        lambda: w.b.flip(x, axes=(axis,)),
        lambda: w.b.permute(x, order=tuple(w.rng.sample(range(x.type.rank), x.type.rank))),
    )()


def overwritten(w: Writer) -> Value:
    x = w.value(F32, I64, fits=lambda v: v.type.rank > 0 and min(least(v)) > 0)
    axis = w.rng.randrange(x.type.rank)
    stop = w.rng.randint(1, least(x)[axis])
    part = w.b.slice(x, axis=axis, start=0, stop=stop)
    part = w.b.neg(part) if w.coin() else w.b.add(part, w.b.scalar(1, x.type.dtype))
    start = w.rng.randint(0, least(x)[axis] - stop)
    return w.b.scatter_slice(x, part, axis=axis, start=start, stop=start + stop)


def residual(w: Writer) -> Value:
    x = w.value()
    y = w.value(fits=lambda v: broadcast(v, x))
    return tamed(w, getattr(w.b, w.pick("add", "sub", "mul"))(x, y))


STEPS = (
    *(smooth, logarithm, jump, integers, picked, residual, residual),
    *(normed, summed, summed, spectrum),
    *(projected, projected, product, several_heads, recurrent),
    *(indexed, moved, moved, overwritten),
)
