"""Calls that change no value at inference: they vanish."""

from __future__ import annotations

from typing import Any

from edgec.capture.call import Call
from edgec.capture.registry import aten
from edgec.ir.graph import Value


@aten(
    "alias",
    "alias_copy",
    "clone",
    "contiguous",
    "detach",
    "detach_copy",
    "lift",
    "lift_fresh",
    "lift_fresh_copy",
    "positive",
    "resolve_conj",
    "resolve_neg",
    "conj_physical",
    "_conj",
    "_conj_physical",
)
def identity(c: Call, x: Value, *_: Any) -> Value:
    """The value itself. (Complex values have rules of their own and do not come here.)"""
    return x


@aten("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def dropout(c: Call, x: Value, p: float, train: bool) -> Value:
    if train and p > 0:
        c.fail(f"dropout with p={p} at inference; pass training=self.training")
    return x


@aten("native_dropout")
def native_dropout(c: Call, x: Value, p: float, train: bool | None) -> tuple[Value, Value]:
    return dropout(c, x, p, bool(train)), c.full(True, c.types[1].dtype, x.type.shape)  # type: ignore[union-attr]


@aten("to.dtype", "to.dtype_layout", "to.device", "to.other", "_to_copy", "type_as")
def to(c: Call, x: Value, *_: Any) -> Value:
    return c.cast(x, c.dtype)
