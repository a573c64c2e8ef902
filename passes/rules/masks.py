"""Exact rules for the idioms that masks and positions are made of."""

from __future__ import annotations

import math

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.encoding import Constant
from edgec.ir.graph import Value
from edgec.ir.op import Op
from edgec.ir.pattern import Pattern, Term, Var
from edgec.ir.rewrite import Rule, Site
from edgec.ir.types import DType
from edgec.passes.rules.facts import DEPTH, Counting, at_least, bounds, counting, fitted

# What models write for minus infinity: finfo.min of f32 or bf16. A finite number that every score
# vanishes against.
LOWEST = -1e30


# ------------------------------------------------------------------ comparison of positions
def ordered(p: Pattern) -> Term:
    return p.any_of("ge", "gt", "le", "lt")


def known_order(b: Site) -> Value | None:
    """A comparison that has the same result for all sizes: positions are not negative."""
    x, y = (v for v in map(b.operand, b.root.inputs) if v is not None)
    if not x.type.dtype.is_int:
        return None
    if b.root.op.name in ("le", "lt"):
        x, y = y, x
    left, right = bounds(b, x), bounds(b, y)
    strict = 1 if b.root.op.name in ("gt", "lt") else 0
    if at_least(left.low, _shifted(right.high, strict)):
        return _truth(b, True)
    if at_least(right.low, _shifted(left.high, 1 - strict)):
        return _truth(b, False)
    return None


def _shifted(bound: Dim | None, by: int) -> Dim | None:
    return None if bound is None else bound + by


def _truth(b: Site, value: bool) -> Value:
    made: Value = b.full(shape=b.root.output.type.shape, value=value, dtype=DType.BOOL)
    return made


# ------------------------------------------------------------------ indexing by positions
def indexed(p: Pattern) -> Term:
    return p.any_of("gather_nd")


def view_instead_of_index(b: Site) -> Value | None:
    """x[i, j] where i and j count along axes of their own: slices of x, permuted and reshaped.

    An index that is one number takes one slice.
    """
    x, *ids = (v for v in map(b.operand, b.root.inputs) if v is not None)
    target = b.root.output.type
    index_rank = target.rank - (x.type.rank - len(ids))
    places: dict[int, int] = {}  # axis of the result -> axis of x
    sizes: dict[int, Dim] = {}
    for axis, index in enumerate(ids):
        number = b.scalar_of(index)
        count = counting(b, index) if number is None else Counting(0, int(number), 1)
        place = -1 - axis if count is None or number is not None else count.axis % index_rank
        if count is None or place in places:
            return None
        x = _counted(b, x, axis, count)
        places[place] = axis
        sizes[place] = count.size
    order = [places[place] for place in sorted(places)]
    x = b.permute(x, order=(*order, *range(len(ids), x.type.rank)))
    shape = tuple(sizes.get(a, 1) for a in range(index_rank))
    x = b.reshape(x, shape=(*shape, *target.shape[index_rank:]))
    return fitted(b, x)


def _counted(b: Site, x: Value, axis: int, count: Counting) -> Value:
    """The part of x that an index reads along `axis`."""
    if count.start == 0 and dims.same(count.size, x.type.shape[axis]):
        return x
    stop = dims.normal(count.start + count.size)
    made: Value = b.slice(x, axis=axis, start=count.start, stop=stop)
    return made


def gathered(p: Pattern, x: Var, ids: Var, axis: Var) -> Term:
    return p.gather(x, ids, axis=axis)


def whole_axis(b: Site, x: Value, ids: Value, axis: int) -> Value | None:
    """All rows of a table in their order. A part of a stored table stays a gather."""
    count = counting(b, ids)
    if count is None or count.start != 0 or not dims.same(count.size, x.type.shape[axis]):
        return None
    shape = b.root.output.type.shape
    if not dims.same(dims.product(shape), x.type.numel):
        return None
    made: Value = b.reshape(x, shape=shape)
    return made


def same_row(p: Pattern, x: Var, row: Var, axis: Var) -> Term:
    return p.gather(x, p.uniform(row), axis=axis)


def one_row(b: Site, x: Value, row: int, axis: int) -> Value:
    """The same row everywhere, as token types without an input are: one slice, repeated."""
    axis %= x.type.rank
    part = b.slice(x, axis=axis, start=row, stop=row + 1)
    before, after = x.type.shape[:axis], x.type.shape[axis + 1 :]
    shape = b.root.output.type.shape
    ones = (1,) * (len(shape) - len(before) - len(after))
    made: Value = b.expand(b.reshape(part, shape=(*before, *ones, *after)), shape=shape)
    return made


def stored_positions(p: Pattern, x: Var) -> Term:
    return p.slice(p.constant(x))


