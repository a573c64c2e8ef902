"""The benchmark of quality: its texts, and what its two numbers mean."""

from __future__ import annotations

import math

import torch

from edgec.passes import parse_pipeline
from tests.bench.quality import CALIBRATION, ROWS, TEXTS, agreement, neighbours


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
    assert neighbours(before).tolist() == [1, 0, 3, 2]
    assert agreement(before, before) == (1.0, 1.0)
    angles[2] = 0.2
    after = torch.stack([angles.cos(), angles.sin()], 1)
    cosine, same = agreement(after, before)
    assert same == 0.5  # of the second and the third text it is another one
    assert math.isclose(cosine, (3 + math.cos(0.8)) / 4)
