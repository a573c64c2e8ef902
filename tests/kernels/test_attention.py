"""Attention kernels against the op in float64, on memory where a step too far is fatal."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.kernels.attention import SparseAttention
from edgec.kernels.attention_decode import DecodeAttention
from edgec.kernels.attention_dense import DenseAttention
from edgec.kernels.block_table import is_ordered, mask_table, pattern_table
from edgec.kernels.calling import host_sets
from edgec.patterns import parse
from tests.kernels.attending import HEADS_FIRST, HEADS_LAST, attend, expect, operands, random

SETS = pytest.mark.parametrize("isa", host_sets(), ids=lambda isa: isa.name)
LENGTHS = ((1, 1), (5, 200), (16, 16), (33, 63), (64, 64), (65, 130), (100, 7), (197, 197))
FLOAT_MIN = torch.finfo(torch.float32).min


@SETS
@pytest.mark.parametrize(
    ("d", "dv", "causal"),
    [(8, 8, False), (32, 40, True), (64, 64, False), (80, 24, True), (128, 7, False)],
)
def test_dense(isa, d: int, dv: int, causal: bool) -> None:
    kernel = DenseAttention(d, dv, causal)
    for n, (queries, keys) in enumerate(LENGTHS):
        q, k, v = operands(1 + n % 2, 4, (4, 2, 1)[n % 3], queries, keys, d, dv)
        layout = HEADS_LAST if n % 2 else HEADS_FIRST
        expect(attend(kernel, isa, q, k, v, layout=layout), q, k, v, causal=causal)


@SETS
@pytest.mark.parametrize(("d", "dv"), [(8, 24), (40, 7), (64, 64), (128, 80)])
def test_decode(isa, d: int, dv: int) -> None:
    kernel = DecodeAttention(d, dv)
    for n, (queries, keys) in enumerate([(1, 1), (1, 63), (1, 197), (3, 64), (8, 130), (9, 16)]):
        q, k, v = operands(1 + n % 2, 4, (4, 2, 1)[n % 3], queries, keys, d, dv)
        layout = HEADS_LAST if n % 2 else HEADS_FIRST
        got = attend(kernel, isa, q, k, v, layout=layout, capacity=keys + 9)
        expect(got, q, k, v)


PATTERNS = (
    "block_local(50, 1)",
    "window(30)",
    "window(90, True)",
    "strided(2)",
    "strided(3, 20)",
    "dilated(60, 3)",
    "dilated(64, 2) & causal()",
    "global(3, 2)",
    "random(1, 32, 7)",
    "causal()",
    "window(20) + global(5) + random(1, 64, 7)",
    "(window(40) + global(1)) & causal()",
    "dilated(64, 2) + dilated(128, 4) + window(5)",
)


@SETS
@pytest.mark.parametrize("text", PATTERNS)
def test_patterns(isa, text: str) -> None:
    pattern = parse(text)
    kernel = SparseAttention(32, 32, is_ordered(pattern))
    lengths = np.random.default_rng(len(text)).integers(1, 200, 3)
    for length in (*map(int, lengths), 64, 128):
        q, k, v = operands(2, 6, 3, length, length, 32, 32)
        i = np.arange(length)
        mask = torch.from_numpy(
            np.stack(
                [
                    np.broadcast_to(
                        pattern.visible(i[:, None], i[None], length, h), (length,) * 2
                    ).copy()
                    for h in range(6)
                ]
            )
        )
        got = attend(kernel, isa, q, k, v, table=pattern_table(pattern, length), layout=HEADS_LAST)
        expect(got, q, k, v, mask[None])
        assert (got[:, ~mask.any(2)] == 0).all()


@SETS
def test_tables_of_other_numbers_of_keys_than_queries(isa) -> None:
    seen = np.random.default_rng(0).random((2, 70, 150)) < 0.3
    seen[:, :, 64:128] |= np.arange(70)[:, None] < 64
    q, k, v = operands(1, 4, 2, 70, 150, 80, 40)
    got = attend(SparseAttention(80, 40), isa, q, k, v, table=mask_table(seen))
    expect(got, q, k, v, torch.from_numpy(seen)[[0, 1, 0, 1]][None])


def mask_of(kind: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A random mask; "float32" ones have all that is used for what is hidden."""
    drawn = random(*shape, seed=5)
    if kind == "bool":
        return drawn > 0
    lowest = torch.tensor([-math.inf, FLOAT_MIN, -9.0, 0.0])
    steps = ((drawn + 1) * 2).clamp(0, 3).long()
    return torch.where(drawn > 0.7, drawn, lowest[steps])


