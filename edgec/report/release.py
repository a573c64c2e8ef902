"""The page of one release: everything that its template shows, from its manifest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgec.measure import Latency
from edgec.release.manifest import Manifest, PassDone, Quality
from edgec.report.checks import LEAST, MOST, calls_of
from edgec.report.deviations import errors_of
from edgec.report.geometry import on_log, stack
from edgec.report.samples import Changes, Texts, changes_of
from edgec.report.summary import MEANINGS, sentence, tiles_of, tone_of
from edgec.report.weight import Row, weight_of


@dataclass(frozen=True)
class Figure:
    """A further figure of the quality check: numbers, or texts such as a metric's signature."""

    name: str
    value: float | str | None
    original: float | str | None

    @property
    def number(self) -> bool:
        return isinstance(self.value, float | int) and isinstance(self.original, float | int)


@dataclass(frozen=True)
class Aside:
    """Constants that the target could not store in their own encoding, for one reason."""

    support: str
    reason: str
    encoding: str
    stored_as: str  # "" for the same encoding
    names: tuple[str, ...]
    payload_bytes: int
    stored_bytes: int


@dataclass(frozen=True)
class Note:
    """What a pass left as it is, and the tensors or values that this is said of."""

    text: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """A line of the table of passes: a pass, or neighbours that found nothing to do (`idle`)."""

    done: PassDone
    notes: tuple[Note, ...] = ()
    idle: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timing:
    """Latency of a function; lengths of its bars in percent."""

    latency: Latency
    length: float
    uncompressed_length: float


@dataclass(frozen=True)
class Stage:
    """A stage of the build: its segment in percent."""

    name: str
    seconds: float
    start: float
    length: float


def context(manifest: Manifest, texts: Texts | None) -> dict[str, Any]:
    """What report.html.j2 needs."""
    weight = weight_of(manifest)
    calls = calls_of(manifest.fidelity)
    changes = None if texts is None else changes_of(texts)
    return {
        "title": f"{manifest.name} · edgec report",
        "m": manifest,
        "tone": tone_of(manifest.verdict),
        "meaning": MEANINGS[manifest.verdict],
        "sentence": sentence(manifest, calls),
        "tiles": tiles_of(manifest, calls),
        "weight": weight,
        "errors": errors_of(weight.rows, [c.name for c in manifest.constants]),
        "calls": calls,
        "gauge": [on_log(10.0**e, LEAST, MOST) for e in range(-9, 1, 3)],
        "figures": figures_of(manifest.quality),
        "changes": changes,
        "change_bar": change_bar(changes),
        "steps": steps_of(manifest.passes),
        "asides": asides_of(weight.rows),
        "timings": timings_of(manifest.host.latency),
        "stages": stages_of(manifest.host.seconds),
    }


def figures_of(quality: Quality) -> tuple[Figure, ...]:
    """Figures of both builds, side by side."""
    names = [*quality.figures, *(n for n in quality.original_figures if n not in quality.figures)]
    return tuple(Figure(n, quality.figures.get(n), quality.original_figures.get(n)) for n in names)


def change_bar(changes: Changes | None) -> tuple[tuple[str, str, int, float, float], ...]:
    """(tone, name, samples, start, length) of the bar that counts changed outputs."""
    if changes is None or not changes.samples:
        return ()
    found = [("plain", "same text", changes.same)]
    if changes.scored:
        found += [
            ("good", "closer to the reference", changes.better),
            ("warn", "changed, as close", changes.equal),
            ("bad", "farther from the reference", changes.worse),
        ]
    else:
        found.append(("warn", "changed", changes.worse + changes.equal + changes.better))
    spans = stack([n for _, _, n in found], changes.samples)
    return tuple((*entry, *span) for entry, span in zip(found, spans, strict=True) if entry[2])


def asides_of(rows: Sequence[Row]) -> tuple[Aside, ...]:
    """What was decoded or widened, the greatest first."""
    grouped: dict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        c = row.constant
        if c.support != "native" or c.reason:
            grouped[c.support, c.reason, row.kind.label, row.stored_as].append(row)
    found = [
        Aside(
            *key,
            tuple(sorted(r.constant.name for r in mine)),
            sum(r.constant.payload_bytes for r in mine),
            sum(r.constant.stored_bytes for r in mine),
        )
        for key, mine in grouped.items()
    ]
    return tuple(sorted(found, key=lambda a: (-a.stored_bytes, a.names)))


def steps_of(passes: Sequence[PassDone]) -> tuple[Step, ...]:
    """Passes in order; neighbours that changed nothing and noted nothing share a line."""
    steps: list[Step] = []
    for done in passes:
        silent = not done.modified and not done.notes
        if silent and steps and steps[-1].idle:
            steps[-1] = Step(done, (), (*steps[-1].idle, done.spec))
        else:
            steps.append(Step(done, notes_of(done.notes), (done.spec,) if silent else ()))
    return tuple(steps)


def notes_of(notes: Sequence[str]) -> tuple[Note, ...]:
    """Notes such as `@w9: K=30; need a multiple of 32`: the same said of several names, once."""
    grouped: dict[str, list[str]] = defaultdict(list)
    for note in notes:
        name, colon, text = note.partition(": ")
        if colon and name[:1] in "@%" and " " not in name:
            grouped[text].append(name)
        else:
            grouped[note] = grouped[note]
    return tuple(Note(text, tuple(names)) for text, names in grouped.items())


def timings_of(latency: Sequence[Latency]) -> tuple[Timing, ...]:
    """Bars of all functions on one axis."""
    longest = max((max(t.ms, t.uncompressed_ms or 0.0) for t in latency), default=1.0) or 1.0
    return tuple(
        Timing(t, 100 * t.ms / longest, 100 * (t.uncompressed_ms or 0.0) / longest) for t in latency
    )


def stages_of(seconds: Mapping[str, float]) -> tuple[Stage, ...]:
    """Stages of the build side by side."""
    spans = stack(list(seconds.values()), sum(seconds.values()))
    return tuple(
        Stage(name, taken, *span)
        for (name, taken), span in zip(seconds.items(), spans, strict=True)
    )
