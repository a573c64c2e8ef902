"""The op set once more, in numpy, from the formulas of the docstrings: nothing here calls torch.

REFERENCES maps an op's name to a function of the op (attributes, dims bound) and its operands.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import special

from edgec.patterns import parse
from edgec.patterns.choice import chosen_blocks

Array = Any  # numpy's array, of any dtype
Reference = Callable[..., Any]


def elementwise() -> dict[str, Reference]:
    unary: dict[str, Callable[[Array], Array]] = {
        "neg": np.negative,
        "abs": np.abs,
        "sign": np.sign,
        "floor": np.floor,
        "ceil": np.ceil,
        "round": np.round,
        "exp": np.exp,
        "log": np.log,
        "sqrt": np.sqrt,
        "rsqrt": lambda x: 1 / np.sqrt(x),
        "reciprocal": lambda x: 1 / x,
        "sin": np.sin,
        "cos": np.cos,
        "tanh": np.tanh,
        "erf": special.erf,
        "logical_not": np.logical_not,
        "relu": lambda x: np.maximum(x, 0),
        "sigmoid": special.expit,
        "silu": lambda x: x * special.expit(x),
        "hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
        "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    }
    binary: dict[str, Reference] = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "pow": np.power,
        "mod": np.mod,
        "floor_div": np.floor_divide,
        "minimum": np.minimum,
        "maximum": np.maximum,
        "eq": np.equal,
        "ne": np.not_equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
        "logical_and": np.logical_and,
        "logical_or": np.logical_or,
        "logical_xor": np.logical_xor,
        "where": np.where,
        "prelu": lambda x, w: np.where(x > 0, x, w * x),
        "matmul": np.matmul,
    }
    return {name: _plain(f) for name, f in (unary | binary).items()}


def _plain(function: Reference) -> Reference:
    return lambda op, *operands: function(*operands)


def gelu(op: Any, x: Array) -> Array:
    if op.approximate == "none":
        return x * special.ndtr(x)
    if op.approximate == "sigmoid":
        return x * special.expit(1.702 * x)
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softplus(op: Any, x: Array) -> Array:
    soft = np.logaddexp(0, op.beta * x) / op.beta
    return np.where(op.beta * x > op.threshold, x, soft)


def clamp(op: Any, x: Array) -> Array:
    low = -math.inf if op.min is None else op.min
    high = math.inf if op.max is None else op.max
    return np.clip(x, low, high).astype(x.dtype)


# ------------------------------------------------------------------ reductions
def reduction(function: Reference) -> Reference:
    return lambda op, x: function(x, axis=op.axes, keepdims=op.keep)


def argument(function: Reference) -> Reference:
    return lambda op, x: function(x, axis=op.axis, keepdims=op.keep)


def topk(op: Any, x: Array) -> tuple[Array, Array]:
    order = np.argsort(-x if op.largest else x, axis=op.axis, kind="stable")
    first = np.take(order, range(op.k), axis=op.axis)
    return np.take_along_axis(x, first, op.axis), first


# ------------------------------------------------------------------ movement
def slice_of(op: Any, x: Array) -> tuple[Any, ...]:
    index: list[Any] = [slice(None)] * x.ndim
    index[op.axis] = slice(op.start, op.stop, op.step)
    return tuple(index)


def take_along(op: Any, x: Array, ids: Array) -> Array:
    """x may be larger than ids along the other axes."""
    axis = op.axis % x.ndim
    within = (slice(None) if i == axis else slice(n) for i, n in enumerate(ids.shape))
    return np.take_along_axis(x[tuple(within)], ids, axis)


def scatter_slice(op: Any, x: Array, y: Array) -> Array:
    x = x.copy()
    x[slice_of(op, x)] = y
    return x


def pad(op: Any, x: Array) -> Array:
    if op.mode == "constant":
        return np.pad(x, op.pads, constant_values=op.value)
    return np.pad(x, op.pads, mode=op.mode)


# ------------------------------------------------------------------ products
def quantize(op: Any, x: Array, axes: tuple[int, ...]) -> Array:
    if op.activations == "none":
        return x
    if op.activations == "static":
        codes = np.clip(np.rint(x / op.x_scale) + op.x_zero, 0, 255)
        return (codes - op.x_zero) * op.x_scale
    if op.activations == "dynamic_token":
        top = np.max(np.abs(x), axis=axes, keepdims=True)
        scale = np.where(top == 0, 1, top / 127)
        return np.clip(np.round(x / scale), -127, 127) * scale
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    step = (high - low) / 255 or 1.0
    zero = round(min(max(-low / step, 0), 255))
    return (np.clip(np.round(x / step) + zero, 0, 255) - zero) * step


def linear(op: Any, x: Array, w: Array, bias: Array | None) -> Array:
    y = np.einsum("...k,nk->...n", quantize(op, x, (-1,)), w)
    return y if bias is None else y + bias


def attention(op: Any, q: Array, k: Array, v: Array, mask: Array | None) -> Array:
    groups = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1)
    scale = 1 / math.sqrt(q.shape[-1]) if op.scale is None else op.scale
    scores = scale * np.einsum("bhtd,bhsd->bhts", q, k)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if op.causal:
        scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
    if op.pattern:
        scores = np.where(seen_by_pattern(op.pattern, *scores.shape[1:3]), scores, -np.inf)
    top = np.max(scores, axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = weights.sum(-1, keepdims=True)
    return np.einsum("bhts,bhsd->bhtd", weights / np.where(total > 0, total, 1), v)


def seen_by_pattern(text: str, heads: int, length: int) -> Array:
    """bool [H, n, n], pair by pair, from the numbers of the parts."""
    seen = np.zeros((heads, length, length), dtype=bool)
    for kind, a, b, c in parse(text).parameters():
        blocks = -(-length // max(b, 1))
        drawn = chosen_blocks(c, a, np.arange(blocks), blocks) if kind == 5 else None
        for h, i, j in itertools.product(range(heads), range(length), range(length)):
            seen[h, i, j] |= (
                abs(i // a - j // a) <= b if kind == 0
                else (i - a <= j <= (i if b else i + a)) if kind == 1
                else (i // b) % a == (j // b) % a if kind == 2
                else i // a == j // a and i % b == j % b == h % b if kind == 3
                else min(i, j) < a or max(i, j) >= length - b if kind == 4
                else j // b in drawn[i // b] if drawn is not None
                else j <= i
            )  # fmt: skip
    return seen


# ------------------------------------------------------------------ norms
def affine(y: Array, weight: Array | None, bias: Array | None, behind: int = 0) -> Array:
    sides = (-1, *[1] * behind)
    y = y if weight is None else y * weight.reshape(sides if behind else weight.shape)
    return y if bias is None else y + bias.reshape(sides if behind else bias.shape)


def standardize(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    mean = x.mean(axes, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + eps)


def layer_norm(op: Any, x: Array, weight: Array | None, bias: Array | None) -> Array:
    return affine(standardize(x, tuple(range(-op.axes_count, 0)), op.eps), weight, bias)


def rms_norm(op: Any, x: Array, weight: Array | None) -> Array:
    y = x / np.sqrt((x**2).mean(op.axis, keepdims=True) + op.eps)
    return affine(y, weight, None, x.ndim - 1 - op.axis % x.ndim)


def group_norm(op: Any, x: Array, weight: Array | None, bias: Array | None) -> Array:
    rows = x.reshape(x.shape[0], op.groups, -1)
    y = standardize(rows, (-1,), op.eps).reshape(x.shape)
    return affine(y, weight, bias, x.ndim - 2)


def batch_norm(
    op: Any,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
) -> Array:
    sides = (-1, *[1] * (x.ndim - 2))
    y = (x - mean.reshape(sides)) / np.sqrt(var.reshape(sides) + op.eps)
    return affine(y, weight, bias, x.ndim - 2)


# ------------------------------------------------------------------ windows
def places(kernel: Any) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, kernel))


def windows(op: Any, x: Array, fill: float, kernel: Any, pads: Any, ceil: bool) -> Array:
    """[B, C, *O, *K]: the elements of every window, `fill` outside of x."""
    dilation = getattr(op, "dilation", (1,) * len(kernel))
    sizes = []
    for n, k, s, (low, high), d in zip(x.shape[2:], kernel, op.stride, pads, dilation, strict=True):
        room = n + low + high - d * (k - 1) - 1
        count = (-(-room // s) if ceil else room // s) + 1
        sizes.append(count - 1 if ceil and (count - 1) * s >= n + low else count)
    wide = [(low, high + s) for (low, high), s in zip(pads, op.stride, strict=True)]
    padded = np.pad(x, [(0, 0), (0, 0), *wide], constant_values=fill)
    found = np.empty((*x.shape[:2], *sizes, *kernel), x.dtype)
    for place in places(kernel):
        index: list[Any] = [slice(None), slice(None)]
        for i, n, s, d in zip(place, sizes, op.stride, dilation, strict=True):
            index.append(slice(i * d, i * d + (n - 1) * s + 1, s))
        at: Any = (..., *place)
        found[at] = padded[tuple(index)]
    return found


def conv(op: Any, x: Array, w: Array, bias: Array | None) -> Array:
    x = quantize(op, x, tuple(range(1, x.ndim)))
    axes = x.ndim - 2
    parts = []
    for g in range(op.groups):
        rows, inner = w.shape[0] // op.groups, w.shape[1]
        own = windows(op, x[:, g * inner : (g + 1) * inner], 0, w.shape[2:], op.padding, False)
        kernels = w[g * rows : (g + 1) * rows]
        sums = np.tensordot(
            own,
            kernels,
            ([1, *range(2 + axes, 2 + 2 * axes)], [1, *range(2, 2 + axes)]),
        )
        parts.append(np.moveaxis(sums, -1, 1))
    return affine(np.concatenate(parts, 1), None, bias, axes)


def conv_transpose(op: Any, x: Array, w: Array, bias: Array | None) -> Array:
    """Every element of x adds its kernel at its place."""
    rows, columns = x.shape[1] // op.groups, w.shape[1]
    sizes = [
        (n - 1) * s + d * (k - 1) + extra + 1
        for n, s, d, k, extra in zip(
            x.shape[2:], op.stride, op.dilation, w.shape[2:], op.output_padding, strict=True
        )
    ]
    y = np.zeros((x.shape[0], columns * op.groups, *sizes))
    for channel, place in itertools.product(range(x.shape[1]), places(x.shape[2:])):
        first = channel // rows * columns
        for offset in places(w.shape[2:]):
            at = tuple(
                p * s + o * d
                for p, s, o, d in zip(place, op.stride, offset, op.dilation, strict=True)
            )
            term = np.outer(x[(slice(None), channel, *place)], w[(channel, slice(None), *offset)])
            y[(slice(None), slice(first, first + columns), *at)] += term
    crop = (slice(p, n - p) for p, n in zip(op.padding, sizes, strict=True))
    return affine(y[(slice(None), slice(None), *crop)], None, bias, len(sizes))


def im2col(op: Any, x: Array) -> Array:
    pairs = [(p, p) for p in op.padding]
    found = windows(op, x, 0, op.kernel, pairs, False)
    return found.transpose(0, 1, 4, 5, 2, 3).reshape(
        x.shape[0], x.shape[1] * found[0, 0, 0, 0].size, -1
    )


def col2im(op: Any, x: Array) -> Array:
    batch, channels = x.shape[0], x.shape[1] // math.prod(op.kernel)
    wide = [n + 2 * p for n, p in zip(op.size, op.padding, strict=True)]
    counts = [
        (n - d * (k - 1) - 1) // s + 1
        for n, d, k, s in zip(wide, op.dilation, op.kernel, op.stride, strict=True)
    ]
    parts = x.reshape(batch, channels, *op.kernel, *counts)
    y = np.zeros((batch, channels, *wide))
    for i, j in places(op.kernel):
        for u, v in places(counts):
            at = i * op.dilation[0] + u * op.stride[0], j * op.dilation[1] + v * op.stride[1]
            y[:, :, at[0], at[1]] += parts[:, :, i, j, u, v]
    (top, left), (height, width) = op.padding, op.size
    return y[:, :, top : top + height, left : left + width]


def max_pool(op: Any, x: Array) -> Array:
    found = windows(op, x, -np.inf, op.kernel, op.padding, op.ceil_mode)
    return found.max(tuple(range(-len(op.kernel), 0)))


def avg_pool(op: Any, x: Array) -> Array:
    axes = tuple(range(-len(op.kernel), 0))
    found = windows(op, x, np.nan, op.kernel, op.padding, op.ceil_mode)
    if not op.count_include_pad:
        return np.nanmean(found, axes)
    inner = np.pad(np.zeros((1, 1, *x.shape[2:])), [(0, 0), (0, 0), *op.padding])
    counted = windows(op, inner, np.nan, op.kernel, [(0, 0)] * len(axes), op.ceil_mode)
    if counted.shape[2:] != found.shape[2:]:  # a last window that starts in the high pad
        counted = counted[
            (..., *(slice(n) for n in found.shape[2 : 2 - axes[0]]), *[slice(None)] * -axes[0])
        ]
    return np.nansum(found, axes) / (~np.isnan(counted)).sum(axes)


def adaptive_avg_pool(op: Any, x: Array) -> Array:
    for i, count in enumerate(op.size):
        axis, size = 2 + i, x.shape[2 + i]
        bins = []
        for o in range(count):
            start, stop = math.floor(o * size / count), math.ceil((o + 1) * size / count)
            bins.append(np.take(x, range(start, stop), axis).mean(axis, keepdims=True))
        x = np.concatenate(bins, axis)
    return x


# ------------------------------------------------------------------ sampling
def resize(op: Any, x: Array) -> Array:
    for i, size in enumerate(op.size):
        x = resize_axis(op, x, 2 + i, size, None if op.scale is None else op.scale[i])
    return x


def resize_axis(op: Any, x: Array, axis: int, size: int, scale: float | None) -> Array:
    old = x.shape[axis]
    ratio = old / size if scale is None else 1 / scale
    columns = []
    for o in range(size):
        if op.mode == "nearest":
            taps = {min(math.floor(o * ratio), old - 1): 1.0}
        else:
            place = (o + 0.5) * ratio - 0.5
            if op.align_corners:
                place = o * (old - 1) / (size - 1) if size > 1 else 0.0
            taps = (
                linear_taps(max(place, 0), old) if op.mode == "linear" else cubic_taps(place, old)
            )
        columns.append(sum(np.take(x, [j], axis) * w for j, w in taps.items()))
    return np.concatenate(columns, axis)


def linear_taps(place: float, size: int) -> dict[int, float]:
    low = min(math.floor(place), size - 1)
    t = place - low
    if low + 1 >= size:
        return {low: 1.0}
    return {low: 1 - t, low + 1: t}


def cubic_taps(place: float, size: int) -> dict[int, float]:
    low, a = math.floor(place), -0.75
    taps: dict[int, float] = {}
    for j in range(low - 1, low + 3):
        d = abs(place - j)
        if d <= 1:
            weight = (a + 2) * d**3 - (a + 3) * d**2 + 1
        else:
            weight = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
        at = min(max(j, 0), size - 1)
        taps[at] = taps.get(at, 0.0) + weight
    return taps


def grid_sample(op: Any, x: Array, grid: Array) -> Array:
    batch, channels = x.shape[:2]
    y = np.zeros((batch, channels, *grid.shape[1:3]))
    for b, i, j in places(grid.shape[:3]):
        column, row = (sample_place(op, grid[b, i, j, axis], x.shape[3 - axis]) for axis in (0, 1))
        y[b, :, i, j] = sample(op, x[b], row, column)
    return y


def sample_place(op: Any, g: float, size: int) -> float:
    place = (g + 1) * (size - 1) / 2 if op.align_corners else ((g + 1) * size - 1) / 2
    low, high = (0.0, size - 1.0) if op.align_corners else (-0.5, size - 0.5)
    if op.padding == "reflection":
        while not low <= place <= high:
            place = 2 * low - place if place < low else 2 * high - place
    return place if op.padding == "zeros" else min(max(place, 0.0), size - 1.0)


def sample(op: Any, image: Array, row: float, column: float) -> Array:
    if op.mode == "nearest":
        corners = {(round(row), round(column)): 1.0}
    else:
        r, c = math.floor(row), math.floor(column)
        corners = {
            (r + i, c + j): (1 - abs(row - r - i)) * (1 - abs(column - c - j))
            for i, j in places((2, 2))
        }
    total = np.zeros(image.shape[0])
    for (r, c), weight in corners.items():
        if 0 <= r < image.shape[1] and 0 <= c < image.shape[2]:
            total = total + weight * image[:, r, c]
    return total


# ------------------------------------------------------------------ recurrent
def recurrent(step: Callable[..., tuple[Array, ...]], states: int) -> Reference:
    def run(op: Any, x: Array, *others: Array) -> tuple[Array, ...]:
        x = x if op.batch_first else x.swapaxes(0, 1)
        weights, each = list(others[states:]), 4 if op.bias else 2
        ends: list[list[Array]] = [[] for _ in range(states)]
        for _ in range(op.layers):
            outputs = []
            for direction in range(2 if op.bidirectional else 1):
                own, weights = weights[:each], weights[each:]
                biases = own[2:] or [np.zeros(own[0].shape[0])] * 2
                now = tuple(others[i][len(ends[i])] for i in range(states))
                steps = []
                for t in reversed(range(x.shape[1])) if direction else range(x.shape[1]):
                    now = step(x[:, t] @ own[0].T + biases[0], now[0] @ own[1].T + biases[1], *now)
                    steps.append(now[0])
                outputs.append(np.stack(steps[::-1] if direction else steps, 1))
                for found, state in zip(ends, now, strict=True):
                    found.append(state)
            x = np.concatenate(outputs, 2)
        y = x if op.batch_first else x.swapaxes(0, 1)
        return y, *map(np.stack, ends)

    return run


def lstm_step(given: Array, kept: Array, h: Array, c: Array) -> tuple[Array, ...]:
    i, f, g, o = np.split(given + kept, 4, axis=1)
    c = special.expit(f) * c + special.expit(i) * np.tanh(g)
    return special.expit(o) * np.tanh(c), c


def rnn(op: Any, *operands: Array) -> tuple[Array, ...]:
    function = np.tanh if op.activation == "tanh" else (lambda x: np.maximum(x, 0))
    result: tuple[Array, ...] = recurrent(lambda a, b, h: (function(a + b),), 1)(op, *operands)
    return result


def gru_step(given: Array, kept: Array, h: Array) -> tuple[Array, ...]:
    (r, z, n), (r_h, z_h, n_h) = np.split(given, 3, axis=1), np.split(kept, 3, axis=1)
    u = special.expit(z + z_h)
    return ((1 - u) * np.tanh(n + special.expit(r + r_h) * n_h) + u * h,)


REFERENCES: dict[str, Reference] = {
    **elementwise(),
    "cast": lambda op, x: x.astype(str(op.dtype.torch_dtype).removeprefix("torch.")),
    "gelu": gelu,
    "softplus": softplus,
    "elu": lambda op, x: np.where(x > 0, x, op.alpha * np.expm1(x)),
    "leaky_relu": lambda op, x: np.where(x > 0, x, op.slope * x),
    "clamp": clamp,
    "reduce_sum": reduction(np.sum),
    "reduce_mean": reduction(np.mean),
    "reduce_max": reduction(np.max),
    "reduce_min": reduction(np.min),
    "argmax": argument(np.argmax),
    "argmin": argument(np.argmin),
    "cumsum": lambda op, x: np.cumsum(x, axis=op.axis),
    "topk": topk,
    "reshape": lambda op, x: x.reshape(op.shape),
    "permute": lambda op, x: x.transpose(op.order),
    "expand": lambda op, x: np.broadcast_to(x, op.shape),
    "slice": lambda op, x: x[slice_of(op, x)],
    "scatter_slice": scatter_slice,
    "flip": lambda op, x: np.flip(x, op.axes),
    "concat": lambda op, *xs: np.concatenate(xs, op.axis),
    "pad": pad,
    "gather": lambda op, table, ids: np.take(table, ids, axis=op.axis),
    "take_along": take_along,
    "gather_nd": lambda op, x, *ids: x[ids],
    "full": lambda op: np.full(op.shape, op.value),
    "iota": lambda op: op.start + op.step * np.arange(op.size),
    "dim_value": lambda op: np.asarray(op.dim),
    "linear": linear,
    "attention": attention,
    "softmax": lambda op, x: special.softmax(x, op.axis),
    "log_softmax": lambda op, x: special.log_softmax(x, op.axis),
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "batch_norm": batch_norm,
    "dft_real": lambda op, x: np.fft.fftn(x, axes=op.axes).real,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "im2col": im2col,
    "col2im": col2im,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "adaptive_avg_pool": adaptive_avg_pool,
    "resize": resize,
    "grid_sample": grid_sample,
    "lstm": recurrent(lstm_step, 2),
    "gru": recurrent(gru_step, 1),
    "rnn": rnn,
}