def masks(kind: str, batch: int, heads: int, queries: int, keys: int):
    """One of each kind of broadcast, transposed ones, and rows that are hidden whole."""
    shapes = [(batch, 1, 1, keys), (batch, 1, queries, keys), (1, heads, queries, keys)]
    yield from (mask_of(kind, s) for s in shapes)
    yield mask_of(kind, (batch, 1, keys, queries)).transpose(2, 3)
    yield mask_of(kind, (1, heads, queries, 1))
    hidden = mask_of(kind, (batch, heads, queries, keys))
    hidden[:, 0, ::2] = False if kind == "bool" else -math.inf
    hidden[:, 1] = False if kind == "bool" else FLOAT_MIN
    yield hidden
    padding = torch.arange(keys) < torch.arange(batch)[:, None] + 1
    padding = padding if kind == "bool" else torch.where(padding, 0.0, -math.inf)
    yield padding[:, None, None]


KERNELS = (
    (DenseAttention(40, 32, mask="bool"), 66, 90, False),
    (DenseAttention(40, 32, mask="float32"), 70, 133, False),
    (DenseAttention(40, 32, causal=True, mask="bool"), 130, 70, True),
    (DenseAttention(40, 32, causal=True, mask="float32"), 66, 130, True),
    (DecodeAttention(40, 32, mask="bool"), 3, 77, False),
    (DecodeAttention(40, 32, mask="float32"), 2, 130, False),
)


@SETS
@pytest.mark.parametrize(("kernel", "queries", "keys", "causal"), KERNELS)
def test_masks(isa, kernel, queries: int, keys: int, causal: bool) -> None:
    q, k, v = operands(2, 4, 2, queries, keys, 40, 32)
    for mask in masks(kernel.mask, 2, 4, queries, keys):
        expect(attend(kernel, isa, q, k, v, mask), q, k, v, mask, causal=causal)


@SETS
@pytest.mark.parametrize("kind", ["bool", "float32"])
@pytest.mark.parametrize("text", ["window(30) + global(1)", "dilated(60, 3)"])
def test_masks_beside_a_pattern(isa, kind, text: str) -> None:
    pattern, length = parse(text), 150
    kernel = SparseAttention(32, 32, is_ordered(pattern), kind)
    q, k, v = operands(2, 3, 3, length, length, 32, 32)
    i = np.arange(length)
    seen = torch.from_numpy(
        np.stack([pattern.visible(i[:, None], i[None], length, h) for h in range(3)])
    )
    table = pattern_table(pattern, length)
    for mask in masks(kind, 2, 3, length, length):
        both = mask & seen if kind == "bool" else mask.where(seen, -math.inf)
        expect(attend(kernel, isa, q, k, v, mask, table=table), q, k, v, both)


@SETS
@pytest.mark.parametrize("kernel", [DenseAttention(64, 64), DecodeAttention(64, 64)])
def test_scores_far_apart(isa, kernel) -> None:
    """Maxima that grow from block to block, and weights that vanish."""
    q, k, v = operands(1, 2, 2, 9, 200, 64, 64)
    k *= torch.linspace(0, 40, 200)[:, None]
    for scale in (1.0, -1.0, 1e-3, 0.0):
        expect(attend(kernel, isa, q, k, v, scale=scale), q, k, v, scale=scale)


@SETS
@pytest.mark.parametrize("kernel", [DenseAttention(64, 64), DecodeAttention(64, 64)])
def test_no_keys_give_zeros(isa, kernel) -> None:
    q, k, v = operands(1, 2, 2, 3, 0, 64, 64)
    assert (attend(kernel, isa, q, k, v) == 0).all()


@SETS
def test_what_lies_behind_the_end_has_no_effect(isa) -> None:
    for keys in (1, 63, 65):
        q, k, v = operands(2, 4, 2, 20, keys, 64, 64)
        got = attend(DenseAttention(64, 64), isa, q, k, v, capacity=keys + 70)
        expect(got, q, k, v)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(host_sets()),
    st.integers(1, 3),
    st.sampled_from([(1, 1), (2, 1), (4, 2), (6, 2)]),
    st.integers(1, 150),
    st.integers(1, 150),
    st.sampled_from(["dense", "causal", "decode"]),
    st.sampled_from([HEADS_FIRST, HEADS_LAST]),
)
def test_any_sizes(isa, batch, heads, queries, keys, kind, layout) -> None:
    kernel = (
        DecodeAttention(24, 24) if kind == "decode" else DenseAttention(24, 24, kind == "causal")
    )
    many, few = heads
    q, k, v = operands(batch, many, few, queries, keys, 24, 24)
    got = attend(kernel, isa, q, k, v, layout=layout)
    expect(got, q, k, v, causal=kind == "causal")
