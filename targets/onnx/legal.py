"""What onnxruntime executes: element types per op, and how each encoding of a constant is written.

An op whose kernel lacks an element type is computed in a wider one that holds all its values,
between casts: half precision in f32, small integers in i32. That is what the op means, since a
result is rounded, or wrapped, to its own type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgec.ir import DType, Encoding, Op, TensorType, dims
from edgec.ir.dims import Dim
from edgec.ir.encoding import Dense
from edgec.ir.encodings import Affine, Lut, Outliers, Sparse
from edgec.ops.attention import Attention
from edgec.ops.conv import Conv
from edgec.ops.linear import Linear
from edgec.ops.normalize import LayerNorm
from edgec.ops.pool import AdaptiveAvgPool
from edgec.ops.resize import Resize
from edgec.target import NATIVE, Support, Verdict

F64, F32, F16, BF16 = DType.F64, DType.F32, DType.F16, DType.BF16
I64, I32, I16, I8, U8, BOOL = DType.I64, DType.I32, DType.I16, DType.I8, DType.U8, DType.BOOL

ANY = frozenset(DType)
REAL = frozenset({F32, F64})
SINGLE = frozenset({F32})
WIDE = REAL | {I64, I32}
NUMBERS = WIDE | {I16, I8, U8}
TRUTH = frozenset({BOOL})

# IR op -> element types of its data operands that onnxruntime 1.31 has CPU kernels for; ops that
# are missing here are decomposed. Half precision is left out of arithmetic: the runtime itself
# would insert the casts, at places of its own choice.
KERNELS: Mapping[str, frozenset[DType]] = {
    **dict.fromkeys(("exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tanh"), REAL),
    **dict.fromkeys(("floor", "ceil", "round", "sigmoid", "silu", "softmax", "log_softmax"), REAL),
    **dict.fromkeys(("erf", "gelu", "elu", "leaky_relu", "hardsigmoid", "hardswish"), SINGLE),
    **dict.fromkeys(("softplus", "prelu"), SINGLE),
    **dict.fromkeys(("neg", "sign"), NUMBERS - {U8}),
    **dict.fromkeys(("abs", "eq", "ne", "lt", "le", "gt", "ge"), NUMBERS),
    "eq": NUMBERS | TRUTH,
    "ne": NUMBERS | TRUTH,
    **dict.fromkeys(("add", "sub", "mul"), NUMBERS),
    **dict.fromkeys(("minimum", "maximum", "relu", "clamp"), NUMBERS - {I16}),
    "div": REAL,
    **dict.fromkeys(("pow", "floor_div", "mod", "matmul", "cumsum", "reduce_sum"), WIDE),
    "reduce_mean": REAL,
    **dict.fromkeys(("reduce_max", "reduce_min"), WIDE | {I8, U8, BOOL}),
    **dict.fromkeys(("argmax", "argmin"), WIDE | {I8, U8}),
    "topk": NUMBERS,
    **dict.fromkeys(("logical_not", "logical_and", "logical_or", "logical_xor"), TRUTH),
    "where": NUMBERS - {I16},
    **dict.fromkeys(("reshape", "permute", "slice", "flip", "concat", "cast"), ANY),
    **dict.fromkeys(("gather", "take_along", "gather_nd"), ANY),
    "expand": ANY - {BF16},
    "pad": ANY - {BF16, F16, I16},
    "full": ANY - {BF16},
    "iota": WIDE,
    "dim_value": ANY,
    **dict.fromkeys(("linear", "attention", "layer_norm", "rms_norm"), REAL),
    **dict.fromkeys(("group_norm", "batch_norm"), SINGLE),
    **dict.fromkeys(("conv", "conv_transpose", "max_pool", "avg_pool"), SINGLE),
    **dict.fromkeys(("adaptive_avg_pool", "resize", "grid_sample"), SINGLE),
    **dict.fromkeys(("lstm", "gru", "rnn"), SINGLE),
}

# The next wider type that holds every value of a type.
WIDER: Mapping[DType, DType] = {BF16: F32, F16: F32, U8: I32, I8: I32, I16: I32, I32: I64, BOOL: U8}


def data_type(op: Op, types: Sequence[TensorType | None]) -> DType | None:
    """Element type that an op computes in: its data operand's, or its attribute; else None."""
    own = getattr(op, "dtype", None)
    if not types:
        return own if isinstance(own, DType) else None
    first = types[1] if op.name == "where" else types[0]
    return first.dtype if first is not None else None


