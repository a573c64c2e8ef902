"""Numbers as a report shows them: short, with their unit, which no line break separates."""

from __future__ import annotations

import math

from edgec.measure import show_bytes

NBSP = "\u00a0"
MINUS = "\u2212"
NONE = "\u2013"


def size(count: float | None) -> str:
    """`4.93 MB`; a dash for what was not measured."""
    return NONE if count is None else show_bytes(count).replace(" ", NBSP)


def round_size(count: float) -> str:
    """A size without trailing zeros, for axes: `10 MB`."""
    number, _, unit = show_bytes(count).partition(" ")
    return f"{float(number):g}{NBSP}{unit}"


def whole(count: int) -> str:
    """`7,412,352`."""
    return f"{count:,}"


def short(count: float) -> str:
    """A count in four characters: `7.4 M`."""
    for unit, step in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= step:
            return f"{count / step:.3g}{NBSP}{unit}"
    return f"{count:.3g}"


def share(part: float | None, digits: int = 1) -> str:
    """A fraction as percent: `16.5 %`."""
    return NONE if part is None else f"{100 * part:.{digits}f}{NBSP}%"


def ratio(value: float | None) -> str:
    """`0.165`."""
    return NONE if value is None else f"{value:.3f}"


def times(value: float | None) -> str:
    """`6.11×`."""
    return NONE if value is None else f"{value:.{2 if abs(value) < 10 else 1}f}×"


def tiny(value: float | None) -> str:
    """A deviation: `3.1e−6`; None stands for what is not finite."""
    if value is None:
        return "not finite"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    if -3 <= int(exponent) <= 2:
        return f"{value:.2g}" if abs(value) < 10 else f"{value:.0f}"
    return f"{mantissa}e{int(exponent)}".replace("-", MINUS)


def points(value: float) -> str:
    """A quality: `33.41`, with the digits that its size deserves."""
    digits = 2 if abs(value) >= 10 else 4
    return f"{value:.{digits}f}".replace("-", MINUS)


def change(value: float) -> str:
    """A signed difference of qualities: `−0.31`, `+0.02`, `±0`."""
    text = f"{value:+.{2 if abs(value) >= 0.05 else 4}f}"
    return "±0" if float(text) == 0 else text.replace("-", MINUS)


def decibel(value: float | None) -> str:
    """`101.3 dB`; an infinity sign where there is no error."""
    return "∞" if value is None else f"{value:.1f}{NBSP}dB".replace("-", MINUS)


def sqnr_of(error: float) -> float | None:
    """Signal over noise, in dB, of a relative error ||w - w'|| / ||w||; None for no error."""
    return -20 * math.log10(error) if error > 0 else None


def milliseconds(value: float | None) -> str:
    """`4.13 ms`."""
    return NONE if value is None else f"{value:.3g}{NBSP}ms"


def seconds(value: float) -> str:
    """`12.4 s`, `2 min 05 s`."""
    if value < 100:
        return f"{value:.1f}{NBSP}s"
    return f"{int(value // 60)}{NBSP}min{NBSP}{int(value % 60):02d}{NBSP}s"


FILTERS = {
    f.__name__: f
    for f in (
        size,
        round_size,
        whole,
        short,
        share,
        ratio,
        times,
        tiny,
        points,
        change,
        decibel,
        sqnr_of,
        milliseconds,
        seconds,
    )
}
