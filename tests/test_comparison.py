"""Comparison of tensors: what must never pass."""

from __future__ import annotations

import pytest
import torch

from edgec.comparison import compare, deviation

LOWEST = torch.finfo(torch.float32).min
FILLERS = (-1e9, LOWEST)


@pytest.mark.parametrize("filler", FILLERS)
def test_a_filler_does_not_hide_errors_elsewhere(filler: float) -> None:
    want = torch.tensor([1.0, 2.0, filler])
    assert compare("y", want.clone(), want, 1e-5).passed
    assert not compare("y", torch.tensor([1.0, 2.001, filler]), want, 1e-5).passed
    assert deviation(torch.tensor([1.0, 2.001, filler]), want) == pytest.approx(5e-4, rel=1e-3)


@pytest.mark.parametrize("wrong", [0.0, float("-inf"), float("nan"), -LOWEST, 1e9])
def test_a_filler_must_stand_where_it_belongs(wrong: float) -> None:
    for filler in FILLERS:
        want = torch.tensor([1.0, 2.0, filler])
        assert not compare("y", torch.tensor([1.0, 2.0, wrong]), want, 1e-5).passed
        assert not compare("y", want, torch.tensor([1.0, 2.0, wrong]), 1e-5).passed


def test_a_score_that_a_filler_swallowed_is_no_deviation() -> None:
    """In float64 it is still there, in float32 it is rounded away."""
    exact = torch.tensor([3.0, -1e9 + 4.2], dtype=torch.float64)
    assert deviation(exact.float().double(), exact) == 0.0


def test_great_values_among_others_are_no_fillers() -> None:
    """Their rounding is what the others may be off by."""
    want = torch.tensor([3e9, 4e8, 2e7, 5e3, 1.0])
    assert compare("y", want + torch.tensor([0.0, 0.0, 0.0, 0.0, 50.0]), want, 1e-6).passed
    alone = torch.tensor([3e9, 2e9])
    assert compare("y", alone + torch.tensor([0.0, 1000.0]), alone, 1e-6).passed


def test_another_dtype_is_a_difference() -> None:
    want = torch.ones(3)
    assert not compare("y", want.half(), want, 1e-3).passed
    assert not compare("y", torch.ones(3, dtype=torch.int64), torch.ones(3).bool(), 0.0).passed