def compute_type(op: Op, types: Sequence[TensorType | None]) -> DType | None:
    """Element type that the op's kernel runs in; None where onnxruntime has no such kernel."""
    kernels = KERNELS.get(op.name, frozenset())
    dtype = data_type(op, types)
    while dtype is not None and dtype not in kernels:
        dtype = WIDER.get(dtype)
    return dtype


def op_verdict(op: Op, types: Sequence[TensorType | None]) -> Verdict:
    """Whether an op over operands of these types has a lowering of its own.

    The reason of a verdict that is not native says what is missing; whether the op can be
    decomposed is decided where there is a graph to try it on.
    """
    if op.name not in KERNELS:
        return Verdict(Support.DECOMPOSED, "no operator of its own")
    if compute_type(op, types) is None:
        dtype = data_type(op, types)
        kind = dtype.value if dtype is not None else "this"
        return Verdict(Support.UNSUPPORTED, f"no {kind} kernel in onnxruntime")
    return Verdict(Support.DECOMPOSED, why) if (why := _limit(op, types)) else NATIVE


# What an op with a kernel of its own is decomposed for all the same.
LIMITS: Mapping[str, str] = {
    "attention": "a pattern is computed in blocks",
    "layer_norm": "LayerNormalization needs a weight; without one its size has to be static",
    "adaptive_avg_pool": "only GlobalAveragePool is of any use: size 1 along every axis",
    "resize": "nearest by a factor that is not whole: Resize rounds places unlike torch",
    "linear": "activations are quantized in f32 only",
    "conv": "activations are quantized in f32 only",
}


def _limit(op: Op, types: Sequence[TensorType | None]) -> str:
    """Why this instance of an op needs its decomposition; "" where it does not."""
    return LIMITS[op.name] if _is_limited(op, types) else ""


def _is_limited(op: Op, types: Sequence[TensorType | None]) -> bool:
    x = types[0] if types else None
    match op:
        case Attention():
            return op.pattern != ""
        case LayerNorm() if x is not None:
            static = all(isinstance(d, int) for d in x.shape[-op.axes_count :])
            return not static and (len(types) < 2 or types[1] is None)
        case AdaptiveAvgPool():
            return set(op.size) != {1}
        case Resize(mode="nearest") if x is not None:
            scales = op.scale or (None,) * len(op.size)
            return not all(map(_is_multiple, op.size, x.shape[2:], scales))
        case Linear() | Conv():
            return op.activations != "none" and compute_type(op, types) is not F32
    return False


def _is_multiple(size: Dim, old: Dim, scale: float | None) -> bool:
    """Whether size = f old with a whole f, for all values of the names; a scale is f as well."""
    factor = dims.floordiv(size, old) if isinstance(old, int) else dims.normal(size / old)
    if not isinstance(factor, int) or scale not in (None, factor):
        return False
    return dims.same(size, dims.normal(old * factor))


def encoding_verdict(encoding: Encoding) -> Verdict:
    """How a constant of this encoding is written; the bytes are those of `Encoding.parts`.

    "On opening" are nodes that read constants alone: onnxruntime runs them once.
    """
    match encoding:
        case Dense(as_dtype=None):
            return NATIVE
        case Dense():
            return _decoded("Cast on opening")
        case Affine(bits=8):
            return _decoded("int8 codes; Cast and Mul on opening, or integer products")
        case Affine(axis=0, bits=2 | 4):
            return _decoded("MatMulNBits, GatherBlockQuantized, or bit operations on opening")
        case Affine():
            return _decoded("packed codes; bit operations on opening")
        case Lut():
            return _decoded("packed indices; Gather from the table on opening")
        case Sparse():
            return _around(encoding.values, "mask bits and kept values; spread on opening")
        case Outliers():
            return _around(encoding.base, "outliers are put into the base on opening")
    return Verdict(Support.UNSUPPORTED, f"no decoder for {encoding.kind}")


def _decoded(how: str) -> Verdict:
    return Verdict(Support.DECODED, how)


def _around(inner: Encoding, how: str) -> Verdict:
    """The verdict on an encoding around another one."""
    verdict = encoding_verdict(inner)
    return verdict if verdict.support is Support.UNSUPPORTED else _decoded(how)
