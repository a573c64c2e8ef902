"""Greatest sizes against all values: never less, and exact where the docstring says so."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.errors import UnsupportedError
from edgec.ir import Builder, DType, Range, TensorType, dims
from edgec.ir.dims import Dim
from edgec.targets.native.lower import lower_function
from edgec.targets.native.plan import lives
from edgec.targets.native.sizes import check_bounded, greatest
from edgec.targets.native.weights import Weights

N, M = dims.symbol("n"), dims.symbol("m")


def true_greatest(dim: Dim, ranges: dict[str, Range]) -> int:
    names = sorted(dims.names([dim]))
    sides = (range(ranges[n].min, ranges[n].max + 1) for n in names)
    values = (
        dims.evaluate(dim, dict(zip(names, v, strict=True))) for v in itertools.product(*sides)
    )
    return max(0, *values, 0)


def expressions() -> st.SearchStrategy[Dim]:
    leaves = st.sampled_from([N, M]) | st.integers(0, 70)
    return st.recursive(
        leaves,
        lambda inner: (
            st.tuples(inner, inner).map(lambda p: dims.normal(p[0] + p[1]))
            | st.tuples(inner, inner).map(lambda p: dims.normal(p[0] - p[1]))
            | st.tuples(inner, inner).map(lambda p: dims.normal(p[0] * p[1]))
            | st.tuples(inner, st.integers(1, 9)).map(lambda p: dims.floordiv(p[0], p[1]))
        ),
        max_leaves=5,
    )


@settings(deadline=None, max_examples=300)
@given(expressions(), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_never_less_than_any_value(dim: Dim, a: int, b: int, c: int, d: int) -> None:
    ranges = {"n": Range(a, a + b), "m": Range(c, c + d)}
    assert greatest(dim, ranges) >= true_greatest(dim, ranges)


@pytest.mark.parametrize(
    "dim",
    [
        N * M + 3 * N,
        N - M,
        64 * dims.floordiv(N + 63, 64) - N,  # a pad, whose greatest value is at no end
        M * (64 * dims.floordiv(N + 63, 64) - N),
        N * N - 20 * N,
    ],
)
def test_exact_where_one_name_or_affine(dim: Dim) -> None:
    ranges = {"n": Range(64, 127), "m": Range(1, 4)}
    assert greatest(dims.normal(dim), ranges) == true_greatest(dims.normal(dim), ranges)


def test_products_beyond_64_bits_stay_positive() -> None:
    ranges = {"n": Range(1, 2**30), "m": Range(1, 2**30)}
    dim = dims.normal(4 * N * N * M + dims.floordiv(N * M, 3))
    assert greatest(dim, ranges) >= 4 * 2**90


def test_dimensions_without_a_maximum_are_named() -> None:
    b = Builder.new(
        "main", [("x", TensorType(DType.F32, (N, M)))], {}, {"n": Range(), "m": Range(1, 4)}
    )
    with pytest.raises(UnsupportedError, match=r"main: n; .*max_sizes"):
        check_bounded([b.finish([b.relu(b.operand("x"))])])


@pytest.mark.parametrize("rows", [2**27, 2**28])
def test_values_of_the_caller_that_32_bits_do_not_count_are_named(rows: int) -> None:
    """The sum is small; what it reads is 16 bytes a row."""
    x = ("x", TensorType(DType.F32, (N, 4)))
    b = Builder.new("main", [x], {}, {"n": Range(1, rows)})
    graph = b.finish([b.reduce_sum(b.operand("x"), axes=(0,))])
    statements = lower_function(graph, Weights({}), []).statements
    with pytest.raises(UnsupportedError, match=rf"of more than .* bytes .*: x {16 * rows}"):
        lives(statements, graph.dims)
