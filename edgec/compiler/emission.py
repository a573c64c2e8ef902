"""From a program to the files that ship: legalize, emit, copy the tokenizer."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from edgec.errors import BuildError
from edgec.ir.program import Program
from edgec.measure import brotli_bytes, sha256
from edgec.release import MODEL, TOKENIZER
from edgec.release.manifest import File
from edgec.release.signature import signature_graph
from edgec.runner import Runner, tokenizer_files
from edgec.target import Artifact, Executable, Target
from edgec.tokenizer import kept_tokens, read_tokenizer
from edgec.validate.exposed import Again

Kind = Literal["model", "tokenizer", "evidence"]


@dataclass(frozen=True)
class Emitted:
    """Files of one build, on disk and listed.

    folder     of the release
    target     that wrote them
    artifact   what it says about them
    metadata   the program's, with the tokenizer's paths inside of the folder
    files      every file that ships
    """

    folder: Path
    target: Target
    artifact: Artifact
    metadata: dict[str, Any]
    files: tuple[File, ...]

    @cached_property
    def executable(self) -> Executable:
        return self.target.load(self.folder / MODEL, threads=1)

    @property
    def runner(self) -> Runner:
        graphs = {n: signature_graph(s) for n, s in self.executable.functions.items()}
        files = tokenizer_files(self.metadata, self.folder)
        return Runner(graphs, self.executable.run, self.metadata, files)

    def bytes(self, kind: Kind | None = None) -> int:
        """Of the files that ship, or those of one kind."""
        return sum(f.size_bytes for f in self.files if kind in (None, f.kind))

    def brotli(self, kind: Kind | None = None) -> int | None:
        """The same under brotli; None where that is not installed."""
        sizes = [f.brotli_bytes for f in self.files if kind in (None, f.kind)]
        return None if None in sizes else sum(s or 0 for s in sizes)

    @property
    def hashes(self) -> tuple[tuple[str, str], ...]:
        return tuple((f.name, f.sha256) for f in self.files)


def emit(program: Program, target: Target, folder: Path, recipe: str = "") -> Emitted:
    """Write the artifact of `program`, which states `recipe`, and its tokenizer into `folder`.

    Raises UnsupportedError from the target, BuildError for a target that leaves files unlisted.
    """
    (folder / MODEL).mkdir(parents=True)
    artifact = target.emit(target.legalize(program), folder / MODEL, recipe)
    written = {
        p.relative_to(folder / MODEL).as_posix() for p in (folder / MODEL).rglob("*") if p.is_file()
    }
    if written != set(artifact.files):
        got = f"files {sorted(written)}, listed {sorted(artifact.files)}"
        raise BuildError(str(target), got, "", "this is a bug of the target")
    metadata = copy_tokenizer(program.metadata, folder)
    tokenizer = sorted(set(((metadata.get("tokenizer") or {}).get("files") or {}).values()))
    files = list_files(folder, [f"{MODEL}/{n}" for n in sorted(artifact.files)], "model")
    files += list_files(folder, tokenizer, "tokenizer")
    return Emitted(folder, target, artifact, metadata, tuple(files))


def opener(target: Target) -> Again:
    """Emits programs as `emit` does, into a folder that is gone when its user is done."""

    @contextmanager
    def again(program: Program) -> Iterator[Executable]:
        with tempfile.TemporaryDirectory() as place:
            target.emit(target.legalize(program), Path(place))
            yield target.load(Path(place), threads=1)

    return again


def copy_tokenizer(metadata: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Copy tokenizer files into the release, equal ones once; metadata with their places there.

    They have only the tokens that the program has kept.

    Raises BuildError for files that are missing.
    """
    files = tokenizer_files(metadata)
    if missing := [name for name, path in files.items() if not path.is_file()]:
        raise BuildError(
            "tokenizer", f"missing {', '.join(missing)}", "the model's tokenizer files"
        )
    stored: dict[str, str] = {}
    places: dict[str, str] = {}
    contents = read_tokenizer(files, kept_tokens(metadata))
    for name in sorted(contents):
        content = contents[name]
        digest = hashlib.sha256(content).hexdigest()
        if digest not in stored:
            stored[digest] = f"{TOKENIZER}/{Path(name).name}"
            (folder / TOKENIZER).mkdir(exist_ok=True)
            (folder / stored[digest]).write_bytes(content)
        places[name] = stored[digest]
    if not places:
        return {k: v for k, v in metadata.items() if k != "tokenizer"}
    described = {k: v for k, v in metadata["tokenizer"].items() if k != "kept"}
    return {**metadata, "tokenizer": {**described, "files": places}}


def list_files(folder: Path, names: Iterable[str], kind: Kind) -> list[File]:
    """Records of files in `folder`; evidence does not ship and is not compressed."""
    ships = kind != "evidence"
    return [
        File(
            name=name,
            ships=ships,
            kind=kind,
            size_bytes=(folder / name).stat().st_size,
            brotli_bytes=brotli_bytes(folder / name) if ships else None,
            sha256=sha256(folder / name),
        )
        for name in names
    ]
