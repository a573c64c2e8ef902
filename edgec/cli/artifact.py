"""What a command is given to open: a release, or the files that some target wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgec.runner import Runner
    from edgec.target import Executable


def open_runner(path: Path, variant: str) -> Runner:
    """The functions of a release, or of files without a release around them."""
    from edgec.release import Release
    from edgec.release.manifest import NAME
    from edgec.release.signature import signature_graph
    from edgec.release.summary import NAME as SUMMARY
    from edgec.runner import Runner

    if (path / NAME).is_file() or (path / SUMMARY).is_file():
        return Release.load(path, variant).runner
    _, executable, _ = open_artifact(path)
    graphs = {n: signature_graph(s) for n, s in executable.functions.items()}
    return Runner(graphs, executable.run)


def open_artifact(path: Path) -> tuple[str, Executable, Path]:
    """(target, executable, folder) of files that some target wrote.

    Raises FormatError where no target can read them, with what each of them says.
    """
    from edgec.errors import EdgecError, FormatError
    from edgec.targets import TARGETS, target_class

    need = "a release folder, or the files that a target wrote"
    if not path.exists():
        raise FormatError(str(path), "nothing there", need)
    folder = path if path.is_dir() else path.parent
    refused = []
    for name in TARGETS:
        try:
            return name, target_class(name).load(folder), folder
        except EdgecError as error:
            refused.append(f"{name}: {error.got}")
    got = f"{path.name or path}, which no target can read ({'; '.join(refused)})"
    raise FormatError("artifact", got, need)
