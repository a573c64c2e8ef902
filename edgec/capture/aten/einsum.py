"""einsum: two operands at a time, each pair one batched matrix product or one broadcast product."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgec.capture.aten.linear import weight_of
from edgec.capture.call import Call
from edgec.capture.registry import aten
from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.graph import Value


@dataclass(frozen=True)
class Term:
    """A value whose axes have labels; the axes of an ellipsis are "0", "1", ... from the left."""

    value: Value
    labels: tuple[str, ...]

    def size(self, label: str) -> Dim:
        return self.value.type.shape[self.labels.index(label)]


@aten("einsum")
def einsum(c: Call, equation: str, xs: Sequence[Value], path: object) -> Value:
    sources, _, result = equation.replace(" ", "").partition("->")
    parts = sources.split(",")
    ellipsis = max(
        (
            x.type.rank - len(p.replace("...", ""))
            for p, x in zip(parts, xs, strict=True)
            if "." in p
        ),
        default=0,
    )
    values = c.promoted(*xs, dtype=c.dtype)
    terms = [
        _diagonal(c, Term(x, _labels(p, ellipsis, x.type.rank)))
        for p, x in zip(parts, values, strict=True)
    ]
    out = _labels(result, ellipsis, None) if "->" in equation else _implied(parts, ellipsis)
    total = terms[0]
    for i, term in enumerate(terms[1:], 2):
        needed = set(out).union(*(t.labels for t in terms[i:]))
        total = _pair(c, total, term, needed)
    total = _summed(c, total, set(out))
    return c.permute(total.value, [total.labels.index(x) for x in out])


def _labels(part: str, ellipsis: int, rank: int | None) -> tuple[str, ...]:
    """Labels of one operand; an ellipsis of fewer axes than the widest has the last ones."""
    before, dots, after = part.partition("...")
    if not dots:
        return tuple(part)
    count = ellipsis if rank is None else rank - len(before) - len(after)
    return (*before, *(str(i) for i in range(ellipsis - count, ellipsis)), *after)


def _implied(parts: Sequence[str], ellipsis: int) -> tuple[str, ...]:
    """Without "->": the ellipsis, then the letters that occur once, in order."""
    counts = Counter("".join(parts).replace(".", ""))
    own = sorted(x for x, n in counts.items() if n == 1)
    return (*(str(i) for i in range(ellipsis)), *own)


def _diagonal(c: Call, term: Term) -> Term:
    """A label that an operand has twice: its diagonal."""
    repeated = [x for x, n in Counter(term.labels).items() if n > 1]
    for label in repeated:
        axes = [i for i, x in enumerate(term.labels) if x == label]
        rest = [i for i in range(len(term.labels)) if i not in axes]
        ramp = c.iota(term.value.type.shape[axes[0]])
        taken = c.b.gather_nd(c.permute(term.value, [*axes, *rest]), *[ramp] * len(axes))
        term = Term(c.value(taken), (label, *(term.labels[i] for i in rest)))
    return term


def _summed(c: Call, term: Term, kept: set[str]) -> Term:
    """The term without the labels that nothing needs any more."""
    axes = tuple(i for i, x in enumerate(term.labels) if x not in kept)
    if not axes:
        return term
    labels = tuple(x for x in term.labels if x in kept)
    return Term(c.value(c.b.reduce_sum(term.value, axes=axes)), labels)


def _pair(c: Call, a: Term, b: Term, needed: set[str]) -> Term:
    """The product of two terms, summed over the labels that are not needed afterwards."""
    a = _summed(c, a, needed | set(b.labels))
    b = _summed(c, b, needed | set(a.labels))
    shared = [x for x in a.labels if x in b.labels]
    contracted = [x for x in shared if x not in needed]
    batch = [x for x in shared if x in needed]
    sizes_agree = all(dims.same(a.size(x), b.size(x)) for x in shared)
    if not contracted or not sizes_agree:
        return _summed(c, _broadcast_product(c, a, b), needed)
    return _matrix_product(c, a, b, batch, contracted)


def _broadcast_product(c: Call, a: Term, b: Term) -> Term:
    labels = (*a.labels, *(x for x in b.labels if x not in a.labels))
    left, right = (_aligned(c, t, labels) for t in (a, b))
    return Term(c.value(c.b.mul(left, right)), labels)


def _aligned(c: Call, term: Term, labels: Sequence[str]) -> Value:
    """The term's axes in the order of `labels`, with size 1 where it has none."""
    present = [x for x in labels if x in term.labels]
    value = c.permute(term.value, [term.labels.index(x) for x in present])
    return c.reshape(value, [term.size(x) if x in term.labels else 1 for x in labels])


def _matrix_product(
    c: Call, a: Term, b: Term, batch: Sequence[str], contracted: Sequence[str]
) -> Term:
    """[batch, free a, contracted] @ [batch, contracted, free b]."""
    free_a = [x for x in a.labels if x not in batch and x not in contracted]
    free_b = [x for x in b.labels if x not in batch and x not in contracted]
    labels = (*batch, *free_a, *free_b)
    if not batch and len(contracted) == 1 and len(b.labels) == 2 and len(free_b) == 1:
        weight = _weight(c, b, contracted[0])
        if weight is not None and a.labels[-1] == contracted[0]:
            return Term(c.value(c.b.linear(a.value, weight)), labels)

    def matrix(term: Term, groups: Sequence[Sequence[str]]) -> Value:
        order = [x for group in groups for x in group]
        value = c.permute(term.value, [term.labels.index(x) for x in order])
        sizes = [dims.product(term.size(x) for x in group) for group in groups[1:]]
        return c.reshape(value, [*(term.size(x) for x in groups[0]), *sizes])

    product = c.b.matmul(
        matrix(a, (batch, free_a, contracted)), matrix(b, (batch, contracted, free_b))
    )
    shape = [
        *(a.size(x) for x in batch),
        *(a.size(x) for x in free_a),
        *(b.size(x) for x in free_b),
    ]
    return Term(c.reshape(product, shape), labels)


def _weight(c: Call, term: Term, contracted: str) -> Value | None:
    """[N, K] where the term is a constant matrix."""
    if not term.value.is_constant or not term.value.type.dtype.is_float:
        return None
    return term.value if term.labels[1] == contracted else weight_of(c, term.value)
