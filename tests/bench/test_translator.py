"""The benchmark of the translator: its rows, and what it refuses to learn from."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.passes import parse_pipeline
from edgec.passes.distill import Distill
from tests.bench.translator import CHECKPOINT, ROWS, refuse_measured, specs


def test_every_row_is_a_pipeline() -> None:
    for passes in ROWS.values():
        assert len(parse_pipeline(passes).passes) == len(passes)


def test_what_is_recovered_is_a_row_of_its_own() -> None:
    recovered = [n for n in ROWS if n.endswith(", recovered")]
    assert recovered
    for name in recovered:
        plain, *rest = name.split(", recovered")
        assert ROWS[name][:-1] == ROWS[plain] and rest == [""]


def test_a_training_gets_its_limits_and_folder() -> None:
    made = parse_pipeline(specs("nearest int4, recovered", 60.0, Path("kept"))).passes
    assert isinstance(made[-1], Distill)
    assert (made[-1].seconds, made[-1].checkpoint) == (60.0, "kept/nearest-int4-recovered")
    assert specs("nearest int4", 60.0, None) == ROWS["nearest int4"]


def test_texts_that_are_measured_with_are_refused() -> None:
    rows = (CHECKPOINT / "heldout.tsv").read_text("utf-8").splitlines()
    sources = [row.split("\t")[0] for row in rows]
    refuse_measured((CHECKPOINT / "calibration.txt").read_text("utf-8").splitlines(), sources)
    with pytest.raises(SystemExit, match="1 texts are measured with"):
        refuse_measured(["something else", sources[3].upper()], sources)
