"""Parallel text from gettext message catalogs: read, clean, deduplicate, split.

A catalog (`.mo`) maps each source string of a program to its translation. `read_pairs` walks
catalog folders, `clean` normalises one pair or rejects it, `split` divides the pairs into train and
held-out by a hash of the normalised source, so that strings that differ only in case, punctuation,
digits or placeholders always fall on the same side.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

MAX_CHARS = 240
_MENU_KEY = re.compile(r"\s*\([&_~][A-Z0-9]\)")
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|&(?:lt|gt|amp|quot|nbsp|#\d+);")
_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_PLACEHOLDER = re.compile(
    r"%(?:\d+\$)?[-+ #0]*(?:\d+|\*)?(?:\.(?:\d+|\*))?(?:hh|h|ll|l|z|j)?[A-Za-z]"
    r"|%\(\w+\)s|%\d+|\{\w*\}"
)


def read_pairs(folders: Iterable[Path], language: str) -> Iterator[tuple[str, str]]:
    """Raw (source, translation) pairs of every `*/<language>/LC_MESSAGES/*.mo` below `folders`.

    Plural entries give their singular and their plural pair; the order is that of the sorted paths.
    """
    import polib

    paths = sorted({p for f in folders for p in Path(f).rglob(f"{language}/LC_MESSAGES/*.mo")})
    for path in paths:
        try:
            catalog = polib.mofile(str(path))
        except (OSError, UnicodeDecodeError):  # not a catalog, or one of another encoding
            continue
        for entry in catalog:
            if entry.msgid_plural:
                yield entry.msgid, entry.msgstr_plural.get(0, "")
                yield entry.msgid_plural, entry.msgstr_plural.get(1, "")
            else:
                yield entry.msgid, entry.msgstr


def lines(pair: tuple[str, str]) -> list[tuple[str, str]]:
    """Split a multi-line pair into one pair per line where both sides have as many lines."""
    source, target = (side.strip().split("\n") for side in pair)
    if len(source) == len(target):
        return list(zip(source, target, strict=True))
    return [pair]


def normalise(text: str) -> str:
    """Drop menu keys such as `(&F)` and soft hyphens, collapse white space."""
    text = _MENU_KEY.sub("", text)
    return _SPACE.sub(" ", text.replace("\u00a0", " ").replace("\u00ad", "")).strip()


def drop_accelerators(source: str, target: str) -> tuple[str, str]:
    """Remove a keyboard accelerator (`_File`, `&Datei`): one marker a side, in words that differ.

    An identifier such as `foo_bar` stands unchanged on both sides and is kept.
    """
    for marker in "&_~":
        words = [
            {w for w in side.split() if marker in w and w != marker} for side in (source, target)
        ]
        if all(len(w) == 1 for w in words) and source.count(marker) == target.count(marker) == 1:
            if words[0] != words[1]:
                source, target = source.replace(marker, ""), target.replace(marker, "")
    return source, target


def clean(source: str, target: str) -> tuple[str, str] | None:
    """One usable pair; None for markup, other placeholders, no words, nothing translated."""
    source, target = drop_accelerators(normalise(source), normalise(target))
    if not source or not target or source == target:
        return None
    if len(source) > MAX_CHARS or len(target) > MAX_CHARS or not (source + target).isprintable():
        return None
    if (
        _MARKUP.search(source)
        or _MARKUP.search(target)
        or not _WORD.search(source)
        or not _WORD.search(target)
    ):
        return None
    if len(_PLACEHOLDER.findall(source)) != len(_PLACEHOLDER.findall(target)):
        return None
    ratio = (len(target) + 6) / (len(source) + 6)
    if not 0.4 <= ratio <= 2.8 or sum(c.isalpha() or c.isspace() for c in source) < 0.6 * len(
        source
    ):
        return None
    return source, target


def split_key(source: str) -> int:
    """A stable 32-bit key of the source without case, digits, punctuation and placeholders."""
    words = " ".join(_WORD.findall(_PLACEHOLDER.sub(" ", source).lower()))
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big")


def collect(folders: Iterable[Path], language: str) -> list[tuple[str, str]]:
    """Clean pairs, one a source: of several translations the most frequent stays."""
    votes: dict[str, dict[str, int]] = {}
    for raw in read_pairs(folders, language):
        for line in lines(raw):
            if pair := clean(*line):
                count = votes.setdefault(pair[0], {})
                count[pair[1]] = count.get(pair[1], 0) + 1
    return [
        (source, max(targets, key=lambda t: (targets[t], t)))
        for source, targets in sorted(votes.items())
    ]


def split(
    pairs: list[tuple[str, str]], held_out: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(train, held-out), about `held_out` pairs in the second; equal `split_key`s stay together."""
    threshold = int(held_out / max(len(pairs), 1) * 2**32)
    train = [p for p in pairs if split_key(p[0]) >= threshold]
    return train, [p for p in pairs if split_key(p[0]) < threshold]
