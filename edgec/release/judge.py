"""The verdict of a release: what was found against what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgec.measure import Latency, show_bytes
from edgec.release.manifest import EXIT_CODES, Outcome, Quality, Sizes
from edgec.validate.report import Fidelity

SLACK = 1e-9  # of a drop, for sums in another order


@dataclass(frozen=True)
class Limits:
    """What a build must hold; None: no limit.

    max_drop       of quality, in the metric's unit
    max_bytes      of all files that ship
    max_ratio      of the model's bytes to those of the uncompressed build
    max_slowdown   of CPU time to that of the uncompressed build
    allow_bigger   accept more bytes than the uncompressed build has
    min_agreement  part of the texts for which artifact and interpreted graph say the same
    """

    max_drop: float | None = None
    max_bytes: int | None = None
    max_ratio: float | None = None
    max_slowdown: float | None = None
    allow_bigger: bool = False
    min_agreement: float | None = 0.99


def judge(
    fidelity: Fidelity,
    quality: Quality,
    sizes: Sizes,
    latency: Sequence[Latency] = (),
    limits: Limits = Limits(),
) -> tuple[Outcome, tuple[str, ...]]:
    """The verdict, the gravest first, and a reason for everything that is not as it should be."""
    found: list[tuple[Outcome, str]] = []
    if not fidelity.passed:
        found.append(("ANOMALOUS", _why_anomalous(fidelity)))
    found += [("ANOMALOUS", reason) for reason in _other_anomalies(quality, limits)]
    if limits.max_drop is not None and quality.drop > limits.max_drop + SLACK:
        found.append(
            (
                "REGRESSION",
                f"lost {quality.drop:.3g} {quality.unit} "
                f"({quality.original:.4g} -> {quality.value:.4g}), allowed {limits.max_drop:g}",
            )
        )
    found += [("INFEASIBLE", reason) for reason in _too_big(sizes, limits)]
    if not limits.allow_bigger and sizes.model_bytes > sizes.uncompressed_model_bytes:
        found.append(
            (
                "GREW",
                f"{show_bytes(sizes.model_bytes)}, the uncompressed build has "
                f"{show_bytes(sizes.uncompressed_model_bytes)}",
            )
        )
    if limits.max_slowdown is not None:
        too_slow = slower(latency, limits.max_slowdown)
        found += [("SLOWER", f"{line}, allowed {limits.max_slowdown:g}") for line in too_slow]
    order = list(EXIT_CODES)
    found.sort(key=lambda f: (f[0] != "ANOMALOUS", order.index(f[0])))
    return (found[0][0] if found else "ACCEPT"), tuple(reason for _, reason in found)


def _why_anomalous(fidelity: Fidelity) -> str:
    if fidelity.first is not None:
        return str(fidelity.first)
    worst = next(c for c in fidelity.checked if not c.passed)
    output = next(o for o in worst.outputs if not o.passed)
    ratio = "not finite" if output.max_ratio is None else f"{output.max_ratio:.2g}"
    return (
        f"{worst.function} ({worst.label}): output {output.name} deviates by {ratio} of its scale, "
        f"allowed {output.tolerance:.2g}, in {output.differing} of {output.count} elements"
    )


def _other_anomalies(quality: Quality, limits: Limits) -> list[str]:
    reasons = []
    got, need = quality.agreement, limits.min_agreement
    if got is not None and need is not None and got < need:
        reasons.append(
            f"says what the interpreted graph says for {got:.1%} of {quality.agreement_samples} "
            f"texts, needed {need:.1%}"
        )
    if not quality.original_passed:
        ratio = quality.original_fidelity
        shown = "beyond all bounds" if ratio is None else f"by {ratio:.2g} of the scale"
        reasons.append(
            f"the uncompressed build, against which quality is measured, deviates from its own "
            f"graph {shown}"
        )
    return reasons


def _too_big(sizes: Sizes, limits: Limits) -> list[str]:
    reasons = []
    if limits.max_bytes is not None and sizes.shipped_bytes > limits.max_bytes:
        reasons.append(
            f"{show_bytes(sizes.shipped_bytes)} ship, allowed {show_bytes(limits.max_bytes)}"
        )
    if limits.max_ratio is not None and sizes.ratio > limits.max_ratio:
        reasons.append(f"{sizes.ratio:.4f} of the uncompressed bytes, allowed {limits.max_ratio:g}")
    return reasons


def slower(latency: Sequence[Latency], limit: float) -> list[str]:
    """A line for each function that takes longer than `limit` times the uncompressed build."""
    return [
        f"{entry.function}: {entry.ratio:.2f} times the CPU time of the uncompressed build"
        for entry in latency
        if entry.ratio is not None and entry.ratio > limit
    ]
