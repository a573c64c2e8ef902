"""Patterns: what is visible, their text, their numbers, and what is refused."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.errors import EdgecError, FormatError, TypeCheckError
from edgec.patterns import (
    BlockLocal,
    Causal,
    Dilated,
    Global,
    Pattern,
    RandomBlocks,
    Strided,
    Union,
    Window,
    density,
    parse,
)
from edgec.patterns.choice import P, chosen_blocks, ranks

small = st.integers(1, 9)
PART = st.one_of(
    st.builds(BlockLocal, small, st.integers(0, 2)),
    st.builds(Window, st.integers(0, 9), st.booleans()),
    st.builds(Strided, small, small),
    st.builds(lambda rate, times: Dilated(rate * times, rate), small, small),
    st.builds(Global, small, st.integers(0, 3)),
    st.builds(RandomBlocks, small, small, st.integers(0, 2**31 - 1)),
    st.just(Causal()),
)
PATTERN = st.one_of(
    PART, st.builds(Union, st.lists(PART, min_size=1, max_size=4).map(tuple), st.booleans())
)


def table(pattern: Pattern, length: int, head: int = 0) -> list[str]:
    """Rows of queries: x where the key is seen."""
    i = np.arange(length)
    seen = pattern.visible(i[:, None], i[None, :], length, head)
    assert seen.dtype == np.bool_ and seen.shape == (length, length)
    return ["".join(".x"[int(s)] for s in row) for row in seen]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("block_local(2)", "xx... xx... ..xx. ..xx. ....x"),
        ("block_local(2, 1)", "xxxx. xxxx. xxxxx xxxxx ..xxx"),
        ("window(1)", "xx... xxx.. .xxx. ..xxx ...xx"),
        ("window(1, causal=True)", "x.... xx... .xx.. ..xx. ...xx"),
        ("strided(2, 1)", "x.x.x .x.x. x.x.x .x.x. x.x.x"),
        ("strided(2, 2)", "xx..x xx..x ..xx. ..xx. xx..x"),
        ("dilated(4, 2)", "x.x.. ..... x.x.. ..... ....x"),
        ("global(1)", "xxxxx x.... x.... x.... x...."),
        ("global(1, 1)", "xxxxx x...x x...x x...x xxxxx"),
        ("causal()", "x.... xx... xxx.. xxxx. xxxxx"),
        ("window(1) + global(1)", "xxxxx xxx.. xxxx. x.xxx x..xx"),
        ("(window(1) + global(1)) & causal()", "x.... xx... xxx.. x.xx. x..xx"),
    ],
)
def test_what_is_seen(text: str, rows: str) -> None:
    assert table(parse(text), 5) == rows.split()


def test_each_head_of_a_dilated_pattern_has_its_own_tokens() -> None:
    pattern = parse("dilated(4, 2)")
    assert table(pattern, 5, head=1) == "..... .x.x. ..... .x.x. .....".split()
    assert table(pattern, 5, head=2) == table(pattern, 5, head=0)
    assert parse("dilated(4, 2) + dilated(9, 3)").head_period == 6


def test_random_blocks_are_the_least_ranks() -> None:
    """By the definition in the text of `choice`, in plain Python integers."""

    def mixed(x: int) -> int:
        for _ in range(2):
            x = (x**3 * 12377 + 7919) % 32717
        return x

    seed, blocks = 123456789, 12
    start = mixed(mixed(seed // 32717) + seed % 32717)
    for row in range(blocks):
        by_rank = sorted(range(blocks), key=lambda c: (mixed(mixed(start + row) + c), c))
        assert chosen_blocks(seed, 3, np.array([row]), blocks)[0].tolist() == by_rank[:3]


def test_random_blocks_are_spread_evenly() -> None:
    """Each key block is drawn about equally often, over rows and over seeds."""
    blocks, count = 64, 3
    for rows, seeds in ((np.arange(blocks), range(200)), (np.array([5]), range(9000))):
        drawn = np.concatenate([chosen_blocks(s, count, rows, blocks).ravel() for s in seeds])
        times = np.bincount(drawn, minlength=blocks)
        expected = drawn.size / blocks
        assert ((times - expected) ** 2 / expected).sum() < 120  # chi squared, 63 degrees: p 2e-5
    assert ranks(7, np.arange(500)[:, None], np.arange(500)[None, :]).max() < P


def test_a_row_of_random_blocks_has_its_number_of_blocks() -> None:
    seen = table(RandomBlocks(2, 3, 11), 20)
    for row in seen:
        assert sum(row[b * 3] == "x" for b in range(7)) == 2
    assert set("".join(table(RandomBlocks(9, 3), 20))) == {"x"}


def test_plain_integers_for_kernels() -> None:
    pattern = parse("(window(256) + global(64, 1) + random(3, 32, 7) + dilated(8, 2)) & causal()")
    assert pattern.parameters() == ((1, 256, 0, 0), (4, 64, 1, 0), (5, 3, 32, 7), (3, 8, 2, 0))
    assert pattern.past_only
    assert Window(4, causal=True).parameters() == ((1, 4, 1, 0),)
    assert not Window(4, causal=True).past_only


@given(PATTERN)
def test_text_reads_back(pattern: Pattern) -> None:
    assert parse(str(pattern)).parameters() == pattern.parameters()
    assert str(parse(str(pattern))) == str(pattern)
    assert parse(str(pattern)).past_only == pattern.past_only


@given(PATTERN, st.integers(1, 20), st.integers(0, 12))
def test_heads_repeat_with_the_period(pattern: Pattern, length: int, head: int) -> None:
    assert table(pattern, length, head) == table(pattern, length, head + pattern.head_period)


@given(PART, PART, st.integers(1, 20))
def test_a_union_sees_what_its_parts_see_and_causal_cuts_it(a, b, length) -> None:
    i = np.arange(length)[:, None]
    j = i.T
    both = a.visible(i, j, length) | b.visible(i, j, length)
    assert ((a + b).visible(i, j, length) == both).all()
    assert (((a + b) & Causal()).visible(i, j, length) == both & (j <= i)).all()


def test_a_part_counts_once_and_order_is_kept() -> None:
    pattern = Window(3) + Global(1) + Window(3)
    assert str(pattern) == "window(3) + global(1)"


def test_several_spellings_are_read_and_one_is_written() -> None:
    for text in ("window(3)+global(2)&causal()", "((window(radius=3)) + global(2, 0)) & causal()"):
        assert str(parse(text)) == "(window(3) + global(2)) & causal()"
    assert str(parse("random(3, 64, 0)")) == "random(3)"
    assert str(parse("random(3, seed=7)")) == "random(3, 64, 7)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "parts joined by +"),
        ("window", "parts joined by +"),
        ("sliding(3)", "'sliding(3)'"),
        ("window(1) * 3", "'window(1) * 3'"),
        ("window('a')", "need window(radius, causal) of integers"),
        ("window(1, 2, 3)", "window(radius, causal)"),
        ("window(radius=2, radius=3)", "window(radius, causal)"),
        ("window(10**9)", "window(radius, causal)"),
        ("window(**{})", "window(radius, causal)"),
        ("window(1); import os", "parts joined by +"),
        ("__import__('os')", "parts joined by +"),
        ("(" * 900, "parts joined by +"),
        ("+".join(["window(1)"] * 101), "at most 1000"),
        ("-" * 999 + "1", "parts joined by +"),
    ],
)
def test_text_that_is_no_pattern(text: str, says: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse(text)
    assert says in str(caught.value)


@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # of Python, for `1or`
def test_any_damage_to_a_text_is_read_or_refused() -> None:
    chosen = random.Random(0)
    text = "(window(256, causal=True) + global(64, 2) + random(3, 64, 7)) & causal()"
    for _ in range(2000):
        letters = list(text)
        for _ in range(chosen.randint(1, 4)):
            letters[chosen.randrange(len(letters))] = chosen.choice("()+&,=0179 gwT-\0\n'é")
        try:
            assert parse(str(parse("".join(letters)))) is not None
        except EdgecError:
            pass


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("window(-1)", "[window] got radius=-1; need 0..2147483647"),
        ("window(1, causal=1)", "[window] got causal=1; need True or False"),
        ("window(True)", "[window] got radius=True; need an integer"),
        ("block_local(0)", "[block_local] got size=0; need 1..2147483647"),
        ("dilated(5, 2)", "need a segment that is a multiple of the rate"),
        ("global(0)", "need at least one token"),
        ("random(3, 64, 2147483648)", "[random] got seed=2147483648"),
        ("causal() & window(2)", "need causal() on the right of &"),
        ("(window(2) & causal()) + window(3)", "causal() once, on the whole"),
    ],
)
def test_fields_out_of_range(text: str, says: str) -> None:
    with pytest.raises(TypeCheckError) as caught:
        parse(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fits", "longest"),
    [
        ("global(64)", True, 64),
        ("global(64)", False, 63),
        ("global(2, 2)", False, 3),
        ("window(256) + random(3, 64)", False, 128),
        ("window(256) + random(3, 64)", True, 129),
        ("window(256) + block_local(512) + strided(4) + dilated(64, 8)", True, 1),
    ],
)
def test_patterns_that_do_not_fit(text: str, fits: bool, longest: int) -> None:
    if fits:
        parse(text).check(longest)
        return
    with pytest.raises(TypeCheckError, match=f"a pattern that fits {longest} tokens"):
        parse(text).check(longest)


@given(PATTERN, st.integers(1, 40), st.booleans())
def test_density_counts_pairs_of_all_heads(pattern: Pattern, length: int, causal: bool) -> None:
    i = np.arange(length)[:, None]
    pairs = np.tri(length, dtype=bool) if causal else np.ones((length, length), bool)
    heads = range(pattern.head_period)
    seen = np.mean([(pattern.visible(i, i.T, length, h) & pairs).sum() for h in heads])
    assert density(pattern, length, causal) == pytest.approx(seen / pairs.sum())
