"""The interpreter's view of nested arguments."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import edgec
from edgec.errors import ValidationError


class Difference(nn.Module):
    def forward(self, pair: dict[str, torch.Tensor], scale: torch.Tensor) -> torch.Tensor:
        return (pair["a"] - pair["b"]) * scale


@pytest.fixture(scope="module")
def program() -> edgec.Program:
    pair = {"a": torch.randn(3), "b": torch.randn(3)}
    return edgec.capture(Difference().eval(), (pair, torch.randn(3)))


def test_dictionaries_are_read_by_key(program: edgec.Program) -> None:
    a, b, scale = torch.randn(3), torch.randn(3), torch.randn(3)
    assert torch.equal(program.run({"b": b, "a": a}, scale), (a - b) * scale)


@pytest.mark.parametrize("keys", [("a", "x"), ("x", "y"), ("a",), ("a", "b", "c")])
def test_other_keys_are_refused(program: edgec.Program, keys: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="inputs of structure"):
        program.run({k: torch.randn(3) for k in keys}, torch.randn(3))


def test_flat_tensors_are_taken_in_the_order_of_the_signature(program: edgec.Program) -> None:
    a, b, scale = torch.randn(3), torch.randn(3), torch.randn(3)
    assert torch.equal(program.run(a, b, scale), (a - b) * scale)
