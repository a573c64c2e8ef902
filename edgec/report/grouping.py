"""Parts of a model by the names of its constants: `fc1.weight` stands in `encoder.layers.0`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST = 40  # groups that a reader can take in
LOOSE = "(no module)"  # constants whose names have no module


@dataclass(frozen=True)
class Place:
    """Where a constant belongs: its part of the model, and its name in there."""

    group: str
    short: str


def places(names: Sequence[str], most: int = MOST) -> dict[str, Place]:
    """Place of each name, at the finest level with at most `most` groups, else by the first word.

    Levels: the repeated module (`layers.0`), runs of 2, 4, ... of them (`layers.0-3`), all of them
    (`layers`), the first word. Words that all names begin with are left out.
    """
    split = {name: tuple(name.split(".")) for name in names}
    skipped = _shared([words[:-1] for words in split.values()])
    words = {name: parts[skipped if len(parts) > 1 else 0 :] for name, parts in split.items()}
    found: dict[str, Place] = {}
    for run in (1, 2, 4, 8, 16, 32, 64, 0, -1):
        found = {name: _place(parts, run) for name, parts in words.items()}
        if len({p.group for p in found.values()}) <= most:
            break
    return _named(found)


def _place(words: tuple[str, ...], run: int) -> Place:
    """run: how many numbered modules make a group; 0: all of them; -1: the first word alone."""
    modules = words[:-1]
    numbers = [i for i, word in enumerate(modules) if word.isdigit()]
    if run < 0 or not numbers:
        depth = min(len(modules), 1 if run < 0 else 2)
    else:
        depth = numbers[0] + (run == 1)
    group, short = ".".join(words[:depth]), ".".join(words[depth:])
    if run > 1 and numbers:
        first = int(words[depth]) // run * run
        group = f"{group}.{first}-{first + run - 1}".removeprefix(".")
    return Place(group or LOOSE, short)


def _named(found: Mapping[str, Place]) -> dict[str, Place]:
    """The only constant without a module is a group of its own name."""
    loose = [name for name, place in found.items() if place.group == LOOSE]
    return dict(found) | ({loose[0]: Place(loose[0], loose[0])} if len(loose) == 1 else {})


def _shared(modules: Sequence[tuple[str, ...]]) -> int:
    """How many leading words all modules have, such as `model`; the name of a list is kept."""
    nested = [m for m in modules if m]
    depth = 0
    while nested and all(
        len(m) > depth + 1 and m[depth] == nested[0][depth] and not m[depth + 1].isdigit()
        for m in nested
    ):
        depth += 1
    return depth
