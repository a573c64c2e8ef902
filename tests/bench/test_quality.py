"""The benchmark of quality: its texts, and what its two numbers mean."""

from __future__ import annotations

import math

import torch

from edgec.passes import parse_pipeline
from tests.bench.quality import CALIBRATION, ROWS, TEXTS, Agreement, agreement, neighbours


def test_there_are_500_texts_and_none_of_them_is_calibrated_with() -> None:
    texts = TEXTS.read_text("utf-8").splitlines()
    others = {t.casefold() for t in CALIBRATION.read_text("utf-8").splitlines()}
    assert len(texts) == 500 and len({t.casefold() for t in texts}) == 500
    assert not others & {t.casefold() for t in texts}


def test_every_row_is_a_pipeline() -> None:
    for specs in ROWS.values():
        assert len(parse_pipeline(specs).passes) == len(specs)


def test_agreement_counts_equal_neighbours() -> None:
    """Four directions: the first two and the last two are neighbours until the third turns."""
    angles = torch.tensor([0.0, 0.1, 1.0, 1.3]).double()
    before = torch.stack([angles.cos(), angles.sin()], 1)
    assert neighbours(before, 1).tolist() == [[1], [0], [3], [2]]
    assert agreement(before, before) == Agreement(1.0, 1.0, 1.0)
    angles[2] = 0.25
    after = torch.stack([angles.cos(), angles.sin()], 1)
    found = agreement(after, before)
    assert found.top1 == 0.75  # the third text has another one
    assert found.overlap == 1.0  # all others, where there are so few
    assert math.isclose(found.cosine, (3 + math.cos(0.75)) / 4)
