"""Selections by index against the ops' own meaning, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.kernels import InstructionSet
from edgec.kernels.calling import host_sets
from edgec.ops.gather import Gather, GatherNd, TakeAlong
from tests.kernels.guarded import run

pytest.importorskip("tvm")

SETS = pytest.mark.parametrize("isa", host_sets(), ids=lambda i: i.name)
DTYPES = pytest.mark.parametrize("dtype", ["int8", "float16", "float32", "int64"])
COUNTS = st.sampled_from([0, 1, 5, 16])
INNER = st.sampled_from([0, 1, 3, 16, 17, 64, 100])


def sample(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-99, 99, shape, generator=generator).to(getattr(torch, dtype))


def indices(high: int, shape: tuple[int, ...], dtype: str, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, high, shape, generator=generator).to(getattr(torch, dtype))


@SETS
@DTYPES
@settings(max_examples=10)
@given(outer=st.integers(0, 2), rows=st.integers(1, 7), count=COUNTS, inner=INNER)
def test_rows_by_index(
    dtype: str, isa: InstructionSet, outer: int, rows: int, count: int, inner: int
) -> None:
    from edgec.kernels import gather as k

    kind = "int32" if inner % 2 else "int64"
    x, ids = sample((outer, rows, inner), dtype), indices(rows, (count,), kind)
    sizes = {"outer": outer, "rows": rows, "count": count, "inner": inner}
    kernel = k.Gather(x.element_size(), kind)
    arrays = {"x": words(x), "ids": ids.numpy()}
    got = run(kernel, isa, arrays, sizes, {"y": (outer, count, inner)})["y"]
    np.testing.assert_array_equal(got, words(Gather(1).evaluate(x, ids)))


@SETS
@pytest.mark.parametrize("dtype", ["int8", "float32"])
@settings(max_examples=10)
@given(outer=st.integers(0, 2), rows=st.integers(1, 7), count=COUNTS, inner=INNER)
def test_elements_along_an_axis(
    dtype: str, isa: InstructionSet, outer: int, rows: int, count: int, inner: int
) -> None:
    from edgec.kernels import gather as k

    x, ids = sample((outer, rows, inner), dtype), indices(rows, (outer, count, inner), "int64")
    sizes = {"outer": outer, "rows": rows, "count": count, "inner": inner}
    arrays = {"x": words(x), "ids": ids.numpy()}
    kernel = k.TakeAlong(x.element_size())
    got = run(kernel, isa, arrays, sizes, {"y": (outer, count, inner)})["y"]
    np.testing.assert_array_equal(got, words(TakeAlong(1).evaluate(x, ids)))


@SETS
@pytest.mark.parametrize("axes", [1, 2, 3])
@settings(max_examples=10)
@given(count=COUNTS, inner=INNER)
def test_several_indices(axes: int, isa: InstructionSet, count: int, inner: int) -> None:
    from edgec.kernels import gather as k

    leading = (4, 3, 5)[:axes]
    x = sample((*leading, inner), "float32")
    ids = [indices(n, (count,), "int64", seed) for seed, n in enumerate(leading)]
    sizes = {**{f"n{a}": n for a, n in enumerate(leading)}, "count": count, "inner": inner}
    arrays = {"x": words(x), **{f"ids{a}": i.numpy() for a, i in enumerate(ids)}}
    got = run(k.GatherNd(axes=axes), isa, arrays, sizes, {"y": (count, inner)})["y"]
    np.testing.assert_array_equal(got, words(GatherNd().evaluate(x, *ids)))


def words(x: object) -> np.ndarray:
    """A tensor's elements as integers of their size."""
    assert isinstance(x, torch.Tensor)
    return x.contiguous().numpy().view(f"i{x.element_size()}")
