"""Bounds of dimensions against all values, and what they decide of Min and Max."""

from __future__ import annotations

import contextlib
import itertools

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.ir import Range, dims
from edgec.ir.bounds import bounds, decided
from edgec.ir.dims import Dim

N, M = dims.symbol("n"), dims.symbol("m")


def values(dim: Dim, ranges: dict[str, Range]) -> list[int]:
    sides = [range(r.min, r.max + 1) for r in ranges.values()]
    envs = (dict(zip(ranges, v, strict=True)) for v in itertools.product(*sides))
    return [dims.evaluate(dim, env) for env in envs]


def expressions() -> st.SearchStrategy[Dim]:
    def larger(inner: st.SearchStrategy[Dim]) -> st.SearchStrategy[Dim]:
        pairs = st.tuples(inner, inner)
        return (
            pairs.map(lambda p: dims.normal(p[0] + p[1]))
            | pairs.map(lambda p: dims.normal(p[0] - p[1]))
            | pairs.map(lambda p: dims.normal(sympy.Max(*p)))
            | pairs.map(lambda p: dims.normal(sympy.Min(*p)))
            | st.tuples(inner, st.integers(1, 9)).map(lambda p: dims.floordiv(*p))
        )

    return st.recursive(st.sampled_from([N, M]) | st.integers(0, 70), larger, max_leaves=6)


RANGES = st.tuples(st.integers(0, 6), st.integers(0, 9)).map(lambda p: Range(p[0], sum(p)))


@given(dim=expressions(), n=RANGES, m=RANGES)
@settings(max_examples=200, deadline=None)
def test_bounds_hold_and_decisions_change_no_value(dim: Dim, n: Range, m: Range) -> None:
    ranges = {"n": n, "m": m}
    found = values(dim, ranges)
    low, high = bounds(dim, ranges)
    assert low <= min(found) and max(found) <= high
    assert values(decided(dim, ranges), ranges) == found


@pytest.mark.parametrize(
    "text", ["n*m//m", "(n*n + n)//n", "(n*m + m)//(m*n)", "n*m % m", "n*n % n", "n//(m//3)"]
)
def test_sizes_that_make_a_divisor_zero_do_not_count(text: str) -> None:
    """Nothing has such sizes; the ranges may still admit them."""
    ranges = {"n": Range(0, 9), "m": Range(0, 8)}
    found = []
    for n, m in itertools.product(range(10), range(9)):
        with contextlib.suppress(ZeroDivisionError):
            found.append(dims.evaluate(dims.parse(text), {"n": n, "m": m}))
    low, high = bounds(dims.parse(text), ranges)
    assert low <= min(found) and max(found) <= high < 200


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("64 - Max(64 - n, 0)", "n"),
        ("Max(n, 2)", "n"),
        ("Max(n, 3)", "Max(3, n)"),
        ("Min(n, m + 60)", "n"),
        ("Max(n, Min(n + m, 100))", "m + n"),
        ("Max(n - 1, 0)//4", "(n - 1)//4"),
    ],
)
def test_what_ranges_decide(text: str, want: str) -> None:
    ranges = {"n": Range(2, 60), "m": Range(0, 8)}
    assert dims.show(decided(dims.parse(text), ranges)) == want
