"""The tokens that texts use, by a program's tokenizer, and those that these need."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.errors import PassError
from edgec.ir import Program
from edgec.pieces import subset as pieces
from edgec.runner import tokenizer_files
from edgec.tokenizer import kept_tokens, load_tokenizer, read_tokenizer

WHERE = "trim-vocabulary"


@dataclass(frozen=True)
class TokenFiles:
    """The tokenizer of a program.

    paths     of its files, by name
    kept      ids that the program has of them; () for all
    content   of the files, with these ids
    """

    paths: Mapping[str, Path]
    kept: Sequence[int]
    content: Mapping[str, bytes]

    @staticmethod
    def of(program: Program) -> TokenFiles | None:
        """None for a program without a tokenizer."""
        paths, kept = tokenizer_files(program.metadata), kept_tokens(program.metadata)
        return TokenFiles(paths, kept, read_tokenizer(paths, kept)) if paths else None

    @property
    def size(self) -> int:
        return pieces.size(self.content)

    def needed(self, tokens: set[int]) -> set[int]:
        return pieces.needed(self.content, tokens)

    def subset(self, kept: Sequence[int]) -> dict[str, bytes]:
        return pieces.subset(self.content, kept)


def corpus_tokens(path: Path, files: TokenFiles | None, min_count: int, writes: bool) -> set[int]:
    """Ids in a file of texts or ids, those that occur at least so often.

    writes   whether references are needed too, since nothing else says what the program writes
    Raises PassError for a file that is missing, empty, damaged, or of no use without a tokenizer.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        got = f"keep={path.name}: {error.strerror or error}"
        raise PassError(WHERE, got, "a file that can be read") from error
    except UnicodeDecodeError as error:
        raise PassError(WHERE, f"keep={path.name}: bytes that are no text", "UTF-8") from error
    if path.suffix == ".json":
        return _ids(path.name, text)
    if files is None:
        got = f"keep={path.name} for a program without a tokenizer"
        raise PassError(WHERE, got, "a list of token ids in a .json file")
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    if not rows:
        raise PassError(WHERE, f"keep={path.name} without a line", "one text a line")
    if path.suffix == ".tsv" and any(len(row) != 2 for row in rows):
        raise PassError(WHERE, f"keep={path.name}: other lines", "source and reference a line")
    if path.suffix == ".txt" and writes:
        need = "source and reference, split by a tab, in a .tsv file"
        do = "or give the recipe a [calibration] table: what is written is not known from sources"
        raise PassError(WHERE, f"keep={path.name} for a translator", need, do)
    return _counted(rows, files, min_count, path.suffix == ".tsv")


def _ids(name: str, text: str) -> set[int]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not found or not all(type(i) is int for i in found):
        raise PassError(WHERE, f"keep={name}: no list of whole numbers", "[id, id, ...]")
    return set(found)


def _counted(
    rows: Sequence[Sequence[str]], files: TokenFiles, min_count: int, pairs: bool
) -> set[int]:
    tokenizer = load_tokenizer(files.paths, files.kept)
    counts: Counter[int] = Counter()
    for row in rows:
        counts.update(tokenizer.encode(row[0] if pairs else "\t".join(row)))
        counts.update(tokenizer.target(row[1]) if pairs else ())
    return {i for i, count in counts.items() if count >= min_count}
