"""Ops that cut or regroup an axis of units: reshape, slice, concat, attention in groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from edgec.ir import Node, TensorType
from edgec.passes.structure.labels import Blocked, Labels, regrouped
from edgec.patterns import parse

Place: TypeAlias = tuple[int, int]
"""(slot, axis): slots 0, 1, ... are operands, -1, -2, ... results."""

Types: TypeAlias = Mapping[int, TensorType]
"""Of operands and results, by slot; absent operands have none."""

Found: TypeAlias = Sequence[tuple[Place, Labels]]


def _reshape(node: Node, types: Types, place: Place, labels: Labels) -> Found:
    slot, axis = place
    other = -1 if slot == 0 else 0
    to, made = regrouped(labels, types[slot].shape, axis, types[other].shape)
    return [((other, to), made)]


def _slice(node: Node, types: Types, place: Place, labels: Labels) -> Found | None:
    op: Any = node.op
    slot, axis = place
    if axis != op.axis % types[0].rank:
        return [((-1 if slot == 0 else 0, axis), labels)]
    size = types[0].shape[axis]
    stop = size if op.stop is None else op.stop
    numbers = all(isinstance(d, int) for d in (op.start, stop, size))
    if not numbers or op.step != 1:
        raise Blocked("a slice of units with a step or named dimensions")
    if slot == 0:
        return [((-1, axis), labels.part(op.start, stop))]
    return [((0, axis), labels.placed(op.start, size))]


def _concat(node: Node, types: Types, place: Place, labels: Labels) -> Found | None:
    op: Any = node.op
    slot, axis = place
    if axis != op.axis % types[-1].rank:
        return [((s, axis), labels) for s in types if s != slot]
    total, start, found = types[-1].shape[axis], 0, []
    for s in sorted(s for s in types if s >= 0):
        size = types[s].shape[axis]
        if not isinstance(size, int) or not isinstance(total, int):
            raise Blocked("units are joined along a named dimension")
        if slot == -1:
            found.append(((s, axis), labels.part(start, start + size)))
        elif slot == s:
            return [((-1, axis), labels.placed(start, total))]
        start += size
    return found


def _heads(node: Node, types: Types, place: Place, labels: Labels) -> Found | None:
    """Axis 1 of an attention: H heads of queries, results and masks, Hk of keys and values."""
    op: Any = node.op
    slot, axis = place
    mask = types.get(3)
    at = mask.rank - 3 if mask is not None else -1
    masked = mask is not None and at >= 0 and mask.shape[at] != 1
    if axis != (at if slot == 3 else 1) or (slot == 3 and not masked):
        return None
    many, few = types[0].shape[1], types[1].shape[1]
    if not isinstance(many, int) or not isinstance(few, int):
        raise Blocked("a number of heads that is a named dimension")
    if op.pattern and parse(op.pattern).head_period > 1:
        raise Blocked("a pattern in which each head has tokens of its own")
    if slot == 3:
        raise Blocked("a mask that another attention reads")
    size = many // few
    flat = labels.flat
    heads = Labels.of([u for u in flat for _ in range(size)]) if slot in (1, 2) else labels
    whole = all(len(set(flat[i : i + size])) == 1 for i in range(0, many, size))
    found = [((0, 1), heads), ((-1, 1), heads), *([((3, at), heads)] if masked else [])]
    if slot in (1, 2):
        found += [((s, 1), labels) for s in (1, 2)]
    elif whole:
        found += [((s, 1), Labels.of(flat[::size])) for s in (1, 2)]
    return [(p, lab) for p, lab in found if p != place]


REGROUPING: Mapping[str, Callable[[Node, Types, Place, Labels], Found | None]] = {
    "reshape": _reshape,
    "slice": _slice,
    "concat": _concat,
    "attention": _heads,
}
