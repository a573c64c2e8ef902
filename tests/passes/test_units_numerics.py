"""Mathematics of units: costs of going, the fit, the choice, labels under reshapes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.ir import symbol
from edgec.passes.numerics.influence import Influence
from edgec.passes.numerics.units import (
    Candidates,
    Products,
    choose,
    contribution,
    elimination,
    refit,
    weighted,
)
from edgec.passes.structure.labels import Blocked, Labels, regrouped

SEEDS = st.integers(0, 10_000)


def layer(seed, n=5, count=4, size=3, rows=40):
    """w[N, K], x[S, K] with correlated columns, the unit of each column."""
    g = torch.Generator().manual_seed(seed)
    k = count * size
    x = torch.randn(rows, k, generator=g) @ (torch.randn(k, k, generator=g) + torch.eye(k))
    return torch.randn(n, k, generator=g), x, torch.arange(count).repeat_interleave(size)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_cost_of_the_first_unit_is_that_of_least_squares(seed):
    w, x, units = (t.double() if t.is_floating_point() else t for t in layer(seed))
    costs = elimination(w, x.T @ x, units, 4, most=0, damping=1e-12)
    for unit in range(4):
        kept = units != unit
        y = x @ w.T
        rest = y - x[:, kept] @ torch.linalg.lstsq(x[:, kept], y).solution
        assert float(costs[unit]) == pytest.approx(float(rest.square().sum()), rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_costs_of_all_that_went_are_what_is_lost(seed):
    """The sum of the steps is the least loss without these units; order is that of going."""
    w, x, units = (t.double() if t.is_floating_point() else t for t in layer(seed))
    gone = elimination(w, x.T @ x, units, 4, most=2, damping=1e-12).argsort()[:2].tolist()
    y = x @ w.T
    losses = []
    for first in range(4):
        kept = units != first
        losses.append(float((y - x[:, kept] @ torch.linalg.lstsq(x[:, kept], y).solution).norm()))
    assert gone[0] == min(range(4), key=losses.__getitem__)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.booleans())
def test_fit_is_least_squares(seed, biased):
    w, x, units = layer(seed)
    bias = torch.randn(5) if biased else None
    kept = (units != 1).nonzero().flatten()
    products = Products(12)
    for part in x.split(13):
        products.add(part, part)
    made, shifted = refit(w, bias, products, kept, damping=1e-9)
    assert bool((made[:, units == 1] == 0).all())
    y = x.double() @ w.double().T + (0 if bias is None else bias.double())
    columns = x.double()[:, kept]
    if biased:
        columns = torch.cat([columns, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    least = (y - columns @ torch.linalg.lstsq(columns, y).solution).square().sum()
    got = x.double() @ made.double().T + (0 if shifted is None else shifted.double())
    assert float((y - got).square().sum()) <= float(least) * (1 + 1e-3) + 1e-6


def test_without_data_weights_stay():
    w, _, _ = layer(0)
    made, bias = refit(w, torch.ones(5), Products(12), torch.arange(6))
    torch.testing.assert_close(made[:, :6], w[:, :6])
    assert bias is not None
    assert torch.equal(bias, torch.ones(5))


def test_contributions_of_units_of_one_column_or_more():
    w, x, units = layer(3)
    want = [(x[:, units == u] @ w[:, units == u].T).norm(dim=1).sum() for u in range(4)]
    torch.testing.assert_close(contribution(x, w, units, 4).float(), torch.stack(want))
    alone = torch.arange(12)
    want = [(x[:, [j]] @ w[:, [j]].T).norm(dim=1).sum() for j in range(12)]
    torch.testing.assert_close(contribution(x, w, alone, 12).float(), torch.stack(want))


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_weighted_products_have_the_power_of_the_moments(seed):
    w, x, _ = layer(seed)
    g = torch.randn(9, 5, dtype=torch.float64)
    moments = g.T @ g
    y = x.double() @ w.double().T
    want = ((y @ moments) * y).sum()
    got = (x.double() @ weighted(w, moments).T).square().sum()
    torch.testing.assert_close(got, want)


# ------------------------------------------------------------------ the choice
@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=5),
    st.floats(0, 0.99),
    st.integers(0, 12),
    st.booleans(),
    st.sampled_from([1, 2, 8]),
    SEEDS,
)
def test_something_stays_and_the_least_go(sizes, ratio, count, per_layer, multiple, seed):
    g = torch.Generator().manual_seed(seed)
    candidates = [
        Candidates(torch.rand(n, generator=g, dtype=torch.float64), multiple=multiple)
        for n in sizes
    ]
    gone = choose(candidates, ratio, count, per_layer)
    for c, units in zip(candidates, gone, strict=True):
        n = len(c.scores)
        assert len(units) < n
        assert not units or (n - len(units)) % multiple == 0
        stay = [float(c.scores[i]) for i in range(n) if i not in units]
        assert all(float(c.scores[i]) <= min(stay) for i in units)


def test_even_runs_lose_equally_many():
    scores = torch.tensor([3.0, 1, 2, 0, 9, 8, 7, 6])
    assert Candidates(scores, even=4).lowest(2) == {3, 1, 7, 6}


# ------------------------------------------------------------------ labels
@settings(max_examples=100, deadline=None)
@given(st.permutations([2, 3, 4]), st.integers(0, 2))
def test_labels_follow_elements_through_reshapes(shape, axis):
    """Against the elements themselves: each is of one unit before and after."""
    labels = Labels.of(range(shape[axis]))
    index = torch.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(3)])
    before = index.expand(shape)
    for y in [(shape[0] * shape[1], shape[2]), (shape[0], shape[1] * shape[2]), (24,)]:
        to, made = regrouped(labels, tuple(shape), axis, y)
        flat = torch.tensor(made.flat).reshape([-1 if i == to else 1 for i in range(len(y))])
        assert torch.equal(flat.expand(y), before.reshape(y))
        assert regrouped(made, y, to, tuple(shape)) == (axis, labels)


def test_labels_with_named_dimensions():
    b, t = symbol("batch"), symbol("src")
    heads = Labels.of(range(4))
    to, merged = regrouped(heads, (b, t, 4, 8), 2, (b, t, 32))
    assert (to, merged) == (2, Labels.of([i // 8 for i in range(32)]))
    to, batched = regrouped(heads, (b, 4, t, 8), 1, (4 * b, t, 8))
    assert (to, batched.before, batched.units) == (0, b, (0, 1, 2, 3))
    assert batched.without({2}) == 3 * b
    with pytest.raises(Blocked):
        regrouped(Labels.of(range(32)), (b, t, 32), 2, (b, t, 4, 8))


def test_labels_that_meet():
    first, second = Labels.of([0, 0, -1, -1]), Labels.of([-1, -1, 1, 1])
    assert first.merged(second) == Labels.of([0, 0, 1, 1])
    assert first.part(1, 3).placed(1, 4) == Labels.of([-1, 0, -1, -1])
    assert Labels.of([0, 0, 1, 1]).kept({0}) == [2, 3]
    with pytest.raises(Blocked, match="two units"):
        first.merged(Labels.of([1, 0, 0, 0]))


# ------------------------------------------------------------------ influence
def test_influence():
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    y = torch.tensor([[0.0, 3.0], [0.0, 5.0], [0.0, 0.0]])
    found = Influence()
    found.add(x[:1], y[:1])
    found.add(x[1:], y[1:])
    assert math.isclose(found.value, 1 - (0 + 1 + 1) / 3)
    assert Influence().value == 0
