"""The parts of a report: geometry, names, groups, numbers, changed texts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgec.ir.encoding import Dense, Encoding
from edgec.ir.encodings.affine import Affine
from edgec.ir.encodings.lut import Lut
from edgec.ir.encodings.outliers import Outliers
from edgec.ir.encodings.sparse import Sparse
from edgec.ir.types import DType
from edgec.report import units
from edgec.report.geometry import Box, on_log, squarify, stack, ticks, within
from edgec.report.grouping import LOOSE, Place, places
from edgec.report.legend import count_of, name_of
from edgec.report.samples import Texts, changes_of, chrf, word_changes

sizes = st.lists(st.floats(1, 1e9), min_size=1, max_size=30).map(lambda v: sorted(v, reverse=True))
texts = st.text(alphabet="abcäß .%<&", max_size=40)


# ------------------------------------------------------------------ geometry
@given(sizes, st.floats(50, 2000), st.floats(50, 2000))
def test_tiles_cover_the_box_in_proportion(
    values: list[float], width: float, height: float
) -> None:
    tiles = squarify(values, Box(5, 7, width, height))
    assert len(tiles) == len(values)
    for value, tile in zip(values, tiles, strict=True):
        share = tile.width * tile.height / (width * height)
        assert share == pytest.approx(value / sum(values), rel=1e-6, abs=1e-9)
        assert tile.x >= 5 - 1e-6 and tile.x + tile.width <= 5 + width * (1 + 1e-6)
        assert tile.y >= 7 - 1e-6 and tile.y + tile.height <= 7 + height * (1 + 1e-6)


@given(sizes)
def test_tiles_do_not_overlap(values: list[float]) -> None:
    tiles = squarify(values, Box(0, 0, 300, 200))
    for i, a in enumerate(tiles):
        for b in tiles[i + 1 :]:
            apart_x = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
            apart_y = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
            assert min(apart_x, apart_y) <= 1e-6


def test_tiles_are_squarer_than_slices() -> None:
    tiles = squarify([6, 6, 4, 3, 2, 2, 1], Box(0, 0, 6, 4))  # the paper's example
    ratios = [max(t.width / t.height, t.height / t.width) for t in tiles]
    assert max(ratios) < 3.1
    assert (tiles[0].width, tiles[0].height) == (3, 2)


def test_a_stack_starts_where_the_last_part_ended() -> None:
    assert stack([1, 0, 3], 8) == [(0, 12.5), (12.5, 0), (12.5, 37.5)]
    assert stack([0, 0], 0) == [(0, 0), (0, 0)]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_are_within_and_not_too_many(low: float, span: float, count: int) -> None:
    found = ticks(low, low + span, count)
    room = 1e-6 * (span + abs(low))
    assert all(low - room <= t <= low + span + room for t in found)
    assert len(found) <= count + 1


def test_positions_on_axes() -> None:
    assert [on_log(v, 1e-9, 1) for v in (0, 1e-9, 1, 5, None)] == [0, 0, 100, 100, 100]
    assert on_log(1e-6, 1e-9, 1) == pytest.approx(100 / 3)
    assert (within(3, 2, 4), within(1, 1, 1)) == (50, 50)


# ------------------------------------------------------------------ encodings
CODES = torch.zeros(8, 64, dtype=torch.int8)
W = Dense(torch.zeros(8, 64))
HALF = Dense(torch.zeros(8, 64, dtype=torch.float16), as_dtype=DType.F32)
INT8 = Affine(CODES, torch.ones(8, 1))
INT4 = Affine(CODES, torch.ones(8, 2, dtype=torch.bfloat16), bits=4, group=32)
ZEROS = Affine(CODES, torch.ones(8, 2), torch.zeros(8, 2, dtype=torch.int8), bits=3, group=32)
ONE_SCALE = Affine(CODES, torch.ones(1, 1), axis=None)
TABLE = Lut(torch.zeros(8, 64, dtype=torch.uint8), torch.rand(1, 1, 16, 1), bits=4)
MASK = torch.tensor([True, True, False, False]).repeat(8, 16)


@pytest.mark.parametrize(
    ("encoding", "want"),
    [
        (W, ("f32", "f32")),
        (Dense(torch.zeros(3, dtype=torch.int64)), ("i64", "other")),
        (HALF, ("f16", "f16")),
        (INT8, ("int8, per channel", "int8")),
        (INT4, ("int4, group 32", "int4")),
        (ZEROS, ("int3, group 32, zero points", "int2")),
        (ONE_SCALE, ("int8, per tensor", "int8")),
        (TABLE, ("4-bit table", "lut")),
        (Sparse("two_four", MASK, INT4), ("2:4 int4, group 32", "sparse")),
        (Sparse("bitmask", MASK, W), ("masked f32", "sparse")),
        (
            Outliers(INT4, torch.tensor([3]), torch.ones(1, dtype=torch.float16)),
            ("int4, group 32 + outliers", "outliers"),
        ),
    ],
)
def test_encodings_have_short_names(encoding: Encoding, want: tuple[str, str]) -> None:
    assert name_of(encoding.describe(), encoding.type.dtype.value) == want


def test_an_unknown_encoding_keeps_its_text() -> None:
    assert name_of("hashed(seed=3)", "f32") == ("hashed(seed=3)", "other")


def test_elements_of_a_type() -> None:
    assert [count_of(t) for t in ("f32[8000, 256]", "f32[]", "bf16[3]")] == [2_048_000, 1, 3]


# ------------------------------------------------------------------ groups
def test_constants_are_grouped_by_the_repeated_module() -> None:
    names = ["model.shared.weight", "model.encoder.layers.0.fc1.weight", "model.encoder.norm.bias"]
    assert list(places(names).values()) == [
        Place("shared", "weight"),
        Place("encoder.layers.0", "fc1.weight"),
        Place("encoder.norm", "bias"),
    ]


def test_many_modules_are_grouped_in_runs() -> None:
    names = [f"layers.{i}.w" for i in range(10)]
    assert {p.group for p in places(names, most=5).values()} == {
        "layers.0-1",
        "layers.2-3",
        "layers.4-5",
        "layers.6-7",
        "layers.8-9",
    }
    assert places(names, most=5)["layers.3.w"] == Place("layers.2-3", "3.w")
    assert {p.group for p in places(names, most=1).values()} == {"layers.0-15"}


def test_too_many_modules_without_numbers_are_grouped_by_the_first_word() -> None:
    names = [f"{a}.part{i}.w" for a in ("x", "y") for i in range(30)]
    assert {p.group for p in places(names).values()} == {"x", "y"}


def test_names_without_modules() -> None:
    assert places(["w", "b", "net.0.w"])["w"] == Place(LOOSE, "w")
    assert places(["bias", "net.0.w"])["bias"] == Place("bias", "bias")
    assert places([]) == {}


@given(st.lists(st.from_regex(r"[a-c0-9.]{1,12}", fullmatch=True), max_size=60, unique=True))
def test_every_name_has_a_place(names: list[str]) -> None:
    found = places(names)
    assert sorted(found) == sorted(names)
    assert all(p.group for p in found.values())


# ------------------------------------------------------------------ numbers
def test_numbers_have_their_units() -> None:
    shown = [
        units.size(4_930_000),
        units.size(None),
        units.round_size(1e7),
        units.short(7_412_352),
        units.share(0.165),
        units.ratio(0.1651),
        units.times(6.06),
        units.tiny(3.14e-6),
        units.tiny(0.0),
        units.tiny(None),
        units.tiny(0.17),
        units.points(33.407),
        units.points(0.99123),
        units.change(-0.311),
        units.change(0.0),
        units.change(0.00012),
        units.decibel(units.sqnr_of(0.1)),
        units.decibel(None),
        units.milliseconds(4.128),
        units.seconds(125),
    ]
    assert [s.replace(units.NBSP, " ") for s in shown] == [
        "4.93 MB",
        "–",
        "10 MB",
        "7.41 M",
        "16.5 %",
        "0.165",
        "6.06×",
        "3.1e−6",
        "0",
        "not finite",
        "0.17",
        "33.41",
        "0.9912",
        "−0.31",
        "±0",
        "+0.0001",
        "20.0 dB",
        "∞",
        "4.13 ms",
        "2 min 05 s",
    ]


# ------------------------------------------------------------------ changed texts
@given(texts, texts)
def test_sentence_scores_are_those_of_sacrebleu(text: str, reference: str) -> None:
    import sacrebleu

    want = sacrebleu.CHRF().sentence_score(text, [reference]).score
    assert chrf(text, reference) == pytest.approx(want, abs=1e-9)


@given(texts, texts)
def test_marked_words_add_up_to_the_texts(before: str, after: str) -> None:
    old, new = word_changes(before, after)
    assert "".join(t for t, _ in old) == before
    assert "".join(t for t, _ in new) == after
    kept = ["".join(t for t, changed in side if not changed).split() for side in (old, new)]
    assert kept[0] == kept[1]


def test_changed_samples_are_counted_and_the_worst_come_first() -> None:
    found = changes_of(
        Texts(
            ("s0", "s1", "s2", "s3"),
            ("ein Haus", "ein Baum", "ein Tier", "ein Ding"),
            ("ein Haus", "ein Baum", "ein Tor", "ein Ding"),
            ("ein Haus", "kein", "ein Tier", "ein Dinge"),
        )
    )
    assert (found.same, found.better, found.equal, found.worse) == (1, 1, 0, 2)
    assert [e.source for e in found.worst] == ["s1", "s3"]
    assert [e.source for e in found.best] == ["s2"]
    assert found.worst[0].original_score == 100
