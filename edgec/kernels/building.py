"""From kernels to object files, cached by content."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from edgec.errors import BuildError
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel

CACHE_VARIABLE = "EDGEC_CACHE"


def cache_folder() -> Path:
    """Where objects are kept: $EDGEC_CACHE, else the user's cache folder.

    Raises BuildError for a user without a home.
    """
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "edgec"
    try:
        return Path.home() / ".cache" / "edgec"
    except RuntimeError as error:
        raise BuildError("cache", str(error), "a home folder", f"set {CACHE_VARIABLE}") from error


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raises BuildError in place of what the system says of a folder that cannot be written."""
    try:
        yield
    except OSError as error:
        got = f"{error.strerror or error} at {error.filename or folder}"
        need = "a cache that can be written"
        raise BuildError("cache", got, need, f"set {CACHE_VARIABLE} to another folder") from error


def build_objects(
    kernels: Iterable[Kernel],
    isa: InstructionSet,
    suffix: str = "",
    prefix: str = "",
    parallel: bool = True,
) -> dict[Kernel, Path]:
    """One object file for each kernel; `prefix` and `suffix` stand around the functions' names.

    An object is built once for its tensor IR, instruction set and version of TVM. A note says which
    object a kernel of these sources had, so that TVM is not even imported where nothing changed.
    With `parallel`, many kernels are compiled by as many processes as there are cores.
    Raises BuildError where TVM is missing or refuses a kernel, or the cache cannot be written.
    """
    from edgec.kernels.worker import compile_ahead, processes

    folder = cache_folder() / "objects"
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    machine = f"{_versions()}\n{isa.name}\n{sorted(isa.target.items())}\n{suffix}\n{prefix}"
    notes = {
        k: folder / f"{_digest(machine, _sources(), k.key())}.note" for k in dict.fromkeys(kernels)
    }
    missing = [k for k, note in notes.items() if _noted(note) is None]
    if parallel and (workers := processes(len(missing))) > 1:
        compile_ahead(missing, isa, suffix, prefix, workers)
    found: dict[Kernel, Path] = {}
    for kernel, note in notes.items():
        path = _noted(note)
        if path is None:
            with _writing(folder):
                path = _object(kernel, isa, f"{prefix}{kernel.name}{suffix}", machine, folder)
                _write_whole(note, path.name.encode())
        found[kernel] = path
    return found


def _noted(note: Path) -> Path | None:
    """The object that a note names, where both are there."""
    path = note.parent / note.read_text() if note.exists() else None
    return path if path is not None and path.is_file() else None


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:32]


def _versions() -> str:
    try:
        return f"{metadata.version('apache-tvm')} {metadata.version('apache-tvm-ffi')}"
    except metadata.PackageNotFoundError as error:
        need, do = "apache-tvm", "pip install 'edgec[native]'"
        raise BuildError("kernels", f"{error.name} is not installed", need, do) from error


@functools.cache
def _sources() -> str:
    """Hash of the code generators themselves."""
    hashed = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*")):
        if path.suffix in (".py", ".json"):
            hashed.update(path.read_bytes())
    return hashed.hexdigest()


def _object(kernel: Kernel, isa: InstructionSet, symbol: str, machine: str, folder: Path) -> Path:
    """The object of the kernel's tensor IR, compiled where it is not there yet."""
    import tvm

    from edgec.kernels.body import prim_func
    from edgec.kernels.lowering import PIPELINE

    try:
        function = prim_func(kernel, isa, symbol)
        path = folder / f"{kernel.name}-{_digest(machine, function.script())}.o"
        if not path.exists():
            target = tvm.target.Target(dict(isa.target))
            module = tvm.tirx.build(function, target, pipeline=PIPELINE)
            with tempfile.TemporaryDirectory(dir=folder) as place:
                made = Path(place) / "kernel.o"
                module.write_to_file(str(made), "o")
                made.replace(path)
    except OSError:
        raise
    except Exception as error:  # TVM's errors have no base class of their own
        need = "a kernel that TVM compiles"
        raise BuildError(kernel.key()[:200], str(error)[:500], need, "this is a bug") from error
    return path


def _write_whole(path: Path, content: bytes) -> None:
    """Write into a temporary file and move it into place: two builds may share the cache."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)
