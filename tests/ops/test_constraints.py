"""Every labelled constraint of every op: a breach raises TypeCheckError, with op and label."""

from __future__ import annotations

import re

import pytest

from edgec.errors import FormatError, TypeCheckError
from edgec.ir import OPS, Op
from edgec.ir.text import parse_attributes
from tests.cases.case import Operand

# ops -> breaches: label, attributes, operands
Breaches = dict[str, tuple[tuple[str, str, tuple[str, ...]], ...]]
BOOLS = ("bool[2]", "bool[2]")

ELEMENTWISE: Breaches = {
    "neg abs sign relu": (("C1", "", ("bool[2]",)),),
    "floor ceil round exp log sqrt rsqrt reciprocal sin cos tanh erf sigmoid silu hardsigmoid "
    "hardswish gelu elu leaky_relu": (("C1", "", ("i64[2]",)),),
    "softplus": (("C1", "", ("i64[2]",)), ("C2", "beta=0.0", ("f32[2]",))),
    "clamp": (("C1", "", ("bool[2]",)), ("C2", "min=0.5", ("i64[2]",))),
    "logical_not": (("C1", "", ("i64[2]",)),),
    "prelu": (
        ("C1", "", ("f32[2]", "f16[2]")),
        ("C1", "", ("i64[2]", "i64[2]")),
        ("C2", "", ("f32[2]", "f32[3, 2]")),
    ),
    "add sub mul pow mod floor_div minimum maximum": (
        ("C1", "", ("f32[2]", "f16[2]")),
        ("C2", "", BOOLS),
    ),
    "div": (("C1", "", ("f32[2]", "i64[2]")), ("C2", "", BOOLS), ("C3", "", ("i64[2]", "i64[2]"))),
    "eq ne": (("C1", "", ("f32[2]", "i64[2]")),),
    "lt le gt ge": (("C1", "", ("f32[2]", "i64[2]")), ("C2", "", BOOLS)),
    "logical_and logical_or logical_xor": (("C1", "", ("bool[2]", "i64[2]")),),
    "where": (
        ("C1", "", ("bool[2]", "f32[2]", "i64[2]")),
        ("C2", "", ("i64[2]", "f32[2]", "f32[2]")),
    ),
}

REDUCE: Breaches = {
    "reduce_sum reduce_mean reduce_max reduce_min": (
        ("C1", "axes=[2]", ("f32[2, 3]",)),
        ("C1", "axes=[-3]", ("f32[2, 3]",)),
        ("C2", "axes=[0, -2]", ("f32[2, 3]",)),
        ("C2", "axes=[]", ("f32[2, 3]",)),
    ),
    "reduce_sum": (("C3", "axes=[0]", ("bool[2]",)),),
    "reduce_mean": (("C3", "axes=[0]", ("i64[2]",)),),
    "reduce_max reduce_min": (("C4", "axes=[1]", ("f32[2, 0]",)),),
    "argmax argmin": (
        ("C1", "axis=1", ("f32[2]",)),
        ("C2", "axis=0", ("bool[2]",)),
        ("C3", "axis=0", ("f32[0]",)),
    ),
    "cumsum": (("C1", "axis=1", ("f32[2]",)), ("C2", "axis=0", ("bool[2]",))),
    "topk": (
        ("C1", "k=1, axis=1", ("f32[2]",)),
        ("C2", "k=1", ("bool[2]",)),
        ("C3", "k=3", ("f32[2]",)),
        ("C3", "k=-1", ("f32[n]",)),
    ),
}

