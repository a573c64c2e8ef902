"""Copies between strided views against numpy, to the last element of every buffer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.kernels.calling import host_sets
from edgec.kernels.copy import Copy, Iota
from tests.kernels.guarded import run

WORDS = {1: "i1", 2: "i2", 4: "i4", 8: "i8"}


@settings(deadline=None, max_examples=40)
@given(
    shape=st.lists(st.integers(0, 20), min_size=2, max_size=4),
    order=st.permutations(range(4)),
    word_bytes=st.sampled_from(list(WORDS)),
)
def test_any_permutation(shape: list[int], order: list[int], word_bytes: int) -> None:
    rank = len(shape)
    order = [a for a in order if a < rank]
    x = np.arange(int(np.prod(shape))).astype(WORDS[word_bytes]).reshape(shape)
    want = x.transpose(order)
    strides = [x.strides[a] // word_bytes for a in order]
    dense = [int(np.prod(want.shape[a + 1 :])) for a in range(rank)]
    unit = strides[-1] == 1
    kernel = Copy(rank, word_bytes, unit)
    sizes = {
        f"{k}{a}": v[a]
        for k, v in zip("nsd", (want.shape, strides, dense), strict=True)
        for a in range(rank)
    }
    for isa in host_sets():
        made = run(kernel, isa, {"x": x}, sizes, {"y": want.shape})
        assert np.array_equal(made["y"], want)


def test_repeats_and_every_other_element() -> None:
    """Strides of 0 repeat, others than 1 leave out."""
    x = np.arange(12, dtype="i4")
    sizes = {"n0": 3, "n1": 6, "s0": 0, "s1": 2, "d0": 6, "d1": 1}
    for isa in host_sets():
        made = run(Copy(2, 4, False), isa, {"x": x}, sizes, {"y": (3, 6)})
        assert np.array_equal(made["y"], np.stack([x[::2]] * 3))


@pytest.mark.parametrize("dtype", ["int64", "int32", "float32", "float64", "uint8"])
def test_iota(dtype: str) -> None:
    sizes = {"n": 9, "start": 100, "step": -7}
    for isa in host_sets():
        made = run(Iota(dtype), isa, {}, sizes, {"y": (9,)})
        assert np.array_equal(made["y"], np.arange(100, 100 - 63, -7).astype(dtype))
