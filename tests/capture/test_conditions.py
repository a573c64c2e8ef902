"""Conditions on sizes: held, turned into ranges, or refused; never dropped."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import edgec
from edgec.errors import CaptureError
from edgec.ir import Program

B, T = Dim("batch", max=64), Dim("seq", max=64)


class Wrapped(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def captured(function: Any) -> Program:
    return edgec.capture(Wrapped(function), (torch.randn(4, 8),), ({0: B, 1: T},))


def branch(x: Tensor) -> Tensor:
    return x * 2 if x.shape[1] != 3 else x


def branch_on_both(x: Tensor) -> Tensor:
    return x * 2 if x.shape[0] * x.shape[1] != 3 else x


def checked(x: Tensor) -> Tensor:
    torch._check(x.shape[1] % 4 == 0)
    return x + 1


def checked_together(x: Tensor) -> Tensor:
    torch._check(x.shape[0] * x.shape[1] < 100)
    return x + 1


def test_a_branch_narrows_the_range_to_its_side() -> None:
    dims = captured(branch).main.dims
    assert (dims["seq"].min, dims["seq"].max) == (4, 64)
    assert (dims["batch"].min, dims["batch"].max) == (0, 64)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (checked, "seq%4 == 0"),
        (checked_together, "batch*seq < 100"),
        (branch_on_both, "batch*seq != 3"),
    ],
)
def test_what_no_range_expresses_is_told(function: Any, text: str) -> None:
    assert captured(function).metadata["conditions"] == {"main": [text]}


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: x.reshape(-1, 4), "(batch*seq)%4 == 0"),
        (lambda x: x.unflatten(1, (2, -1)), "seq%2 == 0"),
    ],
)
def test_a_shape_that_needs_a_condition_is_refused_with_it(function: Any, text: str) -> None:
    with pytest.raises(CaptureError, match="dynamic_shapes") as caught:
        captured(function)
    assert text in str(caught.value)


def test_a_side_of_a_branch_that_no_range_expresses_is_refused() -> None:
    with pytest.raises(CaptureError, match=r"seq%4 == 0; .*dynamic_shapes"):
        captured(lambda x: x * 2 if x.shape[1] % 4 == 0 else x)


def wide(function: Any, top: int) -> Program:
    dims = {0: Dim("batch", max=top), 1: Dim("seq", max=top)}
    return edgec.capture(Wrapped(function), (torch.randn(4, 8),), (dims,))


def test_conditions_far_from_the_example_count() -> None:
    program = wide(lambda x: x * 2 if x.shape[1] ** 2 <= 64_000_000 else x + 1, 100_000)
    assert program.main.dims["seq"].max == 8000
    program = wide(lambda x: x if x.shape[0] + x.shape[1] != 50 else x + 1, 100)
    assert program.metadata["conditions"] == {"main": ["batch + seq != 50"]}


def test_a_minimum_with_a_large_number_is_kept() -> None:
    program = wide(lambda x: x[:, : min(x.shape[1], 1000)], 100_000)
    assert program.run(torch.ones(1, 1009)).shape == (1, 1000)


def test_code_that_has_no_file_counts() -> None:
    names: dict[str, Any] = {}
    exec(
        compile("def f(x):\n    return x if x.shape[1] % 2 == 0 else -x", "<stdin>", "exec"), names
    )
    with pytest.raises(CaptureError, match="seq%2 == 0"):
        captured(names["f"])


def test_a_number_that_is_fixed_to_the_examples_is_refused() -> None:
    """int() of a size has to give Python one number; math.floor gives a size."""
    with pytest.raises(CaptureError, match=r"sizes with conditions, .*== 12"):
        captured(lambda x: x.new_zeros(int(x.shape[1] * 1.5)) + x.sum())
    program = captured(lambda x: x.new_zeros(math.floor(x.shape[1] * 1.5)) + x.sum())
    assert program.run(torch.ones(2, 5)).shape == (7,)


def test_a_size_that_is_stated_as_a_multiple_is_accepted() -> None:
    quarter = Dim("quarter", max=16)
    module, x = Wrapped(checked), torch.randn(4, 8)
    program = edgec.capture(module, (x,), ({0: B, 1: 4 * quarter},))
    assert program.main.dims["quarter"].max == 16
    assert torch.equal(program.run(torch.ones(2, 12)), torch.full((2, 12), 2.0))


@pytest.mark.parametrize(
    "function",
    [lambda x: x.t().contiguous(), lambda x: x.reshape(-1), lambda x: torch.cat([x, x[:1]])],
)
def test_what_torch_decides_inside_of_its_operators_costs_no_size(function: Any) -> None:
    dims = captured(function).main.dims
    assert [(r.min, r.max) for r in dims.values()] == [(0, 64), (0, 64)]
