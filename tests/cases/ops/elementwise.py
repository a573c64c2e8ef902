"""Cases of unary functions, casts, arithmetic, comparison, logic and activations."""

from __future__ import annotations

from tests.cases.case import Case

DYNAMIC = ({"n": 1}, {"n": 7})
FLAT = "piecewise constant"

# op -> range of x
_UNARY = {
    "neg": "-2..2", "abs": "-2..2", "exp": "-4..4", "log": "0.1..8", "sqrt": "0.1..8",
    "rsqrt": "0.1..8", "reciprocal": "0.2..4", "sin": "-6..6", "cos": "-6..6", "tanh": "-3..3",
    "erf": "-3..3", "relu": "-2..2", "sigmoid": "-6..6", "silu": "-6..6", "hardsigmoid": "-5..5",
    "hardswish": "-5..5",
}  # fmt: skip
_ROUNDED = ("sign", "floor", "ceil", "round")
_SHAPES = ("f32[] {}", "f32[3, 5] {}", "f32[n, 2, 3, 1] {}")

UNARY = (
    *(
        Case(op, "", (shape.format(span),), sizes)
        for op, span in _UNARY.items()
        for shape, sizes in zip(_SHAPES, (({},), ({},), DYNAMIC), strict=True)
    ),
    *(Case(op, "", ("f32[3, 7] -3..3",), rough=FLAT) for op in _ROUNDED),
    *(Case(op, "", ("i64[3, 7] -3..3",)) for op in ("neg", "abs", "sign", "relu")),
    Case("neg", "", ("i32[n] -9..9",), DYNAMIC),
    Case("logical_not", "", ("bool[3, 4]",)),
    Case("logical_not", "", ("bool[n]",), DYNAMIC),
)

CASTS = (
    Case("cast", "dtype=f32", ("i64[5] -9..9",)),
    Case("cast", "dtype=f32", ("bool[n, 3]",), DYNAMIC),
    Case("cast", "dtype=i64", ("f32[11] -9..9",), rough=FLAT),
    Case("cast", "dtype=i64", ("i32[4] -9..9",)),
    Case("cast", "dtype=i32", ("i64[4] -9..9",)),
    Case("cast", "dtype=i64", ("bool[4]",)),
    Case("cast", "dtype=bool", ("i64[9] -1..1",)),
    Case("cast", "dtype=bool", ("f32[9] -1..1",)),
)

# pairs of shapes that broadcast, and sizes
_PAIRS: tuple[tuple[str, str, tuple[dict[str, int], ...]], ...] = (
    ("f32[3, 4]", "f32[3, 4]", ({},)),
    ("f32[2, 3, 4]", "f32[4]", ({},)),
    ("f32[]", "f32[5]", ({},)),
    ("f32[n, 1, 3]", "f32[1, 2, 1]", DYNAMIC),
    ("f32[n, 4]", "const f32[4]", DYNAMIC),
)
_ARITHMETIC = {
    "add": ("", ""), "sub": ("", ""), "mul": ("", ""), "div": ("", " 0.5..3"),
    "pow": (" 0.2..3", " -2..2"), "minimum": ("", ""), "maximum": ("", ""),
}  # fmt: skip
_WHOLE = ("add", "sub", "mul", "minimum", "maximum")

ARITHMETIC = (
    *(
        Case(op, "", (a + ranges[0], b + ranges[1]), sizes)
        for op, ranges in _ARITHMETIC.items()
        for a, b, sizes in _PAIRS
    ),
    *(Case(op, "", ("i64[3, 5] -9..9", "i64[5] -9..9")) for op in _WHOLE),
    Case("add", "", ("i32[n] -9..9", "i32[1] -9..9"), DYNAMIC),
    Case("pow", "", ("i64[3, 4] -4..4", "i64[4] 0..3")),
    Case("pow", "", ("f32[3, 4] -2..2", "f32[] 2..2"), rough="no derivative in the exponent"),
    Case("mod", "", ("f32[4, 5] -9..9", "f32[5] 0.7..3"), rough="jumps"),
    Case("mod", "", ("f32[4, 5] -9..9", "f32[5] -3..-0.7"), rough="jumps"),
    Case("mod", "", ("i64[4, 5] -9..9", "i64[5] 1..4")),
    Case("mod", "", ("i64[n, 5] -9..9", "i64[5] -4..-1"), DYNAMIC),
    Case("floor_div", "", ("f32[4, 5] -9..9", "f32[5] 0.7..3"), rough=FLAT),
    Case("floor_div", "", ("i64[4, 5] -9..9", "i64[5] 1..4")),
    Case("floor_div", "", ("i64[n, 5] -9..9", "i64[5] -4..-1"), DYNAMIC),
)

_ORDERS = ("lt", "le", "gt", "ge")
COMPARISON = (
    *(
        Case(op, "", operands, sizes)
        for op in ("eq", "ne", *_ORDERS)
        for operands, sizes in (
            (("i64[4, 6] -2..2", "i64[6] -2..2"), ({},)),
            (("f32[n, 1]", "f32[3]"), DYNAMIC),
        )
    ),
    *(Case(op, "", ("bool[8]", "bool[8]")) for op in ("eq", "ne")),
    *(
        Case(op, "", operands, sizes)
        for op in ("logical_and", "logical_or", "logical_xor")
        for operands, sizes in (
            (("bool[3, 8]", "bool[8]"), ({},)),
            (("bool[n, 1]", "bool[2]"), DYNAMIC),
        )
    ),
    Case("where", "", ("bool[3, 4]", "f32[3, 4]", "f32[3, 4]")),
    Case("where", "", ("bool[n, 1, 1]", "f32[3, 1]", "f32[]"), DYNAMIC),
    Case("where", "", ("bool[4]", "i64[2, 4] -9..9", "i64[] -9..9")),
    Case("where", "", ("bool[4]", "bool[4]", "bool[4]")),
)

ACTIVATIONS = (
    *(
        Case("gelu", attributes, (operand,), sizes)
        for attributes in ("", "approximate=tanh", "approximate=sigmoid")
        for operand, sizes in (("f32[3, 7] -4..4", ({},)), ("f32[n, 2, 3] -4..4", DYNAMIC))
    ),
    Case("softplus", "", ("f32[3, 9] -30..30",)),
    Case("softplus", "beta=2.5, threshold=3.0", ("f32[n, 9] -3..3",), DYNAMIC),
    Case("elu", "", ("f32[3, 7] -4..4",)),
    Case("elu", "alpha=0.4", ("f32[n, 7] -4..4",), DYNAMIC),
    Case("leaky_relu", "", ("f32[3, 7] -4..4",)),
    Case("leaky_relu", "slope=0.2", ("f32[n, 7] -4..4",), DYNAMIC),
    Case("prelu", "", ("f32[2, 5] -4..4", "const f32[5]")),
    Case("prelu", "", ("f32[n, 3, 4, 2] -4..4", "const f32[3, 1, 1]"), DYNAMIC),
    Case("prelu", "", ("f32[2, 3] -4..4", "const f32[1]")),
    Case("clamp", "min=-1.0, max=1.0", ("f32[3, 7] -4..4",)),
    Case("clamp", "min=0.5", ("f32[n, 7] -4..4",), DYNAMIC),
    Case("clamp", "max=0.5", ("f32[7] -4..4",)),
    Case("clamp", "", ("f32[7] -4..4",)),
    Case("clamp", "min=-3.0, max=5.0", ("i64[3, 7] -9..9",)),
)

CASES = (*UNARY, *CASTS, *ARITHMETIC, *COMPARISON, *ACTIVATIONS)
