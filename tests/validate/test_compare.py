"""Comparison of tensors: what must never pass."""

from __future__ import annotations

import pytest
import torch

from edgec.validate.compare import compare

LOWEST = torch.finfo(torch.float32).min


def test_a_filler_does_not_hide_errors_elsewhere() -> None:
    want = torch.tensor([1.0, 2.0, LOWEST])
    assert compare("y", want.clone(), want, 1e-5).passed
    assert not compare("y", torch.tensor([-700.0, 900.0, LOWEST]), want, 1e-5).passed


@pytest.mark.parametrize("wrong", [0.0, float("-inf"), float("nan"), -LOWEST])
def test_a_filler_must_stand_where_it_belongs(wrong: float) -> None:
    want = torch.tensor([1.0, 2.0, LOWEST])
    assert not compare("y", torch.tensor([1.0, 2.0, wrong]), want, 1e-5).passed
    assert not compare("y", want, torch.tensor([1.0, 2.0, wrong]), 1e-5).passed


def test_another_dtype_is_a_difference() -> None:
    want = torch.ones(3)
    assert not compare("y", want.half(), want, 1e-3).passed
    assert not compare("y", torch.ones(3, dtype=torch.int64), torch.ones(3).bool(), 0.0).passed
