"""A small program that uses embeddings, products, a function of libm and a named dimension."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

import edgec
from edgec.ir import Program
from edgec.target import Artifact
from edgec.targets.native import Native

TOKENS, LONGEST = 24, 9


class Small(torch.nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table = torch.nn.Embedding(TOKENS, 20)
        self.out = torch.nn.Linear(20, 7)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.out(torch.nn.functional.gelu(self.table(ids)))
        return y.abs() ** 1.7


def small(seed: int = 0) -> Program:
    """ids: i64[length] -> f32[length, 7]."""
    length = torch.export.Dim("length", min=1, max=LONGEST)
    return edgec.capture(Small(seed).eval(), (torch.arange(5),), ({0: length},))


def emit(
    program: Program,
    folder: Path,
    triples: Sequence[str] = (),
    name: str = "small",
    **options: object,
) -> Artifact:
    target = Native(file_name=name, triples=tuple(triples), **options)  # type: ignore[arg-type]
    return target.emit(target.legalize(program), folder)


def close(got: torch.Tensor, want: torch.Tensor) -> bool:
    """Equal up to rounding of sums in another order: 4 eps sqrt(K) max |want|, with a factor of 4
    for the functions that follow."""
    allowed = 16 * torch.finfo(torch.float32).eps * 20**0.5 * float(want.abs().max())
    return got.shape == want.shape and float((got - want).abs().max()) <= allowed