MOVEMENT: Breaches = {
    "reshape": (
        ("C1", "shape=[-1]", ("f32[4]",)),
        ("C2", "shape=[3]", ("f32[4]",)),
        ("C2", "shape=[2*n]", ("f32[n]",)),
    ),
    "permute": (
        ("C1", "order=[0, 0]", ("f32[2, 3]",)),
        ("C1", "order=[0]", ("f32[2, 3]",)),
    ),
    "expand": (
        ("C1", "shape=[3]", ("f32[2]",)),
        ("C1", "shape=[2]", ("f32[1, 2]",)),
        ("C1", "shape=[n]", ("f32[m]",)),
    ),
    "slice": (
        ("C1", "axis=1", ("f32[4]",)),
        ("C2", "axis=0, step=0", ("f32[4]",)),
        ("C3", "axis=0, stop=5", ("f32[4]",)),
        ("C3", "axis=0, start=3, stop=2", ("f32[4]",)),
        ("C3", "axis=0, start=-1", ("f32[4]",)),
        ("C3", "axis=0, stop=n + 1", ("f32[n]",)),
    ),
    "scatter_slice": (
        ("C1", "axis=1", ("f32[4]", "f32[4]")),
        ("C2", "axis=0, step=-1", ("f32[4]", "f32[4]")),
        ("C3", "axis=0, stop=5", ("f32[4]", "f32[5]")),
        ("C4", "axis=0, stop=3", ("f32[4]", "f32[2]")),
        ("C4", "axis=0, stop=3", ("f32[4]", "f16[3]")),
    ),
    "flip": (("C1", "axes=[1]", ("f32[4]",)), ("C2", "axes=[0, -1]", ("f32[4]",))),
    "concat": (
        ("C1", "axis=1", ("f32[4]", "f32[4]")),
        ("C2", "axis=0", ("f32[4]", "i64[4]")),
        ("C2", "axis=0", ()),
        ("C3", "axis=0", ("f32[4, 2]", "f32[4, 3]")),
        ("C3", "axis=0", ("f32[4]", "f32[4, 1]")),
    ),
    "pad": (
        ("C1", "pads=[[0, 0]]", ("f32[2, 3]",)),
        ("C2", "pads=[[-1, 0]]", ("f32[3]",)),
        ("C3", "pads=[[0, 3]], mode=reflect", ("f32[3]",)),
        ("C3", "pads=[[1, 0]], mode=edge", ("f32[0]",)),
        ("C4", "pads=[[1, 0]], value=0.5", ("i64[3]",)),
        ("C4", "pads=[[1, 0]], value=2.0", ("bool[3]",)),
    ),
    "gather": (
        ("C1", "axis=2", ("f32[4, 2]", "i64[3]")),
        ("C2", "", ("f32[4, 2]", "f32[3]")),
    ),
    "take_along": (
        ("C1", "axis=1", ("f32[4]", "i64[3]")),
        ("C2", "axis=0", ("f32[4]", "f32[3]")),
        ("C3", "axis=0", ("f32[4, 2]", "i64[3]")),
        ("C3", "axis=0", ("f32[4, 2]", "i64[3, 3]")),
    ),
    "gather_nd": (
        ("C1", "", ("f32[4]",)),
        ("C1", "", ("f32[4]", "i64[2]", "i64[2]")),
        ("C2", "", ("f32[4]", "bool[4]")),
    ),
    "full": (
        ("C1", "shape=[-1], value=0, dtype=f32", ()),
        ("C2", "shape=[1], value=0.5, dtype=i64", ()),
        ("C2", "shape=[1], value=1, dtype=bool", ()),
        ("C2", "shape=[1], value=True, dtype=f32", ()),
    ),
    "iota": (
        ("C1", "size=-1", ()),
        ("C2", "size=3, dtype=bool", ()),
        ("C3", "size=3, step=0", ()),
    ),
    "dim_value": (("C1", "dim=n, dtype=bool", ()),),
}

