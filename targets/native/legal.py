"""What the native target takes: every op that has a lowering; the rest is decomposed."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.ir import DType, Encoding, Op, TensorType
from edgec.ir.encoding import Dense
from edgec.ops.attention import Attention
from edgec.ops.movement import Pad
from edgec.ops.pool import AdaptiveAvgPool
from edgec.ops.recurrent import Recurrent
from edgec.ops.resize import Resize
from edgec.target import NATIVE, Support, Verdict
from edgec.targets.native.lower import LOWERINGS
from edgec.targets.native.lower_pool import ratio


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


def _static_heads(types: Sequence[TensorType | None]) -> bool:
    return all(t is not None and isinstance(t.shape[3], int) for t in types[:3])


def _resizable(op: Resize, types: Sequence[TensorType | None]) -> bool:
    x = types[0]
    if x is None or x.dtype is DType.F64:
        return False
    pairs = zip(x.shape[2:], op.size, strict=True)
    return all(ratio(op, i, old, new) is not None for i, (old, new) in enumerate(pairs))


def encoding_verdict(encoding: Encoding) -> Verdict:
    """How a constant of this encoding is stored."""
    match encoding:
        case Dense(as_dtype=None):
            return NATIVE
    return Verdict(Support.WIDENED, "decoded at build time")
