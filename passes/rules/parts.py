"""Exact rules for parts of tensors: slices and what they are joined to."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.ir import dims
from edgec.ir.dims import Dim, Shape
from edgec.ir.graph import Value
from edgec.ir.pattern import Pattern, Term, Var
from edgec.ir.rewrite import Rule, Site
from edgec.ops.movement import Concat, Slice


# ------------------------------------------------------------------ slices of slices and views
def two_slices(p: Pattern, x: Var, inner: Var, outer: Var) -> Term:
    return p.slice(p.slice(x, _op=inner), _op=outer)


def one_slice(b: Site, x: Value, inner: Slice, outer: Slice) -> Value | None:
    """Only slices of the same axis with step 1."""
    axis = inner.axis % x.type.rank
    if axis != outer.axis % x.type.rank or inner.step != 1 or outer.step != 1:
        return None
    length = b.root.output.type.shape[axis]
    start = dims.normal(inner.start + outer.start)
    made: Value = b.slice(x, axis=axis, start=start, stop=dims.normal(start + length))
    return made


def slice_of_permute(p: Pattern, x: Var, order: Var, part: Var) -> Term:
    return p.slice(p.permute(x, order=order), step=1, _op=part)


def slice_then_ones(b: Site, x: Value, order: tuple[int, ...], part: Slice) -> Value | None:
    """One index of an axis: without that axis the permute may move nothing."""
    axis = part.axis % len(order)
    target = b.root.output.type
    moved = [a for i, a in enumerate(order) if i != axis and x.type.shape[a] != 1]
    if target.shape[axis] != 1 or moved != sorted(moved):
        return None
    stop = dims.normal(part.start + 1)
    cut = b.slice(x, axis=order[axis], start=part.start, stop=stop)
    made: Value = b.reshape(cut, shape=target.shape)
    return made


def slice_of_reshape(p: Pattern, x: Var, part: Var) -> Term:
    return p.slice(p.reshape(x), step=1, _op=part)


def slice_then_reshape(b: Site, x: Value, part: Slice) -> Value | None:
    """One index of an axis that was split off, as queries, keys and values from one product are."""
    between = b.operand(b.root.inputs[0])
    assert between is not None
    target = b.root.output.type.shape
    axis = part.axis % len(target)
    found = _split_axis(x.type.shape, between.type.shape, axis)
    if found is None or target[axis] != 1:
        return None
    source, factor = found
    start = dims.normal(part.start * factor)
    cut = b.slice(x, axis=source, start=start, stop=dims.normal(start + factor))
    made: Value = b.reshape(cut, shape=target)
    return made


def _split_axis(source: Shape, target: Shape, axis: int) -> tuple[int, int] | None:
    """(a, n): index i of `axis` after the reshape is n i to n (i + 1) of axis a before it."""
    size, outer = target[axis], dims.product(target[:axis])
    if not isinstance(size, int) or size < 2:
        return None
    for a, whole in enumerate(source):
        if isinstance(whole, int) and whole > 1 and whole % size == 0:
            if dims.same(dims.product(source[:a]), outer):
                return a, whole // size
    return None


# ------------------------------------------------------------------ concat
def a_concat(p: Pattern) -> Term:
    return p.any_of("concat")


def shorter_concat(b: Site) -> Value | None:
    """One operand alone, empty operands dropped, neighbouring slices of one value joined."""
    assert isinstance(b.root.op, Concat)
    axis = b.root.op.axis % b.root.output.type.rank
    given = [v for v in map(b.operand, b.root.inputs) if v is not None]
    parts = [v for v in given if v.type.shape[axis] != 0] or given[:1]
    parts = _joined(b, parts, axis)
    if len(parts) == 1:
        return parts[0]
    if len(parts) == len(given):
        return None
    made: Value = b.concat(*parts, axis=axis)
    return made


def _joined(b: Site, parts: Sequence[Value], axis: int) -> list[Value]:
    out: list[Value] = []
    ends: list[tuple[Value, Dim, Dim] | None] = []
    for part in parts:
        span = _span(b, part, axis)
        last = ends[-1] if ends else None
        if span and last and span[0].name == last[0].name and dims.same(last[2], span[1]):
            start, stop = last[1], span[2]
            whole = start == 0 and dims.same(stop, span[0].type.shape[axis])
            cut = span[0] if whole else b.slice(span[0], axis=axis, start=start, stop=stop)
            out[-1], ends[-1] = cut, (span[0], start, stop)
        else:
            out.append(part)
            ends.append(span)
    return out


def _span(b: Site, part: Value, axis: int) -> tuple[Value, Dim, Dim] | None:
    """(x, start, stop) where `part` is x[start:stop] along `axis`."""
    node = b.producer(part)
    if node is None or not isinstance(node.op, Slice) or node.op.step != 1:
        return None
    if node.op.axis % part.type.rank != axis:
        return None
    source = b.operand(node.inputs[0])
    assert source is not None
    return source, node.op.start, dims.normal(node.op.start + part.type.shape[axis])


def slice_of_concat(p: Pattern, whole: Var, part: Var) -> Term:
    return p.slice(whole, step=1, _op=part)


def operand_of_concat(b: Site, whole: Value, part: Slice) -> Value | None:
    """The operand that the slice lies in; a slice of it where it is only a part."""
    node = b.producer(whole)
    axis = part.axis % whole.type.rank
    if node is None or not isinstance(node.op, Concat) or node.op.axis % whole.type.rank != axis:
        return None
    length = b.root.output.type.shape[axis]
    offset: Dim = 0
    for name in node.inputs:
        value = b.operand(name)
        assert value is not None
        size = value.type.shape[axis]
        start = dims.normal(part.start - offset)
        room = dims.normal(size - start - length)
        if isinstance(start, int) and start >= 0 and isinstance(room, int) and room >= 0:
            stop = dims.normal(start + length)
            made: Value = b.slice(value, axis=axis, start=start, stop=stop)
            return made
        offset = dims.normal(offset + size)
    return None


RULES = (
    Rule("slice-of-slice", two_slices, one_slice, shared=True),
    Rule("slice-of-permute", slice_of_permute, slice_then_ones, shared=True),
    Rule("slice-of-reshape", slice_of_reshape, slice_then_reshape, shared=True),
    Rule("shorter-concat", a_concat, shorter_concat),
    Rule("slice-of-concat", slice_of_concat, operand_of_concat),
)