def counted_positions(b: Site, x: Constant) -> Value | None:
    """A part of a stored 0, 1, 2, ...: the positions are counted instead."""
    count = counting(b, b.root.output)
    if count is None:
        return None
    kind = b.root.output.type
    positions = b.iota(size=count.size, start=count.start, dtype=kind.dtype)
    made: Value = b.reshape(positions, shape=kind.shape)
    return made


# ------------------------------------------------------------------ masks as numbers
def inverted_mask(p: Pattern, mask: Var, lowest: Var) -> Term:
    return p.mul(p.sub(p.uniform(1), p.cast(mask)), p.uniform(lowest))


def chosen_mask(b: Site, mask: Value, lowest: float) -> Value | None:
    """(1 - m) * lowest for a bool m: 0 where m holds, else `lowest`."""
    dtype = b.root.output.type.dtype
    if mask.type.dtype is not DType.BOOL or not math.isfinite(lowest):
        return None
    return fitted(b, b.where(mask, b.scalar(0.0, dtype), b.scalar(lowest, dtype)))


def number_mask(p: Pattern, q: Var, k: Var, v: Var, mask: Var, yes: Var, no: Var, op: Var) -> Term:
    return p.attention(q, k, v, p.where(mask, p.uniform(yes), p.uniform(no)), _op=op)


def _flag_mask(b: Site, mask: Value, yes: float, no: float, lowest: float) -> Value | None:
    """The bool mask that a choice between 0 and a number up to `lowest` stands for."""
    if yes == 0 and no <= lowest:
        return mask
    if no == 0 and yes <= lowest:
        made: Value = b.logical_not(mask)
        return made
    return None


def infinite_mask(
    b: Site, q: Value, k: Value, v: Value, mask: Value, yes: float, no: float, op: Op
) -> Value | None:
    """Minus infinity and False mean the same to attention, in rows that see nothing too."""
    flags = _flag_mask(b, mask, yes, no, -math.inf)
    return None if flags is None else b.emit(op, q, k, v, flags)


def lowest_mask(
    b: Site, q: Value, k: Value, v: Value, mask: Value, yes: float, no: float, op: Op
) -> Value | None:
    """As `infinite_mask` for a finite number; rows that see nothing give zeros, not a mean."""
    flags = _flag_mask(b, mask, yes, no, LOWEST)
    return None if flags is None else b.emit(op, q, k, v, flags)


def any_mask(p: Pattern, q: Var, k: Var, v: Var, mask: Var, op: Var) -> Term:
    return p.attention(q, k, v, mask, _op=op)


def without_mask(b: Site, q: Value, k: Value, v: Value, mask: Value, op: Op) -> Value | None:
    """A mask that hides nothing: True, or 0, everywhere."""
    number = b.scalar_of(mask)
    visible = number is True if mask.type.dtype is DType.BOOL else number == 0
    return b.emit(op, q, k, v) if visible else None


# ------------------------------------------------------------------ undefined casts
def truncated(p: Pattern, x: Var, dtype: Var) -> Term:
    return p.cast(x, dtype=dtype)


def clamped_before_cast(b: Site, x: Value, dtype: DType) -> Value | None:
    """Bound the logarithm of zero before it becomes an integer, which is undefined for infinity.

    T5 does this for its buckets and hides the result. A finite logarithm stays below 746 in size
    and is hardly scaled, so no defined value changes.
    """
    if not (dtype.is_int and x.type.dtype.is_float and _from_log(b, x)):
        return None
    bound = 2.0**24 if dtype.nbytes >= 4 else 127.0
    low = 0.0 if dtype is DType.U8 else -bound
    made: Value = b.cast(b.clamp(x, min=low, max=bound), dtype=dtype)
    return made


def _from_log(b: Site, x: Value, depth: int = DEPTH) -> bool:
    """Whether x is a logarithm, scaled or shifted by constants."""
    node = b.producer(x)
    if node is None or depth == 0:
        return False
    if node.op.name == "log":
        return True
    if node.op.name not in ("add", "sub", "mul", "div", "neg", "reshape", "expand", "permute"):
        return False
    sources = [b.operand(n) for n in node.inputs if b.scalar_of(str(n)) is None]
    return len(sources) == 1 and sources[0] is not None and _from_log(b, sources[0], depth - 1)


RULES = (
    Rule("known-order", ordered, known_order),
    Rule("index-by-positions", indexed, view_instead_of_index),
    Rule("gather-of-all", gathered, whole_axis),
    Rule("same-row", same_row, one_row, shared=True),
    Rule("stored-positions", stored_positions, counted_positions),
    Rule("inverted-mask", inverted_mask, chosen_mask, shared=True),
    Rule("infinite-mask", number_mask, infinite_mask, shared=True),
    Rule("visible-mask", any_mask, without_mask),
    Rule("clamp-logarithm", truncated, clamped_before_cast),
)

# Only where every query sees at least one key.
SEEING_RULES = (Rule("lowest-mask", number_mask, lowest_mask, shared=True),)
