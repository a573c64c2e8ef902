"""Where the marks of a chart stand: horizontally in percent, so that it fits every screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A rectangle; units are the caller's."""

    x: float
    y: float
    width: float
    height: float


def stack(values: Sequence[float], total: float) -> list[tuple[float, float]]:
    """(start, length) of values side by side, in percent of `total`."""
    placed, start = [], 0.0
    for value in values:
        length = 100 * value / total if total > 0 else 0.0
        placed.append((start, length))
        start += length
    return placed


def squarify(values: Sequence[float], box: Box) -> list[Box]:
    """Tiles of `box`, as square as can be, with areas in proportion to `values`.

    values   positive, greatest first
    Source: Bruls, Huizing, van Wijk 2000, "Squarified Treemaps".
    """
    scale = box.width * box.height / (sum(values) or 1.0)
    areas = [v * scale for v in values]
    tiles: list[Box] = []
    while areas:
        side = min(box.width, box.height)
        count = 1
        while count < len(areas) and _worst(areas[: count + 1], side) <= _worst(
            areas[:count], side
        ):
            count += 1
        row, areas = areas[:count], areas[count:]
        placed, box = _lay(row, box)
        tiles += placed
    return tiles


def _worst(row: Sequence[float], side: float) -> float:
    """Greatest aspect ratio of tiles of these areas laid along `side`."""
    total = sum(row)
    if total <= 0 or side <= 0:
        return math.inf
    return max(side**2 * max(row) / total**2, total**2 / (side**2 * max(min(row), 1e-12)))


def _lay(row: Sequence[float], box: Box) -> tuple[list[Box], Box]:
    """Tiles of one row along the shorter side, and what is left of the box."""
    total = sum(row)
    tiles = []
    if box.width >= box.height:
        depth = total / box.height if box.height else 0.0
        y = box.y
        for area in row:
            height = area / depth if depth else 0.0
            tiles.append(Box(box.x, y, depth, height))
            y += height
        return tiles, Box(box.x + depth, box.y, max(0.0, box.width - depth), box.height)
    depth = total / box.width if box.width else 0.0
    x = box.x
    for area in row:
        width = area / depth if depth else 0.0
        tiles.append(Box(x, box.y, width, depth))
        x += width
    return tiles, Box(box.x, box.y + depth, box.width, max(0.0, box.height - depth))


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round values within [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def on_log(value: float | None, low: float, high: float) -> float:
    """Position of `value` between `low` and `high` on a logarithmic axis, percent; 100 for None."""
    if value is None:
        return 100.0
    if value <= low:
        return 0.0
    return min(100.0, 100 * math.log(value / low) / math.log(high / low))


def within(value: float, low: float, high: float) -> float:
    """Position of `value` between `low` and `high`, percent."""
    return 50.0 if high <= low else 100 * (value - low) / (high - low)