LINEAR: Breaches = {
    "linear": (
        ("C1", "", ("f32[2, 3]", "f16[4, 3]", "_")),
        ("C1", "", ("i64[2, 3]", "i64[4, 3]", "_")),
        ("C2", "", ("f32[]", "f32[4, 3]", "_")),
        ("C2", "", ("f32[2, 3]", "f32[3]", "_")),
        ("C3", "", ("f32[2, 3]", "f32[4, 2]", "_")),
        ("C4", "", ("f32[2, 3]", "f32[4, 3]", "f32[3]")),
        *(
            ("C5", attributes, ("f32[2, 3]", "f32[4, 3]", "_"))
            for attributes in (
                "activations=static",
                "activations=static, x_scale=-0.5",
                "activations=static, x_scale=inf",
                "activations=static, x_scale=nan",
                "activations=static, x_scale=0.1",  # none of f32
                "activations=static, x_scale=1e300",
                "activations=static, x_scale=0.5, x_zero=256",
                "activations=static, x_scale=0.5, x_zero=-1",
                "activations=dynamic, x_scale=0.5",
                "x_zero=3",
            )
        ),
    ),
    "matmul": (
        ("C1", "", ("f32[2, 3]", "f16[3, 2]")),
        ("C1", "", ("bool[2, 3]", "bool[3, 2]")),
        ("C2", "", ("f32[3]", "f32[3, 2]")),
        ("C3", "", ("f32[2, 3]", "f32[2, 3]")),
    ),
    "attention": (
        ("C1", "", ("f32[1, 2, 3, 4]", "f32[1, 2, 3, 4]", "f16[1, 2, 3, 4]")),
        ("C1", "", ("f32[2, 3, 4]", "f32[2, 3, 4]", "f32[2, 3, 4]")),
        ("C2", "", ("f32[2, 2, 3, 4]", "f32[1, 2, 3, 4]", "f32[1, 2, 3, 4]")),
        ("C2", "", ("f32[1, 2, 3, 4]", "f32[1, 2, 3, 4]", "f32[1, 2, 5, 4]")),
        ("C3", "", ("f32[1, 2, 3, 4]", "f32[1, 2, 3, 5]", "f32[1, 2, 3, 4]")),
        ("C4", "", ("f32[1, 3, 3, 4]", "f32[1, 2, 3, 4]", "f32[1, 2, 3, 4]")),
        ("C4", "", ("f32[1, 4, 3, 4]", "f32[1, 2, 3, 4]", "f32[1, 1, 3, 4]")),
        ("C5", "", (*["f32[1, 2, 3, 4]"] * 3, "i64[3, 3]")),
        ("C5", "", (*["f32[1, 2, 3, 4]"] * 3, "bool[2, 1, 3, 3]")),
        ("C5", "", (*["f32[1, 2, 3, 4]"] * 3, "f32[1, 1, 1, 3, 3]")),
        ("C6", "", ("f32[1, 2, 3, d]", "f32[1, 2, 3, d]", "f32[1, 2, 3, d]")),
        ("C7", "pattern='window( 2)'", ("f32[1, 2, 3, 4]",) * 3),
        ("C7", "pattern='window(2) & causal()'", ("f32[1, 2, 3, 4]",) * 3),
        ("C8", "pattern='window(2)'", ("f32[1, 2, n, 4]", "f32[1, 2, m, 4]", "f32[1, 2, m, 4]")),
        ("C9", "pattern='window(2) + global(4)'", ("f32[1, 2, 3, 4]",) * 3),
    ),
    "softmax log_softmax": (("C1", "axis=1", ("f32[2]",)), ("C2", "", ("i64[2]",))),
    "layer_norm": (
        ("C1", "", ("f32[2, 3]", "f16[3]", "_")),
        ("C2", "axes_count=3", ("f32[2, 3]",)),
        ("C2", "axes_count=0", ("f32[2, 3]",)),
        ("C3", "", ("f32[2, 3]", "f32[2]", "_")),
        ("C3", "axes_count=2", ("f32[2, 3]", "_", "f32[3]")),
    ),
    "rms_norm": (
        ("C1", "", ("i64[2, 3]", "_")),
        ("C2", "axis=2", ("f32[2, 3]", "_")),
        ("C3", "axis=0", ("f32[2, 3]", "f32[3]")),
    ),
    "group_norm": (
        ("C1", "groups=1", ("i64[2, 4]",)),
        ("C2", "groups=1", ("f32[2]",)),
        ("C2", "groups=1", ("f32[2, c]",)),
        ("C3", "groups=3", ("f32[2, 4]",)),
        ("C4", "groups=2", ("f32[2, 4]", "f32[2]", "_")),
    ),
    "batch_norm": (
        ("C1", "", ("f32[2, 4]", "f16[4]", "f32[4]")),
        ("C2", "", ("f32[2]", "f32[2]", "f32[2]")),
        ("C3", "", ("f32[2, 4]", "f32[4]", "f32[2]")),
        ("C3", "", ("f32[2, 4]", "f32[4]", "f32[4]", "_", "f32[2]")),
    ),
    "dft_real": (
        ("C1", "axes=[1]", ("f32[2]",)),
        ("C2", "axes=[0, -1]", ("f32[2]",)),
        ("C2", "axes=[]", ("f32[2]",)),
        ("C3", "axes=[0]", ("f16[2]",)),
    ),
}

