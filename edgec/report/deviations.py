"""What compression did to each weight: relative error in the model's order, and the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgec.report.geometry import ticks
from edgec.report.legend import Kind
from edgec.report.weight import Row

WORST = 16  # bars in the list
HEIGHT = 160.0  # of the chart, px
NOMINAL = 1040.0  # its width on a wide screen, px


@dataclass(frozen=True)
class Bar:
    """A tensor's error: x, width and length in percent, y and height in px."""

    row: Row
    error: float
    x: float
    width: float
    y: float
    height: float
    length: float

    @property
    def kind(self) -> Kind:
        return self.row.kind


@dataclass(frozen=True)
class Band:
    """Neighbours of one group: where their bars stand, percent."""

    name: str
    x: float
    width: float

    @property
    def label(self) -> str:
        """The name, or the end of it, as far as a wide screen has room for it."""
        room = (NOMINAL * self.width / 100 - 6) / 6.2
        for text in (self.name, self.name.rpartition(".")[2]):
            if len(text) <= room:
                return text
        return ""


@dataclass(frozen=True)
class Errors:
    """Both charts; `axis` holds (position in px, value)."""

    bars: tuple[Bar, ...]
    bands: tuple[Band, ...]
    worst: tuple[Bar, ...]
    axis: tuple[tuple[float, float], ...]
    height: float
    kept: int
    kinds: tuple[Kind, ...]


def errors_of(rows: Sequence[Row], order: Sequence[str]) -> Errors:
    """Charts of the changed tensors; `order` gives the names in the model's order."""
    place = {name: i for i, name in enumerate(order)}
    changed = sorted(
        ((r, r.constant.error) for r in rows if r.constant.error is not None),
        key=lambda pair: place[pair[0].constant.name],
    )
    marks = ticks(0.0, 1.12 * max((e for _, e in changed), default=0.0) or 1.0, 4)
    greatest = max((e for _, e in changed), default=0.0)
    top = next((m for m in marks if m >= greatest), greatest * 1.05) or 1.0
    step = 100 / max(1, len(changed))
    bars = tuple(
        Bar(
            row,
            error,
            i * step,
            step,
            HEIGHT * (1 - error / top),
            HEIGHT * error / top,
            100 * error / (greatest or 1.0),
        )
        for i, (row, error) in enumerate(changed)
    )
    worst = sorted(bars, key=lambda b: (-b.error, b.row.constant.name))[:WORST]
    axis = tuple((HEIGHT * (1 - m / top), m) for m in marks if m <= top)
    kinds = sorted({b.kind for b in bars}, key=lambda k: k.label)
    kept = len(rows) - len(bars)
    return Errors(bars, _bands(bars), tuple(worst), axis, HEIGHT, kept, tuple(kinds))


def _bands(bars: Sequence[Bar]) -> tuple[Band, ...]:
    bands: list[Band] = []
    for bar in bars:
        if bands and bands[-1].name == bar.row.group:
            last = bands.pop()
            bands.append(Band(last.name, last.x, last.width + bar.width))
        else:
            bands.append(Band(bar.row.group, bar.x, bar.width))
    return tuple(bands)
