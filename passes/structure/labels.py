"""Labels of an axis: which unit (a head, a hidden neuron) each of its indices belongs to.

An axis of size before * n * after has labels `units` of length n: index (p, i, q) in row-major
order belongs to unit units[i], or to none where that is NONE. So 8 heads of 32 channels are
labelled (1, 0..7, 32) on the axis of 256 channels, (1, 0..7, 1) on the axis of heads, and
(batch, 0..7, 1) where batch and heads are one axis.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import sympy

from edgec.ir import dims
from edgec.ir.dims import Dim, Shape

NONE = -1


class Blocked(Exception):
    """Units cannot be followed any further; the text says why."""


@dataclass(frozen=True)
class Labels:
    """Units along an axis; `Labels.of` makes the one spelling that equal labels have."""

    before: Dim
    units: tuple[int, ...]
    after: Dim

    @staticmethod
    def of(units: Sequence[int], before: Dim = 1, after: Dim = 1) -> Labels:
        """The shortest `units` that say the same, what repeats moved to `before` and `after`."""
        found = tuple(units)
        for length in _divisors(len(found)):
            if all(len(set(found[i : i + length])) == 1 for i in range(0, len(found), length)):
                found, after = found[::length], dims.normal(after * length)
                break
        for times in _divisors(len(found)):
            if found == found[: len(found) // times] * times:
                found, before = found[: len(found) // times], dims.normal(before * times)
                break
        return Labels(before, found, after)

    @property
    def size(self) -> Dim:
        return dims.normal(self.before * len(self.units) * self.after)

    @property
    def flat(self) -> tuple[int, ...]:
        """The unit of every index. Raises Blocked for an axis without a number as its size."""
        if not isinstance(self.before, int) or not isinstance(self.after, int):
            raise Blocked(f"an axis of {dims.show(self.size)} mixes units with a named dimension")
        return tuple(u for u in self.units for _ in range(self.after)) * self.before

    def without(self, removed: Collection[int]) -> Dim:
        """The size of the axis when units are gone."""
        left = sum(u not in removed for u in self.units)
        return dims.normal(self.before * left * self.after)

    def kept(self, removed: Collection[int]) -> list[int]:
        """The indices that stay."""
        return [i for i, u in enumerate(self.flat) if u not in removed]

    def merged(self, other: Labels) -> Labels:
        """Both said of one axis. Raises Blocked where they name different units."""
        if self == other:
            return self
        pairs = list(zip(self.flat, other.flat, strict=True))
        if any(a != b and NONE not in (a, b) for a, b in pairs):
            raise Blocked("one index belongs to two units")
        return Labels.of([max(a, b) for a, b in pairs])

    def part(self, start: int, stop: int) -> Labels:
        """Those of the indices start .. stop-1."""
        return Labels.of(self.flat[start:stop])

    def placed(self, start: int, size: int) -> Labels:
        """Those of a longer axis in which this one begins at `start`."""
        rest = size - start - len(self.flat)
        return Labels.of((NONE,) * start + self.flat + (NONE,) * rest)

    @property
    def names_units(self) -> bool:
        return any(u != NONE for u in self.units)


def _divisors(n: int) -> Iterator[int]:
    """From n down to 1."""
    return (d for d in range(n, 0, -1) if n % d == 0)


def regrouped(labels: Labels, x: Shape, axis: int, y: Shape) -> tuple[int, Labels]:
    """Axis and labels of a reshape from x to y, where `axis` of x is labelled.

    Raises Blocked where units are spread over several axes of y.
    """
    for i, size in enumerate(y):
        before = _quotient((*x[:axis], labels.before), y[:i])
        after = _quotient((*x[axis + 1 :], labels.after), y[i + 1 :])
        if before is None or after is None:
            continue
        if dims.same(size, before * len(labels.units) * after):
            return i, Labels(before, labels.units, after)
    raise Blocked("a reshape spreads units over several axes")


def _quotient(above: Shape, below: Shape) -> Dim | None:
    """The product of `above` divided by that of `below`, where it is whole for all sizes."""
    left = list(above)
    rest: list[Dim] = []
    for b in below:  # equal dimensions need not be spelt the same, which division would not see
        found = next((i for i, a in enumerate(left) if dims.same(a, b)), None)
        if found is None:
            rest.append(b)
        else:
            del left[found]
    a, b = dims.product(left), dims.product(rest)
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    quotient = sympy.cancel(sympy.sympify(a) / b) if b != 0 else sympy.nan
    return dims.normal(quotient) if _is_whole(quotient) else None


def _is_whole(quotient: sympy.Expr) -> bool:
    """Whether it is a polynomial of its names with whole coefficients."""
    if not quotient.is_polynomial():
        return False
    names = quotient.free_symbols
    if not names:
        return bool(quotient.is_Integer)
    return all(c.is_Integer for c in sympy.Poly(quotient, *names).coeffs())
