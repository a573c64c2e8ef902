"""Numbers and verdicts as commands print them."""

from __future__ import annotations


def short(value: object) -> str:
    """Four digits; `-` for nothing."""
    if isinstance(value, int | float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return "-" if value is None else str(value)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def verdict(text: str) -> str:
    """A verdict in its colour."""
    return f"[{'green' if text == 'ACCEPT' else 'red'}]{text}[/]"
