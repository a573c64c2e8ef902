"""The page that compares the variants of a recipe: size against quality, bytes, limits, outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgec.release.manifest import Constant, Manifest
from edgec.release.summary import Row, Summary
from edgec.report.geometry import stack, ticks, within
from edgec.report.legend import GRAPH, Kind, Legend
from edgec.report.samples import Texts, Words, chrf, word_changes
from edgec.report.summary import MEANINGS, tone_of

HEIGHT = 340.0  # of the scatter plot, px
NAMED = 12  # points that get their name all; beyond that only the best do
EXAMPLES = 6


@dataclass(frozen=True)
class Point:
    """A build in the plot: x in percent, y in px. `below` puts its name under it."""

    name: str
    tone: str
    x: float
    y: float
    model_bytes: int
    value: float
    named: bool
    below: bool = False
    left: bool = False


@dataclass(frozen=True)
class Plot:
    """Model bytes against quality; `front` joins the builds that no other one beats in both."""

    points: tuple[Point, ...]
    front: tuple[tuple[float, float], ...]
    x_axis: tuple[tuple[float, float], ...]
    y_axis: tuple[tuple[float, float], ...]
    height: float


@dataclass(frozen=True)
class Bar:
    """Bytes of a variant by kind: (kind, start, length, bytes); percent of the longest."""

    name: str
    bytes: int
    segments: tuple[tuple[Kind, float, float, int], ...]


@dataclass(frozen=True)
class Example:
    """A sample that the variants answer differently: (variant, words, chrF or None) each."""

    source: str
    reference: str | None
    original: str
    answers: tuple[tuple[str, Words, float | None], ...]


def context(
    summary: Summary, manifests: Mapping[str, Manifest], texts: Mapping[str, Texts | None]
) -> dict[str, Any]:
    """What overview.html.j2 needs."""
    legend = Legend([c for m in manifests.values() for c in m.constants])
    chosen = manifests.get(summary.default or "")
    return {
        "title": f"{summary.name} · edgec report",
        "summary": summary,
        "chosen": chosen,
        "rows": [(row, manifests[row.name], tone_of(row.verdict)) for row in summary.variants],
        "meanings": MEANINGS,
        "plot": plot_of(summary.variants, manifests),
        "legend": [*legend.kinds, GRAPH],
        "bars": bars_of(manifests, legend),
        "examples": examples_of(texts),
        "unit": next((m.quality.unit for m in manifests.values()), ""),
    }


# ------------------------------------------------------------------ size against quality
def plot_of(rows: Sequence[Row], manifests: Mapping[str, Manifest]) -> Plot:
    """All variants, and the uncompressed build of each target."""
    found = [(r.name, tone_of(r.verdict), r.model_bytes, r.value) for r in rows]
    originals: dict[str, tuple[str, str, int, float]] = {}
    for m in manifests.values():
        size, value = m.sizes.uncompressed_model_bytes, m.quality.original
        if not any(abs(size - b) <= 0.01 * size and value == v for _, _, b, v in found):
            several = len({n.target for n in manifests.values()}) > 1
            name = f"uncompressed {m.target}" if several else "uncompressed"
            originals[m.target] = (name, "plain", size, value)
    found += originals.values()
    most = 1.08 * max((b for _, _, b, _ in found), default=1)
    low, high = _range([v for _, _, _, v in found])
    front = _front([(b, v) for _, _, b, v in found])
    points = [
        Point(
            name,
            tone,
            within(size, 0, most),
            HEIGHT * (1 - within(value, low, high) / 100),
            size,
            value,
            len(found) <= NAMED or (size, value) in front,
        )
        for name, tone, size, value in found
    ]
    steps = [(within(b, 0, most), HEIGHT * (1 - within(v, low, high) / 100)) for b, v in front]
    return Plot(
        _spread(points),
        tuple(steps),
        tuple((within(t, 0, most), t) for t in ticks(0, most, 6)),
        tuple((HEIGHT * (1 - within(t, low, high) / 100), t) for t in ticks(low, high, 5)),
        HEIGHT,
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Values with some room around them."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.18 * (high - low) or 0.02 * abs(high) or 1.0
    return low - room, high + room


def _front(builds: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Builds that none is both smaller and better than, by size."""
    front: list[tuple[int, float]] = []
    for size, value in sorted(set(builds), key=lambda b: (b[0], -b[1])):
        if not front or value > front[-1][1]:
            front.append((size, value))
    return front


def _spread(points: Sequence[Point]) -> tuple[Point, ...]:
    """Names under their points where they would cover a neighbour's; inwards at the right edge."""
    placed: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, p.y)):
        near = any(
            abs(p.x - point.x) < 9 and abs(p.y - point.y) < 22 and not p.below for p in placed
        )
        placed.append(replace(point, below=near, left=point.x > 80))
    return tuple(placed)


# ------------------------------------------------------------------ bytes
def bars_of(manifests: Mapping[str, Manifest], legend: Legend) -> tuple[Bar, ...]:
    """Model bytes of each variant by kind, on one axis."""
    longest = max((m.sizes.model_bytes for m in manifests.values()), default=1)
    bars = []
    for name, manifest in manifests.items():
        sizes = [
            (kind, sum(c.stored_bytes for c in mine))
            for kind in legend.kinds
            if (mine := _of_kind(manifest, legend, kind))
        ]
        rest = manifest.sizes.model_bytes - sum(n for _, n in sizes)
        sizes.append((GRAPH, max(0, rest)))
        spans = stack([n for _, n in sizes], longest)
        segments = tuple((k, *s, n) for (k, n), s in zip(sizes, spans, strict=True))
        bars.append(Bar(name, manifest.sizes.model_bytes, segments))
    return tuple(bars)


def _of_kind(manifest: Manifest, legend: Legend, kind: Kind) -> list[Constant]:
    return [c for c in manifest.constants if legend.of(c) == kind]


# ------------------------------------------------------------------ outputs
def examples_of(texts: Mapping[str, Texts | None]) -> tuple[Example, ...]:
    """Samples on which the variants differ most from the uncompressed build."""
    known = {name: t for name, t in texts.items() if t is not None}
    if not known:
        return ()
    first = next(iter(known.values()))
    known = {  # those that say something else than the uncompressed build, on the same samples
        n: t for n, t in known.items() if t.sources == first.sources and t.got != t.original
    }
    scored = []
    for i, original in enumerate(first.original):
        answers = {t.got[i] for t in known.values()}
        if answers != {original}:
            reference = None if first.references is None else first.references[i]
            target = original if reference is None else reference
            scores = [chrf(a, target) for a in [*answers, original]]
            scored.append((max(scores) - min(scores), len(answers), i))
    scored.sort(key=lambda s: (-s[1], -s[0], s[2]))
    return tuple(_example(known, first, i) for _, _, i in scored[:EXAMPLES])


def _example(known: Mapping[str, Texts], first: Texts, i: int) -> Example:
    reference = None if first.references is None else first.references[i]
    answers = []
    for name, texts in known.items():
        score = None if reference is None else chrf(texts.got[i], reference)
        answers.append((name, word_changes(first.original[i], texts.got[i])[1], score))
    return Example(first.sources[i], reference, first.original[i], tuple(answers))