ONE = "stride=[1], padding=[[0, 0]], dilation=[1]"
DECONV = "stride=[1], padding=[0], output_padding=[0], dilation=[1]"
COLUMN = "stride=[1, 1], padding=[0, 0], dilation=[1, 1]"
POOL = "stride=[2], padding=[[0, 0]]"

CONV: Breaches = {
    "conv": (
        ("C1", ONE, ("f32[1, 2]", "f32[3, 2, 3]", "_")),
        ("C1", ONE, ("i64[1, 2, 9]", "i64[3, 2, 3]", "_")),
        ("C2", ONE, ("f32[1, 2, 9]", "f16[3, 2, 3]", "_")),
        ("C3", ONE, ("f32[1, 2, 9]", "f32[3, 2, 3, 3]", "_")),
        ("C3", ONE, ("f32[1, 2, 9]", "f32[3, 2, k]", "_")),
        (
            "C4",
            "stride=[1, 1], padding=[[0, 0]], dilation=[1]",
            ("f32[1, 2, 9]", "f32[3, 2, 3]", "_"),
        ),
        ("C4", "stride=[0], padding=[[0, 0]], dilation=[1]", ("f32[1, 2, 9]", "f32[3, 2, 3]", "_")),
        (
            "C4",
            "stride=[1], padding=[[-1, 0]], dilation=[1]",
            ("f32[1, 2, 9]", "f32[3, 2, 3]", "_"),
        ),
        ("C5", ONE, ("f32[1, 4, 9]", "f32[3, 2, 3]", "_")),
        ("C5", ONE + ", groups=2", ("f32[1, 4, 9]", "f32[3, 2, 3]", "_")),
        ("C6", ONE, ("f32[1, 2, 9]", "f32[3, 2, 3]", "f32[2]")),
        ("C7", ONE, ("f32[1, 2, 2]", "f32[3, 2, 3]", "_")),
        ("C8", ONE + ", activations=static", ("f32[1, 2, 9]", "f32[3, 2, 3]", "_")),
        ("C8", ONE + ", x_scale=0.5", ("f32[1, 2, 9]", "f32[3, 2, 3]", "_")),
    ),
    "conv_transpose": (
        ("C1", DECONV, ("f32[1, 2]", "f32[2, 3, 3]", "_")),
        ("C2", DECONV, ("f32[1, 2, 9]", "f16[2, 3, 3]", "_")),
        ("C3", DECONV, ("f32[1, 2, 9]", "f32[2, 3]", "_")),
        (
            "C4",
            DECONV.replace("padding=[0]", "padding=[-1]", 1),
            ("f32[1, 2, 9]", "f32[2, 3, 3]", "_"),
        ),
        (
            "C4",
            DECONV.replace("stride=[1]", "stride=[1, 1]"),
            ("f32[1, 2, 9]", "f32[2, 3, 3]", "_"),
        ),
        (
            "C4",
            DECONV.replace("dilation=[1]", "dilation=[0]"),
            ("f32[1, 2, 9]", "f32[2, 3, 3]", "_"),
        ),
        ("C5", DECONV, ("f32[1, 4, 9]", "f32[2, 3, 3]", "_")),
        ("C5", DECONV + ", groups=2", ("f32[1, 3, 9]", "f32[3, 3, 3]", "_")),
        ("C6", DECONV, ("f32[1, 2, 9]", "f32[2, 3, 3]", "f32[2]")),
        (
            "C7",
            DECONV.replace("padding=[0]", "padding=[6]", 1),
            ("f32[1, 2, 9]", "f32[2, 3, 3]", "_"),
        ),
        (
            "C8",
            DECONV.replace("output_padding=[0]", "output_padding=[1]"),
            ("f32[1, 2, 9]", "f32[2, 3, 3]", "_"),
        ),
    ),
    "im2col": (
        ("C1", "kernel=[2, 2], " + COLUMN, ("f32[1, 2, 9]",)),
        ("C2", "kernel=[2], " + COLUMN, ("f32[1, 2, 9, 9]",)),
        ("C2", "kernel=[2, 0], " + COLUMN, ("f32[1, 2, 9, 9]",)),
        (
            "C2",
            "kernel=[2, 2], " + COLUMN.replace("padding=[0, 0]", "padding=[0, -1]"),
            ("f32[1, 2, 9, 9]",),
        ),
        ("C3", "kernel=[2, 10], " + COLUMN, ("f32[1, 2, 9, 9]",)),
    ),
    "col2im": (
        ("C1", "size=[3, 3], kernel=[2, 2], " + COLUMN, ("f32[1, 6, 4]",)),
        ("C1", "size=[3, 3], kernel=[2, 2], " + COLUMN, ("f32[8, 4]",)),
        ("C2", "size=[3], kernel=[2, 2], " + COLUMN, ("f32[1, 8, 4]",)),
        ("C2", "size=[3, 3], kernel=[2, 2, 2], " + COLUMN, ("f32[1, 8, 4]",)),
        ("C3", "size=[3, 3], kernel=[2, 2], " + COLUMN, ("f32[1, 8, 5]",)),
    ),
    "max_pool": (
        ("C1", f"kernel=[2], {POOL}, dilation=[1]", ("f32[2, 9]",)),
        ("C1", f"kernel=[2], {POOL}, dilation=[1]", ("i64[1, 2, 9]",)),
        ("C2", f"kernel=[2, 2], {POOL}, dilation=[1]", ("f32[1, 2, 9]",)),
        ("C2", f"kernel=[2], {POOL}, dilation=[0]", ("f32[1, 2, 9]",)),
        ("C3", "kernel=[2], stride=[2], padding=[[2, 0]], dilation=[1]", ("f32[1, 2, 9]",)),
        ("C4", f"kernel=[2], {POOL}, dilation=[9]", ("f32[1, 2, 9]",)),
    ),
    "avg_pool": (
        ("C1", f"kernel=[2], {POOL}", ("f32[2, 9]",)),
        ("C2", f"kernel=[2, 2], {POOL}", ("f32[1, 2, 9]",)),
        ("C2", f"kernel=[0], {POOL}", ("f32[1, 2, 9]",)),
        ("C3", "kernel=[2], stride=[2], padding=[[0, 2]]", ("f32[1, 2, 9]",)),
        ("C4", f"kernel=[10], {POOL}", ("f32[1, 2, 9]",)),
    ),
    "adaptive_avg_pool": (
        ("C1", "size=[2]", ("f32[2, 9]",)),
        ("C2", "size=[2, 2]", ("f32[1, 2, 9]",)),
        ("C2", "size=[0]", ("f32[1, 2, 9]",)),
    ),
    "resize": (
        ("C1", "size=[2], mode=linear", ("f32[2, 9]",)),
        ("C2", "size=[2, 2], mode=linear", ("f32[1, 2, 9]",)),
        ("C2", "size=[2], mode=linear, scale=[1.0, 1.0]", ("f32[1, 2, 9]",)),
        ("C3", "size=[2], mode=cubic", ("f32[1, 2, 9]",)),
        ("C4", "size=[2], mode=nearest, align_corners=True", ("f32[1, 2, 9]",)),
        ("C5", "size=[0], mode=nearest", ("f32[1, 2, 9]",)),
        ("C5", "size=[2], mode=nearest, scale=[0.0]", ("f32[1, 2, 9]",)),
    ),
    "grid_sample": (
        ("C1", "", ("f32[1, 2, 3, 3]", "f16[1, 4, 4, 2]")),
        ("C2", "", ("f32[1, 2, 3, 3]", "f32[1, 4, 4, 3]")),
        ("C3", "", ("f32[1, 2, 3, 3]", "f32[2, 4, 4, 2]")),
    ),
}

