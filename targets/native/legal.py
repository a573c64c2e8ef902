"""What the native target takes: every op that has a lowering; the rest is decomposed."""

from __future__ import annotations

from collections.abc import Sequence

from edgec import patterns
from edgec.ir import DType, Op, Program, TensorType
from edgec.ops.attention import Attention
from edgec.ops.linear import Linear
from edgec.ops.movement import Pad
from edgec.ops.pool import AdaptiveAvgPool
from edgec.ops.recurrent import Recurrent
from edgec.ops.resize import Resize
from edgec.passes.fold_constants import FoldConstants
from edgec.target import NATIVE, Support, Verdict
from edgec.targets.native.encodings import encoding_verdict
from edgec.targets.native.lower import LOWERINGS
from edgec.targets.native.lower_pool import ratio

#: Ops whose kernels compute in f32 alone.
SINGLE = ("attention", "conv", "conv_transpose", "layer_norm", "rms_norm", "group_norm")

#: EDGEC_MAX_RANDOM_PARTS of runtime/include/edgec/block_table.h.
MAX_RANDOM_PARTS = 8


def with_constant_weights(program: Program) -> Program:
    """The program with constants folded, where a convolution's weight is computed: its kernels read
    packed constants. A program that was cleaned up has none that can be folded."""
    nodes = [n for g in program.graphs.values() for n in g.nodes]
    weights = [n.inputs[1] for n in nodes if n.op.name in ("conv", "conv_transpose")]
    if all(w is None or w.startswith("@") for w in weights):
        return program
    return FoldConstants().apply(program.copy()).program


def op_verdict(op: Op, types: Sequence[TensorType | None]) -> Verdict:
    """Whether an op over operands of these types has a lowering of its own."""
    if op.name not in LOWERINGS:
        return Verdict(Support.DECOMPOSED, "no kernel of its own")
    if reason := _limit(op, types):
        return Verdict(Support.DECOMPOSED, reason)
    return NATIVE


def _limit(op: Op, types: Sequence[TensorType | None]) -> str:
    """Why this instance of an op needs its decomposition; "" where it does not."""
    match op:
        case Attention() if not _static_heads(types):
            return "the head dimension is not a number"
        case Attention() if _random_parts(op.pattern) > MAX_RANDOM_PARTS:
            return f"more than {MAX_RANDOM_PARTS} random parts in a pattern"
        case _ if op.name in SINGLE and _is_f64(types):
            return "computed in f32"
        case Linear() if op.activations != "none" and not _is_f32(types):
            return "activations are rounded in f32"
        case Recurrent() if op.layers * op.directions > 1:
            return "layers and directions run one by one"
        case Recurrent() if any(t is not None and t.dtype is not DType.F32 for t in types):
            return "cells are computed in f32"
        case AdaptiveAvgPool() if all(n == 1 for n in op.size):
            return "a mean of whole planes"
        case Resize() if not _resizable(op, types):
            return "a ratio that is known at run time, or f64"
        case Pad() if op.mode != "constant":
            return "reflect and edge are gathers"
    return ""


def _random_parts(pattern: str) -> int:
    parts = patterns.parse(pattern).parts if pattern else ()
    return sum(isinstance(p, patterns.RandomBlocks) for p in parts)


def _is_f64(types: Sequence[TensorType | None]) -> bool:
    return any(t is not None and t.dtype is DType.F64 for t in types)


def _is_f32(types: Sequence[TensorType | None]) -> bool:
    return all(t is None or t.dtype is DType.F32 for t in types)


def _static_heads(types: Sequence[TensorType | None]) -> bool:
    return all(t is not None and isinstance(t.shape[3], int) for t in types[:3])


def _resizable(op: Resize, types: Sequence[TensorType | None]) -> bool:
    x = types[0]
    if x is None or x.dtype is DType.F64:
        return False
    pairs = zip(x.shape[2:], op.size, strict=True)
    return all(ratio(op, i, old, new) is not None for i, (old, new) in enumerate(pairs))


__all__ = ["encoding_verdict", "op_verdict", "with_constant_weights"]
