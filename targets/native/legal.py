"""What the native target takes: every op that has a lowering; the rest is decomposed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

from edgec import patterns
from edgec.ir import DType, Op, TensorType
from edgec.ops.attention import Attention
from edgec.ops.linear import Linear
from edgec.ops.movement import Pad
from edgec.ops.pool import AdaptiveAvgPool
from edgec.ops.recurrent import Recurrent
from edgec.ops.resize import Resize
from edgec.target import NATIVE, Support, Verdict
from edgec.targets.native.lower import LOWERINGS
from edgec.targets.native.lower_pool import ratio

Types: TypeAlias = Sequence[TensorType | None]
Limit: TypeAlias = tuple[Callable[[Op, Types], bool], str]

#: Ops that are limited by this alone: their kernels compute in f32.
SINGLE = ("conv", "conv_transpose", "layer_norm", "rms_norm", "group_norm")

#: EDGEC_MAX_RANDOM_PARTS of runtime/include/edgec/block_table.h.
MAX_RANDOM_PARTS = 8


def op_verdict(op: Op, types: Types) -> Verdict:
    """Whether an op over operands of these types has a lowering of its own."""
    if op.name not in LOWERINGS:
        return Verdict(Support.DECOMPOSED, "no kernel of its own")
    if reason := _limit(op, types):
        return Verdict(Support.DECOMPOSED, reason)
    return NATIVE


def _limit(op: Op, types: Types) -> str:
    """Why this instance of an op needs its decomposition; "" where it does not."""
    return next((why for holds, why in LIMITS.get(op.name, ()) if holds(op, types)), "")


def _random_parts(pattern: str) -> int:
    parts = patterns.parse(pattern).parts if pattern else ()
    return sum(isinstance(p, patterns.RandomBlocks) for p in parts)


def _is_f64(types: Types) -> bool:
    return any(t is not None and t.dtype is DType.F64 for t in types)


def _is_f32(types: Types) -> bool:
    return all(t is None or t.dtype is DType.F32 for t in types)


def _static_heads(types: Types) -> bool:
    return all(t is not None and isinstance(t.shape[3], int) for t in types[:3])


def _resizable(op: Resize, types: Types) -> bool:
    x = types[0]
    if x is None or x.dtype is DType.F64:
        return False
    pairs = zip(x.shape[2:], op.size, strict=True)
    return all(ratio(op, i, old, new) is not None for i, (old, new) in enumerate(pairs))


def _one_by_one(op: Op, types: Types) -> bool:
    assert isinstance(op, Recurrent)
    return op.layers * op.directions > 1


_DOUBLE: Limit = (lambda op, types: _is_f64(types), "computed in f32, not f64")
_LAYERS: Limit = (_one_by_one, "layers and directions run one by one")
_CELLS: Limit = (lambda op, types: not _is_f32(types), "cells are computed in f32")

#: What an op with kernels of its own is decomposed for all the same.
LIMITS: Mapping[str, tuple[Limit, ...]] = {
    **dict.fromkeys(SINGLE, (_DOUBLE,)),
    "attention": (
        (lambda op, types: not _static_heads(types), "the head dimension is not a number"),
        (
            lambda op, types: _random_parts(cast(Attention, op).pattern) > MAX_RANDOM_PARTS,
            f"more than {MAX_RANDOM_PARTS} random parts in a pattern",
        ),
        _DOUBLE,
    ),
    "linear": (
        (
            lambda op, types: cast(Linear, op).activations != "none" and not _is_f32(types),
            "activations are rounded in f32",
        ),
    ),
    **dict.fromkeys(("lstm", "gru", "rnn"), (_LAYERS, _CELLS)),
    "adaptive_avg_pool": (
        (
            lambda op, types: all(n == 1 for n in cast(AdaptiveAvgPool, op).size),
            "a mean of whole planes",
        ),
    ),
    "resize": (
        (
            lambda op, types: not _resizable(cast(Resize, op), types),
            "a ratio that is known at run time, or f64",
        ),
    ),
    "pad": (
        (
            lambda op, types: cast(Pad, op).mode != "constant",
            "reflect and edge are gathers",
        ),
    ),
}
