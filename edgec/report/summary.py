"""The top of a report: what was built, in one sentence and a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgec.release.manifest import Manifest, Quality, Sizes
from edgec.report import units
from edgec.report.checks import Call, used, worst_call

TONES = {"ACCEPT": "good", "ANOMALOUS": "bad", "INFEASIBLE": "bad"}
MEANINGS = {
    "ACCEPT": "keeps every promise of its recipe",
    "REGRESSION": "lost more quality than allowed",
    "ANOMALOUS": "the artifact does not compute what its graph means",
    "INFEASIBLE": "is bigger than allowed",
    "GREW": "is bigger than the uncompressed build",
    "SLOWER": "is slower than allowed",
}


@dataclass(frozen=True)
class Meter:
    """A bar: filled to `value`, with a mark at `limit`; percent of its length."""

    value: float
    limit: float | None = None


@dataclass(frozen=True)
class Tile:
    """A number of the headline: good, bad, or plain where nothing was promised."""

    name: str
    value: str
    unit: str
    lines: tuple[str, ...]
    tone: str
    meter: Meter | None = None


def tone_of(verdict: str) -> str:
    """Colour of a verdict."""
    return TONES.get(verdict, "warn")


def tiles_of(manifest: Manifest, calls: Sequence[Call]) -> tuple[Tile, ...]:
    """The headline's numbers; what was not measured is left out."""
    found = [
        _model(manifest.sizes),
        _download(manifest.sizes),
        _quality(manifest.quality),
        _fidelity(manifest, calls),
        _speed(manifest),
        _agreement(manifest.quality),
    ]
    return tuple(tile for tile in found if tile is not None)


def _split(text: str) -> tuple[str, str]:
    number, _, unit = text.partition(units.NBSP)
    return number, unit


def _model(sizes: Sizes) -> Tile:
    value, unit = _split(units.size(sizes.model_bytes))
    limit = sizes.max_ratio
    held = limit is None or sizes.ratio <= limit
    allowed = "" if limit is None else f", allowed {limit:g}"
    lines = (
        f"{units.ratio(sizes.ratio)} of {units.size(sizes.uncompressed_model_bytes)}{allowed}",
        f"{units.times(1 / sizes.ratio)} smaller" if 0 < sizes.ratio < 1 else "not smaller",
    )
    grew = sizes.ratio > 1 and not sizes.allow_bigger
    tone = "bad" if grew or not held else "good" if limit is not None else "plain"
    marks = Meter(min(100.0, 100 * sizes.ratio), None if limit is None else min(100.0, 100 * limit))
    return Tile("Model", value, unit, lines, tone, marks)


def _download(sizes: Sizes) -> Tile:
    value, unit = _split(units.size(sizes.shipped_bytes))
    limit = sizes.max_shipped_bytes
    lines = [
        f"{units.size(sizes.shipped_brotli_bytes)} under brotli"
        if sizes.shipped_brotli_bytes is not None
        else "brotli not measured",
        f"uncompressed build {units.size(sizes.uncompressed_shipped_bytes)}",
    ]
    tone = "plain"
    if limit is not None:
        tone = "good" if sizes.shipped_bytes <= limit else "bad"
        lines[1] = f"allowed {units.size(limit)}"
    whole = max(sizes.uncompressed_shipped_bytes, sizes.shipped_bytes, 1)
    mark = None if limit is None else min(100.0, 100 * limit / whole)
    return Tile(
        "All files that ship",
        value,
        unit,
        tuple(lines),
        tone,
        Meter(100 * sizes.shipped_bytes / whole, mark),
    )


def _quality(quality: Quality) -> Tile:
    limit = quality.max_drop
    allowed = "" if limit is None else f", allowed {units.change(-limit)}"
    tone = "plain" if limit is None else "good" if quality.drop <= limit + 1e-9 else "bad"
    lines = (
        f"{units.points(quality.original)} uncompressed",
        f"{units.change(-quality.drop)}{allowed}",
    )
    used_up = None if not limit else Meter(_clip(75 * quality.drop / limit), 75.0)
    return Tile("Quality", units.points(quality.value), quality.unit, lines, tone, used_up)


def _fidelity(manifest: Manifest, calls: Sequence[Call]) -> Tile | None:
    worst = worst_call(calls)
    if worst is None:
        return None
    failed = sum(not c.checked.passed for c in calls)
    part = used(worst.worst)
    room = "exact" if part == 0 else f"{units.share(part, 0)} of its tolerance"
    if failed:
        room = f"{failed} of {len(calls)} calls beyond their tolerance"
    return Tile(
        "Fidelity",
        units.tiny(worst.worst.max_ratio),
        "",
        (f"greatest deviation in {len(calls)} calls", room),
        "bad" if failed or not manifest.fidelity.passed else "good",
        Meter(worst.deviation, worst.allowed),
    )


def _speed(manifest: Manifest) -> Tile | None:
    timed = [entry for entry in manifest.host.latency if entry.ratio is not None]
    if not timed:
        return None
    slowest = max(timed, key=lambda entry: entry.ratio or 0.0)
    ratio, limit = slowest.ratio or 0.0, manifest.host.max_slowdown
    lines = (
        f"{slowest.function}: {units.milliseconds(slowest.ms)}",
        f"uncompressed {units.milliseconds(slowest.uncompressed_ms)}",
    )
    tone = "plain" if limit is None else "good" if ratio <= limit else "bad"
    marks = Meter(_clip(50 * ratio), 50.0)
    return Tile("CPU time", units.times(ratio), "", lines, tone, marks)


def _agreement(quality: Quality) -> Tile | None:
    if quality.agreement is None or not quality.agreement_samples:
        return None
    value, unit = _split(units.share(quality.agreement))
    lines = (
        f"of {quality.agreement_samples} outputs equal",
        "the interpreted graph's",
    )
    return Tile("Agreement", value, unit, lines, "plain", Meter(100 * quality.agreement))


def _clip(value: float) -> float:
    return min(100.0, max(0.0, value))


def sentence(manifest: Manifest, calls: Sequence[Call]) -> str:
    """The release in a sentence, for those who read no more."""
    sizes, quality = manifest.sizes, manifest.quality
    smaller = f"{units.times(1 / sizes.ratio)} smaller than" if 0 < sizes.ratio < 1 else "beside"
    parts = [
        f"{units.size(sizes.model_bytes)}, {smaller} the uncompressed "
        f"{units.size(sizes.uncompressed_model_bytes)}",
        f"{units.points(quality.value)} {quality.unit} where the uncompressed build has "
        f"{units.points(quality.original)}",
    ]
    if calls:
        failed = sum(not c.checked.passed for c in calls)
        parts.append(
            f"{failed} of {len(calls)} executed calls differ from the graph"
            if failed
            else f"all {len(calls)} executed calls match the graph"
        )
    return "; ".join(parts) + "."
