"""Where the bytes are: by encoding, by part of the model, by tensor; before and after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from edgec.release.manifest import Constant, Manifest
from edgec.report import units
from edgec.report.geometry import Box, squarify, stack
from edgec.report.grouping import places
from edgec.report.legend import GRAPH, Kind, Legend, count_of, dtype_of, name_of

SMALL = 0.0015  # of the model's bytes: smaller tensors share one tile per group
WIDE, NARROW = Box(0, 0, 1060, 430), Box(0, 0, 350, 560)  # nominal sizes of the treemap, px
HEAD = 17.0  # height of a group's name, px
LETTER = 6.4  # width of a letter in a wide font, px


@dataclass(frozen=True)
class Row:
    """A tensor of the table."""

    constant: Constant
    kind: Kind
    group: str
    short: str
    count: int

    @property
    def stored_as(self) -> str:
        """Short name of the encoding in the file; "" where it is the graph's own."""
        c = self.constant
        return "" if c.stored_as == c.encoding else name_of(c.stored_as, dtype_of(c.type))[0]

    @property
    def bits(self) -> float:
        """Stored bits per element."""
        return 8 * self.constant.stored_bytes / max(1, self.count)


@dataclass(frozen=True)
class Part:
    """Bytes of one kind: how many tensors and elements, before and after, and where its bars stand.

    before, after   (start, length) of its segment, percent of the longer of both bars
    """

    kind: Kind
    tensors: int
    count: int
    original_bytes: int
    stored_bytes: int
    before: tuple[float, float] = (0.0, 0.0)
    after: tuple[float, float] = (0.0, 0.0)

    @property
    def ribbon(self) -> str:
        """Corners of the band from one bar to the other, x in 0..1000, y in 0..100."""
        (a, b), (c, d) = self.before, self.after
        corners = ((a, 0), (a + b, 0), (c + d, 100), (c, 100))
        return " ".join(f"{10 * x:.2f},{y}" for x, y in corners)


@dataclass(frozen=True)
class GroupBar:
    """A part of the model: its bytes by kind against what it had before; lengths in percent."""

    name: str
    tensors: int
    original_bytes: int
    stored_bytes: int
    original_length: float
    segments: tuple[tuple[Kind, float, float, int], ...]


@dataclass(frozen=True)
class Tile:
    """A tile of the treemap: x and width in percent, y and height in px.

    room   letters that its width has room for, at the nominal width
    """

    label: str
    title: str
    bytes: int
    kind: Kind | None
    x: float
    width: float
    y: float
    height: float
    room: int

    @property
    def text(self) -> str:
        """The label, or its last word, as far as there is room; empty where nothing fits."""
        if self.height < 16:
            return ""
        return next((t for t in _shorter(self.label) if len(t) <= self.room), "")

    @property
    def head(self) -> tuple[str, str]:
        """Name and bytes of a group, as far as there is room; "" for the rest."""
        size = units.size(self.bytes)
        name = next((t for t in _shorter(self.label) if len(t) <= self.room), "")
        return name, size if name and len(name) + len(size) + 2 <= self.room else ""

    @property
    def has_size(self) -> bool:
        """Whether there is room for a second line with the bytes."""
        return self.height >= 33 and self.room >= 8


@dataclass(frozen=True)
class Treemap:
    height: float
    groups: tuple[Tile, ...]
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Weight:
    """All that the section shows."""

    parts: tuple[Part, ...]
    rows: tuple[Row, ...]
    groups: tuple[GroupBar, ...]
    wide: Treemap
    narrow: Treemap
    before_bytes: int
    after_bytes: int
    before_length: float
    after_length: float
    legend: Legend


def weight_of(manifest: Manifest) -> Weight:
    """The bytes of a release's model files."""
    legend = Legend(manifest.constants)
    place = places([c.name for c in manifest.constants])
    rows = tuple(
        Row(c, legend.of(c), place[c.name].group, place[c.name].short, count_of(c.type))
        for c in manifest.constants
    )
    before = manifest.sizes.uncompressed_model_bytes
    after = manifest.sizes.model_bytes
    longest = max(before, after, 1)
    return Weight(
        parts=_parts(rows, legend, before, after),
        rows=tuple(sorted(rows, key=lambda r: (-r.constant.stored_bytes, r.constant.name))),
        groups=_groups(rows),
        wide=treemap(rows, WIDE),
        narrow=treemap(rows, NARROW),
        before_bytes=before,
        after_bytes=after,
        before_length=100 * before / longest,
        after_length=100 * after / longest,
        legend=legend,
    )


