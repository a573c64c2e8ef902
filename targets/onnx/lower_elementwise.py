"""Lowering of edgec.ops.elementwise, activations and comparison."""

from __future__ import annotations

import math

from edgec.ir import DType, Node
from edgec.ops.activations import Clamp, Elu, Gelu, LeakyRelu, Softplus
from edgec.ops.elementwise import Cast
from edgec.targets.onnx.lowering import lowers
from edgec.targets.onnx.writer import Name, Writer

# ops whose operands are those of one ONNX operator, in order
SAME = {
    "neg": "Neg",
    "abs": "Abs",
    "sign": "Sign",
    "floor": "Floor",
    "ceil": "Ceil",
    "round": "Round",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "reciprocal": "Reciprocal",
    "sin": "Sin",
    "cos": "Cos",
    "tanh": "Tanh",
    "erf": "Erf",
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "pow": "Pow",
    "minimum": "Min",
    "maximum": "Max",
    "sigmoid": "Sigmoid",
    "hardswish": "HardSwish",
    "prelu": "PRelu",
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "logical_not": "Not",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "where": "Where",
}


@lowers(*SAME)
def same(w: Writer, node: Node, *operands: Name) -> Name:
    return w.node(SAME[node.op.name], *operands)


# ------------------------------------------------------------------ elementwise
@lowers("rsqrt")
def rsqrt(w: Writer, node: Node, x: Name) -> Name:
    return w.node("Reciprocal", w.node("Sqrt", x))


@lowers("cast")
def cast(w: Writer, node: Node, x: Name) -> Name:
    assert isinstance(node.op, Cast)
    return w.cast(x, node.op.dtype)


@lowers("mod")
def mod(w: Writer, node: Node, a: Name, b: Name) -> Name:
    """The sign is that of b. For floats Mod has only C's fmod, with the sign of a."""
    dtype = w.kernel
    if dtype.is_int:
        return w.node("Mod", a, b)
    zero = w.number(0, dtype)
    rest = w.node("Mod", a, b, fmod=1)
    signs_differ = w.node("Xor", w.node("Less", rest, zero), w.node("Less", b, zero))
    wrong = w.node("And", signs_differ, w.node("Not", w.node("Equal", rest, zero)))
    return w.node("Where", wrong, w.node("Add", rest, b), rest)


@lowers("floor_div")
def floor_div(w: Writer, node: Node, a: Name, b: Name) -> Name:
    """(a - mod) / b is a whole number, up to rounding that Round takes away."""
    exact = w.node("Div", w.node("Sub", a, mod(w, node, a, b)), b)
    return exact if w.kernel.is_int else w.node("Round", exact)


# ------------------------------------------------------------------ activations
@lowers("relu")
def relu(w: Writer, node: Node, x: Name) -> Name:
    if w.kernel in (DType.F32, DType.F64, DType.I32, DType.I8):
        return w.node("Relu", x)
    return w.node("Max", x, w.number(0, w.kernel))


@lowers("silu")
def silu(w: Writer, node: Node, x: Name) -> Name:
    return w.node("Mul", x, w.node("Sigmoid", x))


@lowers("hardsigmoid")
def hardsigmoid(w: Writer, node: Node, x: Name) -> Name:
    return w.node("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@lowers("softplus")
def softplus(w: Writer, node: Node, x: Name) -> Name:
    op = node.op
    assert isinstance(op, Softplus)
    beta = w.number(op.beta, w.kernel)
    t = x if op.beta == 1.0 else w.node("Mul", x, beta)
    soft = w.node("Softplus", t)
    soft = soft if op.beta == 1.0 else w.node("Div", soft, beta)
    if math.exp(-op.threshold) < 1e-8:  # below the rounding of f32: the function is x there anyway
        return soft
    return w.node("Where", w.node("Greater", t, w.number(op.threshold, w.kernel)), x, soft)


@lowers("gelu")
def gelu(w: Writer, node: Node, x: Name) -> Name:
    assert isinstance(node.op, Gelu)
    if node.op.approximate == "sigmoid":
        inner = w.node("Mul", x, w.number(1.702, w.kernel))
        return w.node("Mul", x, w.node("Sigmoid", inner))
    return w.node("Gelu", x, approximate=node.op.approximate)


@lowers("elu")
def elu(w: Writer, node: Node, x: Name) -> Name:
    assert isinstance(node.op, Elu)
    return w.node("Elu", x, alpha=node.op.alpha)


@lowers("leaky_relu")
def leaky_relu(w: Writer, node: Node, x: Name) -> Name:
    assert isinstance(node.op, LeakyRelu)
    return w.node("LeakyRelu", x, alpha=node.op.slope)


@lowers("clamp")
def clamp(w: Writer, node: Node, x: Name) -> Name:
    assert isinstance(node.op, Clamp)
    kind = float if w.kernel.is_float else int
    bounds = (node.op.min, node.op.max)
    low, high = (None if b is None else w.number(kind(b), w.kernel) for b in bounds)
    return x if low is None and high is None else w.node("Clip", x, low, high)


# ------------------------------------------------------------------ comparison
@lowers("ne")
def ne(w: Writer, node: Node, a: Name, b: Name) -> Name:
    return w.node("Not", w.node("Equal", a, b))