LAYER = "hidden=4, layers=1, bidirectional=False, bias=False"
_SIZES = {"lstm": (16, 2), "gru": (12, 1), "rnn": (4, 1)}


def recurrent() -> Breaches:
    found: Breaches = {}
    for op, (rows, states) in _SIZES.items():
        weights = (f"f32[{rows}, 3]", f"f32[{rows}, 4]")
        start = ("f32[1, 2, 4]",) * states
        late = ("f32[1, 5, 4]",) * states
        found[op] = (
            ("C1", LAYER, ("f16[2, 5, 3]", *start, *weights)),
            ("C2", LAYER, ("f32[2, 3]", *start, *weights)),
            ("C3", LAYER.replace("layers=1", "layers=0"), ("f32[2, 5, 3]", *start, *weights)),
            ("C4", LAYER, ("f32[2, 5, 3]", *late, *weights)),
            ("C4", LAYER + ", batch_first=False", ("f32[2, 5, 3]", *start, *weights)),
            ("C5", LAYER, ("f32[2, 5, 3]", *start, weights[0])),
            ("C5", LAYER.replace("bias=False", "bias=True"), ("f32[2, 5, 3]", *start, *weights)),
            ("C6", LAYER, ("f32[2, 5, 3]", *start, weights[1], weights[1])),
        )
    return found


