"""Block tables: they mean what the pattern means, and the device builds the same ones."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.kernels.attention_tiles import BLOCK, HIDDEN
from edgec.kernels.block_capacity import TableCapacity, table_capacity
from edgec.kernels.block_table import BlockTable, is_ordered, mask_table, pattern_table
from edgec.patterns import Pattern, parse
from tests.kernels.device_table import MISFIT, Room

PATTERNS = (
    "block_local(64)",
    "block_local(100, 1)",
    "window(256)",
    "window(0)",
    "window(30, True)",
    "strided(4)",
    "strided(3, 20)",
    "strided(3, 20) & causal()",
    "strided(50, 5)",
    "dilated(128, 4)",
    "dilated(300, 3) & causal()",
    "dilated(64, 1)",
    "global(1)",
    "global(0, 70)",
    "random(3, 64, 7)",
    "random(2, 20, 123456789)",
    "random(3, 128, 1) & causal()",
    "random(40, 100)",
    "causal()",
    "window(256) + global(64, 3) + random(3, 64, 7)",
    "(window(40) + global(1)) & causal()",
    "(global(3, 70) + window(20)) & causal()",
    "random(2, 48, 5) + random(1, 64, 6) + window(3)",
    "dilated(64, 2) + dilated(128, 4) + window(5)",
    "strided(5, 3) + window(9)",
)


def meaning(table: BlockTable, queries: int, keys: int, head: int) -> np.ndarray:
    """bool[queries, keys] that a table stands for."""
    rows, columns = -(-queries // BLOCK), -(-keys // BLOCK)
    seen = np.zeros((rows * BLOCK, columns * BLOCK), bool)
    for row in range(rows):
        at = head % table.period * rows + row
        for p in range(table.row_ptr[at], table.row_ptr[at + 1]):
            column, tile = table.col_idx[p], table.tile_id[p]
            pairs = np.ones((BLOCK, BLOCK), bool) if tile < 0 else table.bias[tile].T == 0
            seen[row * BLOCK :, column * BLOCK :][:BLOCK, :BLOCK] = pairs
    seen = seen[:queries, :keys]
    if table.order is None:
        return seen
    order = table.order[head % table.period]
    moved = np.zeros_like(seen)
    moved[np.ix_(order, order)] = seen
    return moved


def visible(pattern: Pattern, length: int, head: int) -> np.ndarray:
    i = np.arange(length)
    seen = pattern.visible(i[:, None], i[None, :], length, head)
    return np.broadcast_to(seen, (length, length))


def assert_equal(got: BlockTable, want: BlockTable) -> None:
    assert (got.tiles, got.period) == (want.tiles, want.period)
    for name in ("row_ptr", "col_idx", "tile_id"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), name)
    np.testing.assert_array_equal(got.bias[: got.tiles], want.bias[: want.tiles])
    if want.order is None:
        assert got.order is None
    else:
        np.testing.assert_array_equal(got.order, want.order)


@pytest.mark.parametrize("text", PATTERNS)
def test_tables_mean_the_pattern_and_the_device_builds_them(text: str) -> None:
    pattern, longest = parse(text), 450
    room = Room(table_capacity(pattern, longest), longest)
    for length in (0, 1, 63, 64, 65, 150, 256, 333, longest):
        table = pattern_table(pattern, length)
        for head in range(table.period + 1):
            got = meaning(table, length, length, head)
            assert (got == visible(pattern, length, head)).all(), (length, head)
        status, error, built = room.build(pattern, length)
        assert (status, error) == (0, "")
        assert_equal(built, table)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PATTERNS), st.integers(1, 700), st.data())
def test_every_number_of_tokens_fits_the_capacity(text: str, longest: int, data) -> None:
    pattern = parse(text)
    room = Room(table_capacity(pattern, longest), longest)
    for _ in range(3):
        length = data.draw(st.integers(0, longest))
        status, error, built = room.build(pattern, length)
        assert (status, error) == (0, "")
        assert_equal(built, pattern_table(pattern, length))


def test_tables_of_any_mask() -> None:
    rng = np.random.default_rng(0)
    seen = rng.random((2, 130, 70)) < 0.5
    seen[:, :64, :64], seen[:, 64:128, :64] = True, False
    table = mask_table(seen)
    assert [meaning(table, 130, 70, h).tolist() for h in (0, 1)] == seen.tolist()
    assert table.row_ptr.tolist() == [0, 2, 3, 5, 7, 8, 10]
    assert table.tile_id[0] == -1 and set(np.unique(table.bias)) == {np.float32(HIDDEN), 0}


def test_a_window_has_two_tiles_whatever_the_length() -> None:
    assert [pattern_table(parse("window(256)"), n).tiles for n in (600, 1000, 4096)] == [2, 2, 2]


@pytest.mark.parametrize("text", ["dilated(512, 4)", "strided(4, 1)"])
def test_an_order_of_the_tokens_makes_dense_blocks(text: str) -> None:
    pattern = parse(text)
    assert is_ordered(pattern)
    ordered, plain = pattern_table(pattern, 2048), pattern_table(pattern, 2048, ordered=False)
    assert plain.blocks >= 3.9 * ordered.blocks


@pytest.mark.parametrize(
    "text",
    [
        "window(256)",
        "block_local(100, 1)",
        "strided(4)",
        "strided(3, 20)",
        "dilated(2048, 4)",
        "window(256) + global(64, 3) + random(3, 64, 7)",
        "(window(256) + global(1)) & causal()",
    ],
)
def test_long_tables_take_less_than_a_second(text: str) -> None:
    started = time.process_time()
    pattern_table(parse(text), 16384)
    assert time.process_time() - started < 1


def test_what_does_not_fit_is_told() -> None:
    pattern = parse("window(30) + global(5)")
    capacity = table_capacity(pattern, 500)
    status, error, _ = Room(capacity, 500).build(pattern, 501)
    assert (status, error) == (MISFIT, "[pattern] 501 tokens; need 0..500")
    small = TableCapacity(capacity.row_ptr, 9, capacity.tiles, 0)
    status, error, built = Room(small, 500).build(pattern, 500)
    assert status == MISFIT and "more than 9 blocks for 500 tokens" in error
    assert built.blocks == 9
    few = TableCapacity(capacity.row_ptr, capacity.blocks, 1, 0)
    status, error, _ = Room(few, 500).build(pattern, 500)
    assert status == MISFIT and "more than 1 tiles for 500 tokens" in error


@pytest.mark.parametrize(
    "part", [(7, 1, 1, 0), (-1, 1, 1, 0), (0, 0, 0, 0), (3, 4, 0, 0), (5, 1, 0, 0), (1, 4, 0, -1)]
)
def test_numbers_that_are_no_part_are_refused(part: tuple[int, ...]) -> None:
    pattern = parse("window(30)")
    room = Room(table_capacity(pattern, 100), 100)
    status, error, _ = room.build(pattern, 100, np.array([part], "i4"))
    assert status == MISFIT and str(part)[:-1] in error
