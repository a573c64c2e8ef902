"""External names of flat caches, and which output feeds which input."""

from __future__ import annotations

from edgec.ir.graph import State


def names(prefix: str, count: int) -> tuple[str, ...]:
    """`self_key_0, self_value_0, self_key_1, ...` for `count` tensors; no prefix: `key_0, ...`."""
    start = f"{prefix}_" if prefix else ""
    return tuple(f"{start}{'value' if i % 2 else 'key'}_{i // 2}" for i in range(count))


def states(prefix: str, count: int) -> tuple[State, ...]:
    """The caches that live on from step to step."""
    return tuple(map(State, names(prefix, count), names("present", count)))
