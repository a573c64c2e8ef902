"""From kernels to object files, cached by content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from edgec.errors import BuildError
from edgec.kernels.instruction_sets import InstructionSet
from edgec.kernels.kernel import Kernel

#: Raised when code generation changes without any kernel's fields changing.
_REVISION = 1

CACHE_VARIABLE = "EDGEC_CACHE"


def cache_folder() -> Path:
    """Where objects are kept: $EDGEC_CACHE, else the user's cache folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "edgec"


def build_objects(
    kernels: Iterable[Kernel], isa: InstructionSet, suffix: str = ""
) -> dict[Kernel, Path]:
    """One object file for each kernel; `suffix` ends the functions' names.

    An object is built once for its content, instruction set and version of TVM, and found again
    after that. Raises BuildError where TVM is missing or refuses a kernel.
    """
    folder = cache_folder() / "objects"
    folder.mkdir(parents=True, exist_ok=True)
    stamp = f"{_versions()}\n{isa.name}\n{sorted(isa.target.items())}\n{suffix}\n{_sources()}"
    found: dict[Kernel, Path] = {}
    for kernel in dict.fromkeys(kernels):
        content = f"{stamp}\n{kernel.key()}"
        path = folder / f"{kernel.name}-{hashlib.sha256(content.encode()).hexdigest()[:24]}.o"
        if not path.exists():
            _write(kernel, isa, suffix, path)
        found[kernel] = path
    return found


def _versions() -> str:
    try:
        return f"{metadata.version('apache-tvm')} {metadata.version('apache-tvm-ffi')}"
    except metadata.PackageNotFoundError as error:
        need, do = "apache-tvm", "pip install 'edgec[native]'"
        raise BuildError("kernels", f"{error.name} is not installed", need, do) from error


_digest = ""


def _sources() -> str:
    """Hash of the code generators themselves: a changed generator finds no old object."""
    global _digest
    if not _digest:
        hashed = hashlib.sha256(str(_REVISION).encode())
        for path in sorted(Path(__file__).parent.glob("*.py")):
            hashed.update(path.read_bytes())
        _digest = hashed.hexdigest()
    return _digest


def _write(kernel: Kernel, isa: InstructionSet, suffix: str, path: Path) -> None:
    """Compile into a temporary file and move it into place: two builds may share the cache."""
    import tvm

    from edgec.kernels.body import prim_func
    from edgec.kernels.lowering import PIPELINE

    name = kernel.name + suffix
    try:
        function = prim_func(kernel, isa, name)
        module = tvm.tirx.build(function, tvm.target.Target(dict(isa.target)), pipeline=PIPELINE)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / "kernel.o"
            module.write_to_file(str(made), "o")
            made.replace(path)
    except Exception as error:  # TVM's errors have no base class of their own
        need = "a kernel that TVM compiles"
        raise BuildError(kernel.key()[:200], str(error)[:500], need, "this is a bug") from error
