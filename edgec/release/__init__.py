"""A release: a folder with files that ship, evidence for them, release.json, report.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from edgec.errors import FormatError, ValidationError
from edgec.interpreter import check_inputs, flatten, unflatten
from edgec.ir.graph import Graph
from edgec.measure import sha256
from edgec.release.manifest import File, Manifest, Outcome, load_manifest
from edgec.release.signature import signature_graph
from edgec.release.summary import NAME as SUMMARY
from edgec.release.summary import load_summary
from edgec.runner import Runner, tokenizer_files
from edgec.target import Executable, Signature
from edgec.targets import target_class

if TYPE_CHECKING:
    from edgec.release.recheck import Progress, Verification

MODEL = "model"  # folder of the files that the target wrote
TOKENIZER = "tokenizer"
EVIDENCE = "evidence"  # what `edgec verify` needs; does not ship

__all__ = ["EVIDENCE", "MODEL", "TOKENIZER", "Release"]


class Release:
    """A release on disk. Nothing of it is executed before `run` is called.

    path       its folder
    manifest   the content of release.json
    """

    def __init__(self, path: Path, manifest: Manifest, threads: int = 1) -> None:
        self.path, self.manifest, self._threads = path, manifest, threads

    @staticmethod
    def load(path: Path | str, variant: str = "", threads: int = 1) -> Release:
        """Open a release; of several variants the named one, or else the smallest accepted.

        threads   that the host runtime may use
        Raises FormatError for a folder that is no release, or whose release.json is damaged;
        ValidationError for an unknown variant.
        """
        folder = Path(path)
        if (folder / SUMMARY).is_file():
            folder = folder / load_summary(folder).choose(variant)
        elif variant:
            got = f"variant {variant} of {folder.name}, which has only one"
            raise ValidationError("release", got)
        return Release(folder, load_manifest(folder), threads)

    # -------------------------------------------------------------- what is known
    @property
    def verdict(self) -> Outcome:
        """ACCEPT, or why the release must not be used."""
        return self.manifest.verdict

    @property
    def bytes(self) -> int:
        """Bytes of all files that ship."""
        return self.manifest.sizes.shipped_bytes

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.manifest.metadata

    @property
    def functions(self) -> Mapping[str, Signature]:
        """The functions of the artifact, as its own files state them."""
        return self.executable.functions

    @cached_property
    def graphs(self) -> dict[str, Graph]:
        """Signatures as graphs: names, types, ranges of dimensions, states."""
        return {name: signature_graph(s) for name, s in self.functions.items()}

    # -------------------------------------------------------------- execution
    @cached_property
    def executable(self) -> Executable:
        """The artifact, open for execution. Raises FormatError for files that are not as built."""
        self.check_files([f for f in self.manifest.files if f.kind == "model"])
        return target_class(self.manifest.target).load(self.path / MODEL, threads=self._threads)

    def run(self, *inputs: Any, function: str | None = None) -> Any:
        """Execute a function (default: `main`) on the module's nested inputs; nested outputs.

        Raises ValidationError for inputs of wrong structure, dtype or shape, or a dimension out of
        range.
        """
        graph = self._graph(function)
        return unflatten(graph, self.run_flat(graph.name, flatten(graph, inputs)))

    def run_flat(self, function: str, inputs: Sequence[Any]) -> list[torch.Tensor]:
        """Flat inputs -> flat outputs of one function."""
        graph = self._graph(function)
        tensors = check_inputs(graph, inputs)
        graph.bind(tuple(t.shape) for t in tensors)
        return self.executable.run(graph.name, tensors)

    def _graph(self, function: str | None) -> Graph:
        if function is None and len(self.graphs) == 1:
            return next(iter(self.graphs.values()))
        name = function or "main"
        if name not in self.graphs:
            need = f"the name of one of {', '.join(self.graphs)}"
            raise ValidationError("release", f"function {name}", need)
        return self.graphs[name]

    @property
    def runner(self) -> Runner:
        """The artifact as something that metrics and translators can call."""
        files = tokenizer_files(self.metadata, self.path)
        return Runner(self.graphs, self.executable.run, self.metadata, files)

    # -------------------------------------------------------------- integrity
    def check_files(self, files: Sequence[File] | None = None) -> None:
        """Raise FormatError listing every file that is missing or not as built."""
        problems = []
        for entry in self.manifest.files if files is None else files:
            path = self.path / entry.name
            if not path.is_file():
                problems.append(f"{entry.name} is missing")
            elif path.stat().st_size != entry.size_bytes:
                problems.append(
                    f"{entry.name} has {path.stat().st_size} bytes, built with {entry.size_bytes}"
                )
            elif sha256(path) != entry.sha256:
                problems.append(f"{entry.name} was changed: its hash is not that of the build")
        if problems:
            do = "copy the release again, or build it again"
            raise FormatError(self.path.name, "\n  ".join(problems), "", do)

    def verify(self, progress: Progress | None = None) -> Verification:
        """Repeat every check of the build from the files of the release alone."""
        from edgec.release.recheck import verify

        return verify(self, progress)

    def __repr__(self) -> str:
        return f"Release({self.path.name!r}, {self.verdict}, {self.bytes} bytes)"
