"""The parts of the reference model's training that have a mathematical twin."""

from __future__ import annotations

import torch
from torch.nn import functional

from edgec.models.translate.loss import cross_entropy
from edgec.models.translate.muon import orthogonalise


def test_chunked_cross_entropy_equals_torch() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(600, 16, requires_grad=True)  # three chunks, the last one partial
    weight = torch.randn(50, 16, requires_grad=True)
    target = torch.randint(50, (600,))
    ours = cross_entropy(hidden, weight, target, 0.1, torch.float32)
    theirs = functional.cross_entropy(hidden @ weight.T, target, label_smoothing=0.1)
    torch.testing.assert_close(ours, theirs)
    got = torch.autograd.grad(3 * ours, (hidden, weight))
    want = torch.autograd.grad(3 * theirs, (hidden, weight))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_orthogonalise_brings_singular_values_to_one() -> None:
    torch.manual_seed(0)
    for shape in ((64, 256), (256, 64), (32, 32)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        # Five steps leave the smallest singular values of a square matrix behind.
        assert values.max() < 1.3 and values.median() > 0.6