TABLES = (ELEMENTWISE, REDUCE, MOVEMENT, LINEAR, CONV, recurrent())
BREACHES = [
    (op, *breach)
    for table in TABLES
    for ops, breaches in table.items()
    for op in ops.split()
    for breach in breaches
]
# What no breach can reach: every dtype is accepted.
UNREACHABLE = {("reduce_max", "C3"), ("reduce_min", "C3")}


def labels(op: type[Op]) -> set[str]:
    """The labels in the docstrings of an op and its bases."""
    docs = (c.__doc__ or "" for c in op.__mro__ if issubclass(c, Op) and c is not Op)
    return {label for text in docs for label in re.findall(r"\((C\d)\)", text)}


def test_every_label_has_a_breach() -> None:
    documented = {(name, label) for name, cls in OPS.items() for label in labels(cls)}
    assert {(op, label) for op, label, _, _ in BREACHES} == documented - UNREACHABLE


@pytest.mark.parametrize("op,label,attributes,operands", BREACHES)
def test_breach(op: str, label: str, attributes: str, operands: tuple[str, ...]) -> None:
    types = [None if o == "_" else Operand.parse(o).type for o in operands]
    with pytest.raises(TypeCheckError) as caught:
        parse_attributes(OPS[op], attributes, op).infer(*types)
    assert caught.value.where == op
    assert caught.value.need.endswith(f"({label})"), str(caught.value)
    assert re.match(rf"\[{op}\] got .+; need .+", str(caught.value), re.DOTALL)


@pytest.mark.parametrize(
    "op,operands",
    (
        ("add", ("f32[2]", "f32[3]")),
        ("eq", ("f32[n]", "f32[m]")),
        ("logical_and", ("bool[2, 2]", "bool[3]")),
        ("where", ("bool[2]", "f32[3]", "f32[]")),
        ("prelu", ("f32[2, 3]", "f32[2]")),
        ("matmul", ("f32[2, 3, 4]", "f32[3, 4, 5]")),
        ("gather_nd", ("f32[4, 4]", "i64[2]", "i64[3]")),
    ),
)
def test_shapes_that_do_not_broadcast(op: str, operands: tuple[str, ...]) -> None:
    with pytest.raises(TypeCheckError, match="need shapes that broadcast"):
        OPS[op]().infer(*(Operand.parse(o).type for o in operands))


@pytest.mark.parametrize(
    "op,attributes",
    (("gelu", "approximate=cubic"), ("softmax", "axes=[1]"), ("reshape", ""), ("topk", "k=1.5")),
)
def test_attributes_that_are_none(op: str, attributes: str) -> None:
    with pytest.raises(FormatError):
        parse_attributes(OPS[op], attributes, op)
