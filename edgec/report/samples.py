"""Evaluation samples whose output changed: how much, which ones lost most, and in which words."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.errors import FormatError

NAME = "evidence/quality/samples.json"
ORDER, BETA = 6, 2.0  # of chrF

Words = tuple[tuple[str, bool], ...]
"""Pieces of a text, and whether the other text lacks them."""


@dataclass(frozen=True)
class Texts:
    """Texts of an evaluation: sources, references, and what both builds made of them."""

    sources: tuple[str, ...]
    references: tuple[str, ...] | None
    original: tuple[str, ...]
    got: tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """A changed sample; scores are chrF of the sentence, 0 to 100, None without a reference."""

    index: int
    source: str
    reference: str | None
    original: Words
    got: Words
    original_score: float | None
    got_score: float | None
    loss: float


@dataclass(frozen=True)
class Changes:
    """How the outputs of a build differ from the uncompressed build's."""

    samples: int
    same: int
    better: int
    equal: int
    worse: int
    scored: bool
    worst: tuple[Example, ...]
    best: tuple[Example, ...]


def read_texts(folder: Path) -> Texts | None:
    """The texts that a release keeps as evidence; None where its task has none.

    Raises FormatError for a damaged file.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_bytes())
        references = data["references"]
        columns = [data["sources"], data["original"], data["got"]]
        columns += [] if references is None else [references]
        if not all(isinstance(t, str) for column in columns for t in column):
            raise TypeError("a sample that is no text")
        if len({len(column) for column in columns}) != 1:
            raise ValueError("columns of different lengths")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(NAME, f"damaged: {error}", "the file of the build") from error
    wanted = None if references is None else tuple(references)
    return Texts(tuple(data["sources"]), wanted, tuple(data["original"]), tuple(data["got"]))


def changes_of(texts: Texts, worst: int = 8, best: int = 2) -> Changes:
    """Counts over all samples, and those that lost and gained most against their reference.

    Without references a changed output counts as worse, by what it shares with the original.
    """
    examples = []
    for i, (source, before, after) in enumerate(
        zip(texts.sources, texts.original, texts.got, strict=True)
    ):
        if before != after:
            reference = None if texts.references is None else texts.references[i]
            examples.append(_example(i, source, reference, before, after))
    examples.sort(key=lambda e: (-e.loss, e.index))
    count = len(texts.sources)
    better = [e for e in reversed(examples) if e.loss < 0]
    worse = [e for e in examples if e.loss > 0]
    return Changes(
        samples=count,
        same=count - len(examples),
        better=len(better),
        equal=len(examples) - len(better) - len(worse),
        worse=len(worse),
        scored=texts.references is not None,
        worst=tuple(worse[:worst]),
        best=tuple(better[:best]),
    )


def _example(i: int, source: str, reference: str | None, before: str, after: str) -> Example:
    old, new = word_changes(before, after)
    if reference is None:
        return Example(i, source, None, old, new, None, None, 100 - chrf(after, before))
    was, now = chrf(before, reference), chrf(after, reference)
    return Example(i, source, reference, old, new, was, now, was - now)


def word_changes(before: str, after: str) -> tuple[Words, Words]:
    """Both texts in pieces, those marked that the other one lacks."""
    a, b = (re.findall(r"\s+|[^\s]+", text) for text in (before, after))
    old: list[tuple[str, bool]] = []
    new: list[tuple[str, bool]] = []
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    for tag, a0, a1, b0, b1 in matcher.get_opcodes():
        for side, text in ((old, "".join(a[a0:a1])), (new, "".join(b[b0:b1]))):
            if text:
                side.append((text, tag != "equal" and not text.isspace()))
    return tuple(old), tuple(new)


def chrf(text: str, reference: str) -> float:
    """Sentence chrF, 0 to 100: F-score of character n-grams, n = 1..6, recall weighted twice.

    Source: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation", eq. 1;
    orders that one of both texts is too short for are left out, as in sacrebleu.
    """
    got, want = ("".join(t.split()) for t in (text, reference))
    precisions, recalls = [], []
    for n in range(1, ORDER + 1):
        mine, theirs = _grams(got, n), _grams(want, n)
        if mine and theirs:
            hits = sum((mine & theirs).values())
            precisions.append(hits / sum(mine.values()))
            recalls.append(hits / sum(theirs.values()))
    if not precisions or not sum(precisions):
        return 0.0
    precision, recall = (sum(part) / len(part) for part in (precisions, recalls))
    return 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def _grams(text: Sequence[str], n: int) -> Counter[str]:
    return Counter("".join(text[i : i + n]) for i in range(len(text) - n + 1))
