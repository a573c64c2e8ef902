"""C compilers: the system's for this machine, ziglang's for every other and in its absence."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.errors import BuildError, UnsupportedError
from edgec.kernels.building import cache_folder

#: Of every C file: readable warnings are errors of the generator, not of the user.
FLAGS = ("-std=c11", "-O2", "-fPIC", "-ffunction-sections", "-fdata-sections", "-fno-ident")


@dataclass(frozen=True)
class Toolchain:
    """A compiler for one triple.

    command   program and first arguments
    version   first line of what it says of itself; part of cache keys
    """

    triple: str
    command: tuple[str, ...]
    version: str

    def run(self, *arguments: str) -> None:
        """Raises BuildError with the compiler's own words."""
        made = subprocess.run([*self.command, *arguments], capture_output=True, text=True)
        if made.returncode:
            said = (made.stderr or made.stdout).strip()[:2000]
            raise BuildError(f"native, {self.triple}", said, "C that compiles", "this is a bug")

    def compile(self, source: Path, includes: Sequence[Path], flags: Sequence[str] = ()) -> Path:
        """The object of a C file, cached by the content of everything it is made from."""
        options = [*FLAGS, *flags, *(f"-I{i}" for i in includes)]
        digest = hashlib.sha256(f"{self.command}{self.version}{self.triple}{FLAGS}{flags}".encode())
        for path in [source, *sorted(h for i in includes for h in i.rglob("*.h"))]:
            digest.update(path.name.encode() + path.read_bytes())
        folder = cache_folder() / "objects"
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f"{source.stem}-{digest.hexdigest()[:24]}.o"
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=folder) as place:
                object_ = Path(place) / "made.o"
                self.run(*options, "-c", str(source), "-o", str(object_))
                object_.replace(made)
        return made


def host_triple() -> str:
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    return f"{machine}-linux-gnu"


@functools.cache
def toolchain(triple: str) -> Toolchain:
    """The compiler for a triple: $CC or the system's cc for this machine, else ziglang.

    Raises UnsupportedError where there is none.
    """
    if triple == host_triple():
        for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
            if name and (path := shutil.which(name)):
                return Toolchain(triple, (path,), _version(path))
    if importlib.util.find_spec("ziglang") is None:
        system = "a C compiler called cc, or " if triple == host_triple() else ""
        need = f"{system}the package ziglang"
        raise UnsupportedError(
            "native", f"no compiler for {triple}", need, "pip install 'edgec[cross]'"
        )
    command = (sys.executable, "-m", "ziglang", "cc", "-target", triple)
    return Toolchain(triple, command, _version(sys.executable, "-m", "ziglang", "cc"))


def _version(*command: str) -> str:
    made = subprocess.run([*command, "--version"], capture_output=True, text=True)
    lines = made.stdout.splitlines()
    return lines[0] if lines else ""
