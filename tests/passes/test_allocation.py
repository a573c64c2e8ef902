"""Allocation of bytes: as good as trying everything, within the limit, always the same."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.errors import PassError
from edgec.passes.numerics.allocation import Choice, allocate, frontier

CHOICES = st.lists(
    st.builds(
        Choice,
        st.sampled_from("abc"),
        st.integers(0, 10**9),
        st.floats(0, 1e6, allow_nan=False) | st.floats(0, 1e-9),
    ),
    min_size=1,
    max_size=4,
)
MENUS = st.lists(CHOICES, min_size=1, max_size=4)


def brute(menu: list[list[Choice]], limit: int) -> float | None:
    """The least loss of all combinations that fit."""
    sums = [
        sum(c.loss for c in chosen)
        for chosen in product(*menu)
        if sum(c.nbytes for c in chosen) <= limit
    ]
    return min(sums, default=None)


@settings(max_examples=150, deadline=None)
@given(MENUS, st.floats(0, 1.2))
def test_nothing_is_better(menu: list[list[Choice]], part: float) -> None:
    limit = int(part * sum(max(c.nbytes for c in choices) for choices in menu))
    named = {str(i): choices for i, choices in enumerate(menu)}
    least = brute(menu, limit)
    if least is None:
        with pytest.raises(PassError, match="need at least"):
            allocate(named, limit)
        return
    found = allocate(named, limit)
    assert found.keys() == named.keys()
    assert all(found[n] in choices for n, choices in named.items())
    assert sum(c.nbytes for c in found.values()) <= limit
    # The solver's own tolerance: 1e-6 of the greatest loss of an item.
    greatest = max(c.loss for choices in menu for c in choices)
    assert sum(c.loss for c in found.values()) <= least + 1e-6 * greatest
    assert allocate(named, limit) == found


def test_the_frontier_has_what_no_other_beats() -> None:
    menu = [Choice("a", 10, 5.0), Choice("b", 12, 5.0), Choice("c", 20, 1.0), Choice("d", 20, 2.0)]
    assert [c.label for c in frontier(menu)] == ["a", "c"]


def test_many_items() -> None:
    """200 weights with 6 forms each: the size of a real model."""
    menu = {
        f"w{i}": [Choice(str(b), b * (1000 + 37 * i), (7 * i % 13 + 1) / 4**b) for b in range(2, 8)]
        for i in range(200)
    }
    dense = sum(8 * (1000 + 37 * i) for i in range(200))
    found = allocate(menu, dense // 2)
    spent = sum(c.nbytes for c in found.values())
    assert 0.99 * (dense // 2) < spent <= dense // 2
    # Greedy by loss per byte, a bound from above.
    four = sum(choices[2].loss for choices in menu.values())
    assert sum(c.loss for c in found.values()) < four


@pytest.mark.parametrize("broken", [math.inf, math.nan])
def test_what_breaks_a_program_is_never_chosen(broken: float) -> None:
    choices = [Choice("broken", 10, broken), Choice("sound", 20, 5.0)]
    assert allocate({"a": choices}, 100)["a"].label == "sound"
    with pytest.raises(PassError, match="at least 20"):
        allocate({"a": choices}, 15)
    with pytest.raises(PassError, match="a; need a choice of finite loss"):
        allocate({"a": choices[:1]}, 100)
