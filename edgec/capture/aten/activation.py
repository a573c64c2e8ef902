"""Activation functions."""

from __future__ import annotations

from edgec.capture.aten.elementwise import floats, scaled
from edgec.capture.call import Call, Scalar
from edgec.capture.registry import aten
from edgec.ir import dims
from edgec.ir.graph import Value


def _register(overload: str) -> None:
    @aten(overload)
    def convert(c: Call, x: Value) -> Value:
        return c.value(getattr(c.b, overload)(x))


for _name in ("relu", "silu", "hardswish", "hardsigmoid"):
    _register(_name)


@aten("gelu")
def gelu(c: Call, x: Value, approximate: str) -> Value:
    return c.value(c.b.gelu(x, approximate=approximate))


@aten("hardtanh")
def hardtanh(c: Call, x: Value, low: float, high: float) -> Value:
    return c.value(c.b.clamp(x, min=float(low), max=float(high)))


@aten("relu6")
def relu6(c: Call, x: Value) -> Value:
    return c.value(c.b.clamp(x, min=0.0, max=6.0))


@aten("leaky_relu")
def leaky_relu(c: Call, x: Value, slope: float) -> Value:
    return c.value(c.b.leaky_relu(x, slope=float(slope)))


@aten("elu")
def elu(c: Call, x: Value, alpha: float, scale: float, input_scale: float) -> Value:
    """scale * (x where x > 0, else alpha (e^(input_scale x) - 1))."""
    if input_scale == 1:
        y = c.b.elu(x, alpha=float(alpha))
    else:
        grown = c.b.elu(scaled(c, x, float(input_scale)), alpha=float(alpha))
        y = c.b.where(c.b.gt(x, c.number(0.0, c.dtype)), x, grown)
    return c.value(y) if scale == 1 else scaled(c, y, float(scale))


@aten("selu")
def selu(c: Call, x: Value) -> Value:
    """Klambauer et al. 2017, arXiv:1706.02515: elu with its two fixed constants."""
    return elu(c, x, 1.6732632423543772, 1.0507009873554805, 1.0)


@aten("celu")
def celu(c: Call, x: Value, alpha: float) -> Value:
    """x where x > 0, else alpha (e^(x / alpha) - 1)."""
    return elu(c, x, float(alpha), 1.0, 1 / float(alpha))


@aten("prelu", "_prelu_kernel")
def prelu(c: Call, x: Value, weight: Value) -> Value:
    """The weight has one element, or one for each channel of [B, C, ...]."""
    if weight.type.rank == x.type.rank:
        return c.value(c.b.prelu(x, weight))
    shape = list(weight.type.shape) + [1] * max(x.type.rank - 2, 0)
    if x.type.rank < 2:
        shape = list(weight.type.shape)[: x.type.rank]
    return c.value(c.b.prelu(x, c.reshape(weight, shape)))


@aten("rrelu")
def rrelu(
    c: Call, x: Value, lower: float, upper: float, training: bool, generator: object
) -> Value:
    if training:
        c.fail("random slopes; capture in eval mode")
    return leaky_relu(c, x, (lower + upper) / 2)


@aten("softplus")
def softplus(c: Call, x: Value, beta: float, threshold: float) -> Value:
    return c.value(c.b.softplus(x, beta=float(beta), threshold=float(threshold)))


@aten("mish")
def mish(c: Call, x: Value) -> Value:
    """Misra 2019, arXiv:1908.08681: x tanh(softplus(x))."""
    return c.value(c.b.mul(x, c.b.tanh(c.b.softplus(x))))


@aten("log_sigmoid")
def log_sigmoid(c: Call, x: Value) -> Value:
    """-log(1 + e^-x) = min(x, 0) - softplus(-|x|), without a threshold's step."""
    x = floats(c, x)
    below = c.b.minimum(x, c.number(0.0, c.dtype))
    return c.value(c.b.sub(below, c.b.softplus(c.b.neg(c.b.abs(x)))))


@aten("log_sigmoid_forward")
def log_sigmoid_forward(c: Call, x: Value) -> tuple[Value, None]:
    return log_sigmoid(c, x), None


@aten("glu")
def glu(c: Call, x: Value, axis: int) -> Value:
    """Dauphin et al. 2017, arXiv:1612.08083: the first half times the sigmoid of the second."""
    size = x.type.shape[axis]
    half = dims.floordiv(size, 2)
    gate = c.b.sigmoid(c.slice(x, axis, half, size))
    return c.value(c.b.mul(c.slice(x, axis, 0, half), gate))


@aten("threshold")
def threshold(c: Call, x: Value, limit: Scalar, value: Scalar) -> Value:
    above = c.b.gt(x, c.operand(limit, x.type.dtype))
    return c.value(c.b.where(above, x, c.operand(value, x.type.dtype)))


@aten("hardshrink")
def hardshrink(c: Call, x: Value, lambd: float) -> Value:
    large = c.b.gt(c.b.abs(x), c.number(float(lambd), c.dtype))
    return c.value(c.b.where(large, x, c.number(0.0, c.dtype)))


@aten("softshrink")
def softshrink(c: Call, x: Value, lambd: float) -> Value:
    rest = c.b.sub(c.b.abs(x), c.number(float(lambd), c.dtype))
    return c.value(c.b.mul(c.b.sign(x), c.b.relu(rest)))


# ------------------------------------------------------------------ softmax
@aten("softmax.int", "special_softmax")
def softmax(c: Call, x: Value, axis: int, dtype: object) -> Value:
    return _along(c, "softmax", floats(c, x), axis)


@aten("_softmax", "_safe_softmax")
def softmax_core(c: Call, x: Value, axis: int, extra: object) -> Value:
    return _along(c, "softmax", floats(c, x), axis)


@aten("log_softmax.int", "special_log_softmax", "_log_softmax")
def log_softmax(c: Call, x: Value, axis: int, extra: object) -> Value:
    return _along(c, "log_softmax", floats(c, x), axis)


def _along(c: Call, op: str, x: Value, axis: int) -> Value:
    if x.type.rank == 0:
        return c.squeeze(getattr(c.b, op)(c.unsqueeze(x, 0), axis=0), 0)
    return c.value(getattr(c.b, op)(x, axis=axis % x.type.rank))


@aten("cosine_similarity")
def cosine_similarity(c: Call, a: Value, b: Value, axis: int, eps: float) -> Value:
    """a . b / (max(|a|, eps) max(|b|, eps))."""
    x, y = c.promoted(a, b)
    rank = max(x.type.rank, y.type.rank)
    axes = (axis % rank - rank,)

    def length(v: Value) -> Value:
        norm = c.b.sqrt(c.b.reduce_sum(c.b.mul(v, v), axes=axes, keep=True))
        return c.value(c.b.clamp(norm, min=float(eps)))

    product = c.b.mul(c.b.div(x, length(x)), c.b.div(y, length(y)))
    return c.value(c.b.reduce_sum(product, axes=axes))
