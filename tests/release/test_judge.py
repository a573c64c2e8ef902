"""Verdicts: what was found against what is allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgec.measure import Latency
from edgec.release.judge import Limits, judge
from edgec.release.manifest import EXIT_CODES, Quality, Sizes
from edgec.validate import Checked, Comparison, Fidelity

RIGHT = Fidelity(True, "rule", ())
OUTPUT = Comparison("logits", 10, 1.0, 0.5, 0.5, 1e-5, 3, 0.9, 6.0, False)
WRONG = Fidelity(False, "rule", (Checked("main", "odd", {"batch": 3}, False, 0.0, (OUTPUT,)),))
QUALITY = Quality(
    "bleu", "BLEU", 30.0, 30.2, 0.2, None, 10, "", {}, {}, 0.9, None, 0, None, 0.0, True
)
SIZES = Sizes(110, None, 100, None, 410, 400, None)


def verdict(fidelity=RIGHT, quality=QUALITY, sizes=SIZES, latency=(), **limits) -> str:
    return judge(fidelity, quality, sizes, latency, Limits(**limits))[0]


def test_nothing_wrong_is_accepted() -> None:
    assert judge(RIGHT, QUALITY, SIZES) == ("ACCEPT", ())


def test_lost_quality_is_a_regression() -> None:
    assert verdict(max_drop=0.1) == "REGRESSION"
    assert verdict(max_drop=0.2) == "ACCEPT"
    gained = replace(QUALITY, drop=-0.4)
    assert verdict(quality=gained, max_drop=0.0) == "ACCEPT"


def test_an_artifact_that_says_something_else_than_its_graph_is_anomalous() -> None:
    quality = replace(QUALITY, agreement=0.985, agreement_samples=200)
    assert verdict(quality=quality) == "ANOMALOUS"
    assert verdict(quality=quality, min_agreement=0.98) == "ACCEPT"
    assert verdict(quality=quality, min_agreement=None) == "ACCEPT"
    _, reasons = judge(RIGHT, quality, SIZES)
    assert reasons == ("says what the interpreted graph says for 98.5% of 200 texts, needed 99.0%",)


def test_quality_against_a_wrong_original_means_nothing() -> None:
    quality = replace(QUALITY, original_fidelity=None, original_passed=False)
    found, reasons = judge(RIGHT, quality, SIZES)
    assert found == "ANOMALOUS"
    assert "deviates from its own graph beyond all bounds" in reasons[0]


def test_a_wrong_artifact_is_anomalous_and_gravest() -> None:
    found, reasons = judge(WRONG, QUALITY, SIZES, (), Limits(max_drop=0.1, max_ratio=0.1))
    assert found == "ANOMALOUS"
    assert len(reasons) == 3
    assert "main (odd): output logits deviates by 0.5" in reasons[0]


def test_too_many_bytes_are_infeasible() -> None:
    assert verdict(max_bytes=109) == "INFEASIBLE"
    assert verdict(max_bytes=110) == "ACCEPT"
    assert verdict(max_ratio=0.24) == "INFEASIBLE"
    assert verdict(max_ratio=0.25) == "ACCEPT"


def test_more_bytes_than_uncompressed_need_permission() -> None:
    grown = replace(SIZES, model_bytes=401)
    assert verdict(sizes=grown) == "GREW"
    assert verdict(sizes=grown, allow_bigger=True) == "ACCEPT"
    assert verdict(sizes=replace(SIZES, model_bytes=400)) == "ACCEPT"


def test_slower_is_a_verdict_where_it_is_limited() -> None:
    latency = (Latency("main", {}, 3.0, 2.0, 9), Latency("other", {}, 3.0, None, 9))
    assert verdict(latency=latency) == "ACCEPT"
    assert verdict(latency=latency, max_slowdown=1.4) == "SLOWER"
    assert verdict(latency=latency, max_slowdown=1.6) == "ACCEPT"


def test_exit_codes_differ() -> None:
    assert EXIT_CODES == {
        "ACCEPT": 0,
        "REGRESSION": 10,
        "ANOMALOUS": 11,
        "INFEASIBLE": 12,
        "GREW": 13,
        "SLOWER": 14,
    }


@pytest.mark.parametrize("field", ["max_drop", "max_bytes", "max_ratio", "max_slowdown"])
def test_a_limit_of_zero_is_a_limit(field) -> None:
    latency = (Latency("main", {}, 3.0, 2.0, 9),)
    assert verdict(latency=latency, **{field: 0}) != "ACCEPT"
