"""What an op ties together: which axes of its operands and results hold the same units.

Most ops tie whole axes: `linear` the rows of its weight, its bias and the last axis of its result;
an elementwise op all axes that broadcast. These are tables of `Tie`s. Ops that cut or regroup an
axis are in `regrouping`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgec.ir import Node
from edgec.ops.activations import Prelu
from edgec.ops.comparison import Equality, Logical, LogicalNot, Where
from edgec.ops.elementwise import Binary, Cast, FloatUnary, Unary
from edgec.passes.structure.labels import Blocked, Labels
from edgec.passes.structure.regrouping import REGROUPING, Place, Types

ELEMENTWISE = (Unary, FloatUnary, Binary, Cast, Equality, Logical, LogicalNot, Where, Prelu)


@dataclass(frozen=True)
class Tie:
    """Places whose indices are units together.

    blocked     why no index may go, "" where it may
    summed      the op sums over the axis: units end here, what they gave is gone with them
    """

    places: tuple[Place, ...]
    blocked: str = ""
    summed: bool = False


def reached(
    node: Node, types: Types, place: Place, labels: Labels
) -> Iterator[tuple[Place, Labels, bool]]:
    """The other places that `labels` at `place` label, how, and whether the op sums over them.

    types    of operands and results by slot; absent operands have none
    Raises Blocked where the op mixes units.
    """
    special = REGROUPING.get(node.op.name)
    if special is not None:
        found = special(node, types, place, labels)
        if found is not None:
            yield from ((p, lab, False) for p, lab in found)
            return
    for tie in ties(node, types):
        if place in tie.places:
            if tie.blocked:
                raise Blocked(tie.blocked)
            yield from ((p, labels, tie.summed) for p in tie.places if p != place)
            return
    raise Blocked(f"{node.op.name} takes units apart")


def is_soft(node: Node, slot: int) -> bool:
    """Whether the units of an operand can be gathered where they cannot be removed at its source.

    Elementwise operands, and the mask of an attention.
    """
    return isinstance(node.op, ELEMENTWISE) or (node.op.name == "attention" and slot == 3)


# ------------------------------------------------------------------ ops that tie whole axes
def ties(node: Node, types: Types) -> list[Tie]:
    """The ties of an op, one per axis; no tie has a place of an op that is not known."""
    if isinstance(node.op, ELEMENTWISE):
        return _broadcast(types)
    table = _TIES.get(node.op.name)
    return [] if table is None else table(node, types)


def _broadcast(types: Types) -> list[Tie]:
    rank = types[-1].rank
    found = []
    for axis in range(rank):
        places = [(slot, axis - rank + t.rank) for slot, t in types.items()]
        fit = [(s, a) for s, a in places if a >= 0 and types[s].shape[a] != 1]
        found.append(Tie(tuple(fit)))
    return found


def _linear(node: Node, types: Types) -> list[Tie]:
    last = types[0].rank - 1
    rows = [(1, 0), (2, 0), (-1, last)] if 2 in types else [(1, 0), (-1, last)]
    leading = [Tie(((0, i), (-1, i))) for i in range(last)]
    return [*leading, Tie(tuple(rows)), Tie(((0, last), (1, 1)), summed=True)]


def _matmul(node: Node, types: Types) -> list[Tie]:
    a, b, y = types[0].rank, types[1].rank, types[-1].rank
    batch = {s: t.with_shape(*t.shape[:-2]) for s, t in types.items()}
    weight = (node.inputs[1] or "").startswith("@") and b == 2
    why = "" if weight else "a product sums over units that is none with a matrix of weights"
    found = _broadcast(batch) if y > 2 else []
    found += [Tie(((0, a - 2), (-1, y - 2))), Tie(((1, b - 1), (-1, y - 1)))]
    return [*found, Tie(((0, a - 1), (1, b - 2)), why, summed=True)]


def _conv(node: Node, types: Types) -> list[Tie]:
    op: Any = node.op
    rows = [(1, 0), (-1, 1), *([(2, 0)] if 2 in types else [])]
    batch = Tie(((0, 0), (-1, 0)))
    if op.groups == 1:
        return [batch, Tie(tuple(rows)), Tie(((0, 1), (1, 1)), summed=True)]
    depthwise = types[1].shape[0] == op.groups == types[0].shape[1]
    if depthwise:
        return [batch, Tie((*rows, (0, 1)))]
    return [batch, Tie((*rows, (0, 1), (1, 1)), "a convolution in groups")]


def _attention(node: Node, types: Types) -> list[Tie]:
    """All but the axis of heads, which `_heads` follows."""
    mask = types.get(3)
    offset = 4 - mask.rank if mask is not None else 4
    over_batch = mask is not None and offset == 0 and mask.shape[0] != 1
    batch = [(0, 0), (1, 0), (2, 0), (-1, 0), *([(3, 0)] if over_batch else [])]
    return [Tie(tuple(batch))]


def _norm(node: Node, types: Types) -> list[Tie]:
    op: Any = node.op
    rank = types[0].rank
    if node.op.name == "layer_norm":
        inside = set(range(rank - op.axes_count, rank))
    else:
        inside = {op.axis % rank}
    return _through(rank, inside, f"{node.op.name} over units")


def _along(node: Node, types: Types) -> list[Tie]:
    """softmax, cumsum, flip and others that mix along axes."""
    op: Any = node.op
    rank = types[0].rank
    axes = op.axes if hasattr(op, "axes") else (op.axis,)
    return _through(rank, {a % rank for a in axes}, f"{node.op.name} over units")


def _through(rank: int, inside: set[int], why: str) -> list[Tie]:
    return [Tie(((0, i), (-1, i)), why if i in inside else "") for i in range(rank)]


def _reduction(node: Node, types: Types) -> list[Tie]:
    op: Any = node.op
    rank = types[0].rank
    axes = {a % rank for a in (op.axes if hasattr(op, "axes") else (op.axis,))}
    found = [Tie(((0, a),), f"{node.op.name} over units") for a in sorted(axes)]
    rest = [i for i in range(rank) if i not in axes]
    moved = [Tie(((0, i), (-1, i if op.keep else n))) for n, i in enumerate(rest)]
    return found + moved


def _channels(node: Node, types: Types) -> list[Tie]:
    """Axis 1 of images with one number per channel: batch_norm, pooling."""
    rest = [(s, 0) for s in types if s > 0]
    return [Tie(((0, 0), (-1, 0))), Tie(((0, 1), (-1, 1), *rest))]


def _permute(node: Node, types: Types) -> list[Tie]:
    op: Any = node.op
    return [Tie(((0, source), (-1, i))) for i, source in enumerate(op.order)]


def _gather(node: Node, types: Types) -> list[Tie]:
    op: Any = node.op
    axis, width = op.axis % types[0].rank, types[1].rank
    before = [Tie(((0, i), (-1, i))) for i in range(axis)]
    ids = [Tie(((1, i), (-1, axis + i))) for i in range(width)]
    behind = [Tie(((0, i), (-1, i - 1 + width))) for i in range(axis + 1, types[0].rank)]
    return [*before, *ids, *behind, Tie(((0, axis),), "rows are gathered by index")]


def _expand(node: Node, types: Types) -> list[Tie]:
    shift = types[-1].rank - types[0].rank
    grown = [i for i in range(types[0].rank) if types[0].shape[i] == 1]
    kept = [Tie(((0, i), (-1, i + shift))) for i in range(types[0].rank) if i not in grown]
    return kept + [Tie(((-1, i),)) for i in [*range(shift), *(g + shift for g in grown)]]


def _pad(node: Node, types: Types) -> list[Tie]:
    op: Any = node.op
    cut = {i for i, pair in enumerate(op.pads) if pair != (0, 0)}
    return _through(types[0].rank, cut, "units are padded")


def _free(node: Node, types: Types) -> list[Tie]:
    """`full`: every element is the same."""
    return [Tie(((-1, i),)) for i in range(types[-1].rank)]


def _same_place(node: Node, types: Types) -> list[Tie]:
    """scatter_slice and take_along: all but the axis that they work on."""
    op: Any = node.op
    axis, found = op.axis % types[0].rank, []
    for i in range(types[0].rank):
        places = tuple((s, i) for s in types)
        found.append(Tie(places, f"{node.op.name} along units" if i == axis else ""))
    return found


_TIES: Mapping[str, Callable[[Node, Types], list[Tie]]] = {
    "linear": _linear,
    "matmul": _matmul,
    "conv": _conv,
    "attention": _attention,
    "layer_norm": _norm,
    "rms_norm": _norm,
    "softmax": _along,
    "log_softmax": _along,
    "cumsum": _along,
    "flip": _along,
    "dft_real": _along,
    "reduce_sum": _reduction,
    "reduce_mean": _reduction,
    "reduce_max": _reduction,
    "reduce_min": _reduction,
    "batch_norm": _channels,
    "max_pool": _channels,
    "avg_pool": _channels,
    "adaptive_avg_pool": _channels,
    "resize": _channels,
    "permute": _permute,
    "gather": _gather,
    "expand": _expand,
    "pad": _pad,
    "full": _free,
    "scatter_slice": _same_place,
    "take_along": _same_place,
}