def _parts(rows: Sequence[Row], legend: Legend, before: int, after: int) -> tuple[Part, ...]:
    parts = []
    for kind in legend.kinds:
        mine = [r for r in rows if r.kind == kind]
        parts.append(
            Part(
                kind,
                len(mine),
                sum(r.count for r in mine),
                sum(r.constant.original_bytes or 0 for r in mine),
                sum(r.constant.stored_bytes for r in mine),
            )
        )
    parts.sort(key=lambda p: -p.stored_bytes)
    rest = [
        max(0, total - known)
        for total, known in (
            (before, sum(p.original_bytes for p in parts)),
            (after, sum(p.stored_bytes for p in parts)),
        )
    ]
    parts.append(Part(GRAPH, 0, 0, rest[0], rest[1]))
    # what no file accounts for (a constant that the uncompressed build stores in a smaller form)
    # must not make a bar longer than the files are
    sums = [sum(p.original_bytes for p in parts), sum(p.stored_bytes for p in parts)]
    longest = max(before, after, 1)
    scales = [s * longest / max(1, size) for s, size in zip(sums, (before, after), strict=True)]
    tops = stack([p.original_bytes for p in parts], scales[0])
    bottoms = stack([p.stored_bytes for p in parts], scales[1])
    return tuple(
        Part(p.kind, p.tensors, p.count, p.original_bytes, p.stored_bytes, top, bottom)
        for p, top, bottom in zip(parts, tops, bottoms, strict=True)
    )


def by_group(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each group, in the model's order."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row.group].append(row)
    return dict(grouped)


def _groups(rows: Sequence[Row]) -> tuple[GroupBar, ...]:
    grouped = by_group(rows)
    totals = {
        name: (
            sum(r.constant.original_bytes or 0 for r in mine),
            sum(r.constant.stored_bytes for r in mine),
        )
        for name, mine in grouped.items()
    }
    longest = max((max(pair) for pair in totals.values()), default=1) or 1
    bars = []
    for name, mine in grouped.items():
        kinds = sorted({r.kind for r in mine}, key=lambda k: (k.family, k.shade))
        sizes = [sum(r.constant.stored_bytes for r in mine if r.kind == k) for k in kinds]
        spans = stack(sizes, longest)
        segments = tuple((k, *s, n) for k, s, n in zip(kinds, spans, sizes, strict=True))
        original, stored = totals[name]
        bars.append(GroupBar(name, len(mine), original, stored, 100 * original / longest, segments))
    return tuple(bars)


# ------------------------------------------------------------------ treemap
def treemap(rows: Sequence[Row], box: Box) -> Treemap:
    """Tiles by group and tensor; an area is proportional to stored bytes within its group."""
    total = sum(r.constant.stored_bytes for r in rows)
    grouped = sorted(
        ((name, mine, _bytes(mine)) for name, mine in by_group(rows).items()),
        key=lambda entry: (-entry[2], entry[0]),
    )
    grouped = [entry for entry in grouped if entry[2] > 0]
    outer, tiles = [], []
    frames = squarify([size for _, _, size in grouped], box)
    for (name, mine, size), frame in zip(grouped, frames, strict=True):
        head = HEAD if frame.width > 44 and frame.height > 34 else 0.0
        title = f"{name}: {len(mine)} tensors"
        outer.append(_tile(name if head else "", title, size, None, frame, box))
        inner = Box(frame.x + 1, frame.y + head + 1, frame.width - 2, frame.height - head - 2)
        tiles += _inner(mine, total, inner, box)
    return Treemap(box.height, tuple(outer), tuple(tiles))


def _inner(rows: Sequence[Row], total: int, box: Box, whole: Box) -> list[Tile]:
    """Tiles of one group: its tensors, the small ones of a kind together."""
    entries: list[tuple[str, str, int, Kind]] = []
    small: dict[Kind, list[Row]] = defaultdict(list)
    for row in rows:
        if row.constant.stored_bytes < SMALL * total:
            small[row.kind].append(row)
        else:
            title = f"{row.constant.name} {row.constant.type}, {row.kind.label}"
            label = row.short.removesuffix(".weight")
            entries.append((label, title, row.constant.stored_bytes, row.kind))
    for kind, mine in small.items():
        label = mine[0].short if len(mine) == 1 else f"{len(mine)} small"
        title = ", ".join(r.short for r in mine[:6]) + (", ..." if len(mine) > 6 else "")
        entries.append((label, f"{title}: {kind.label}", _bytes(mine), kind))
    entries = sorted((e for e in entries if e[2] > 0), key=lambda e: (-e[2], e[0]))
    frames = squarify([e[2] for e in entries], box)
    return [
        _tile(label, title, size, kind, frame, whole)
        for (label, title, size, kind), frame in zip(entries, frames, strict=True)
    ]


def _tile(label: str, title: str, size: int, kind: Kind | None, frame: Box, whole: Box) -> Tile:
    return Tile(
        label,
        title,
        size,
        kind,
        100 * frame.x / whole.width,
        100 * max(0.0, frame.width) / whole.width,
        frame.y,
        max(0.0, frame.height),
        int((frame.width - 7) / LETTER),
    )


def _shorter(label: str) -> list[str]:
    """A dotted name and its ends, the longest first; no bare numbers."""
    parts = label.split(".")
    ends = [".".join(parts[i:]) for i in range(len(parts))]
    return [end for end in ends if not end.isdigit()]


def _bytes(rows: Sequence[Row]) -> int:
    return sum(r.constant.stored_bytes for r in rows)
