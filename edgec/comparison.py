"""Comparison of one tensor with what it should be: deviations relative to its scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from edgec.records import finite

INTEGER_RATIO = 0.01  # of integers behind rounded ops, this part may differ

# Fillers of masks are no magnitudes that an error of the others may be measured by: the lowest f32
# and the like, and -1e9 and the like where they stand apart from all others.
FILLER = 1e30
LIKELY_FILLER, APART_RATIO = 1e8, 1e4
FILLER_ROUNDING = 1e-6  # of a filler, where a score in f32 was added to it


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


def compare(name: str, got: torch.Tensor, want: torch.Tensor, tolerance: float) -> Comparison:
    """`got` against `want`; NaNs, infinities and fillers must stand at the same places."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return Comparison(
            name, want.numel(), None, None, None, tolerance, want.numel(), None, None, False
        )
    if not want.dtype.is_floating_point:
        return _compare_integers(name, got, want, tolerance)
    g, w = got.double().reshape(-1), want.double().reshape(-1)
    filler = fillers(w)
    filled = filler & g.isfinite() & ((g - w).abs() <= tolerance * w.abs())
    same = (g == w) | (g.isnan() & w.isnan()) | filled
    usable = ~filler & w.isfinite() & (g.abs() < FILLER)
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


def fillers(values: torch.Tensor) -> torch.Tensor:
    """Where `values` are fillers of masks: from 1e30 on, or from 1e8 on if 1e4 times all others."""
    size, finite_ones = values.abs(), values.isfinite()
    likely = finite_ones & (size >= LIKELY_FILLER)
    others = size[finite_ones & ~likely]
    if likely.any() and others.numel() and size[likely].min() >= APART_RATIO * others.max():
        return likely
    return finite_ones & (size >= FILLER)


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
    """max |got - want| / max |want| without fillers; infinite where they differ in shape or where
    NaNs, infinities and fillers stand."""
    found = compare("", got, want, FILLER_ROUNDING)
    return math.inf if found.max_ratio is None else found.max_ratio
