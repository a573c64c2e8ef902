"""Comparison of one tensor with what it should be: deviations relative to its scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from edgec.records import finite
from edgec.validate.tolerance import INTEGER_RATIO


@dataclass(frozen=True)
class Comparison:
    """One output of an artifact against the interpreted graph.

    name         of the output
    count        elements compared
    scale        greatest magnitude of what is expected
    max_abs      greatest absolute deviation; null: not finite
    max_ratio    max_abs / scale
    tolerance    allowed max_ratio; 0 means the same bits
    differing    elements beyond the tolerance
    cosine       cosine similarity; null: not defined
    sqnr_db      10 log10(signal power / error power); null: no error at all, or not finite
    passed       whether the tolerance holds
    """

    name: str
    count: int
    scale: float | None
    max_abs: float | None
    max_ratio: float | None
    tolerance: float
    differing: int
    cosine: float | None
    sqnr_db: float | None
    passed: bool


# Fillers of masks: the lowest f32 is no magnitude that an error of the others may be measured by.
FILLER = 1e30


def compare(name: str, got: torch.Tensor, want: torch.Tensor, tolerance: float) -> Comparison:
    """`got` against `want`; NaNs, infinities and fillers must stand at the same places."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return Comparison(
            name, want.numel(), None, None, None, tolerance, want.numel(), None, None, False
        )
    if not want.dtype.is_floating_point:
        return _compare_integers(name, got, want, tolerance)
    g, w = got.double().reshape(-1), want.double().reshape(-1)
    lowest = (w.abs() >= FILLER) & w.isfinite() & g.isfinite()
    filler = lowest & ((g - w).abs() <= tolerance * w.abs())
    same = (g == w) | (g.isnan() & w.isnan()) | filler
    usable = (g.abs() < FILLER) & (w.abs() < FILLER)
    broken = ~same & ~usable
    g, w = g[usable], w[usable]
    scale = float(w.abs().max()) if w.numel() else 0.0
    error = (g - w).abs()
    allowed = tolerance * (scale or 1.0)
    differing = int(broken.sum()) + int((error > allowed).sum())
    max_abs = float(error.max()) if error.numel() else 0.0
    if bool(broken.any()):
        max_abs = math.inf
    return Comparison(
        name=name,
        count=want.numel(),
        scale=scale,
        max_abs=finite(max_abs),
        max_ratio=finite(max_abs / (scale or 1.0)),
        tolerance=tolerance,
        differing=differing,
        cosine=cosine(g, w),
        sqnr_db=finite(_sqnr_db(g, w)),
        passed=differing == 0,
    )


def _compare_integers(
    name: str, got: torch.Tensor, want: torch.Tensor, tolerance: float
) -> Comparison:
    error = (got.double() - want.double()).abs().reshape(-1)
    differing = int((error > 0).sum())
    scale = float(want.double().abs().max()) if want.numel() else 0.0
    max_abs = float(error.max()) if error.numel() else 0.0
    allowed = INTEGER_RATIO if tolerance > 0 else 0.0
    ratio = differing / max(1, want.numel())
    return Comparison(
        name, want.numel(), scale, max_abs, ratio, allowed, differing, None, None, ratio <= allowed
    )


def cosine(a: torch.Tensor, b: torch.Tensor) -> float | None:
    """Cosine similarity of two flat tensors; 1.0 for two zeros, None for one."""
    norms = float(a.norm()), float(b.norm())
    if norms == (0.0, 0.0):
        return 1.0
    if 0.0 in norms:
        return None
    return finite(float(torch.dot(a, b)) / (norms[0] * norms[1]))


def _sqnr_db(got: torch.Tensor, want: torch.Tensor) -> float:
    noise = float((got - want).square().sum())
    signal = float(want.square().sum())
    return 10 * math.log10(signal / noise) if noise > 0 and signal > 0 else math.inf


def deviation(got: torch.Tensor, want: torch.Tensor) -> float:
    """max |got - want| / max |want|; infinite where they differ in shape, NaNs or infinities."""
    found = compare("", got, want, 0.0)
    return math.inf if found.max_ratio is None else found.max_ratio
