"""C compilers: the system's for this machine, ziglang's for every other and in its absence."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.errors import BuildError, UnsupportedError
from edgec.kernels.building import cache_folder
from edgec.targets.native.platforms import PLATFORMS

#: Of every C file.
FLAGS = ("-std=c11", "-O2", "-g0", "-ffunction-sections", "-fdata-sections", "-fno-ident")


@dataclass(frozen=True)
class Toolchain:
    """A compiler for one triple.

    command   program and first arguments
    archiver  the same of `ar`
    version   first line of what the compiler says of itself; part of cache keys
    """

    triple: str
    command: tuple[str, ...]
    archiver: tuple[str, ...]
    version: str

    def run(self, *arguments: str | Path, folder: Path | None = None) -> None:
        """Compile or link, in a folder. Raises BuildError with the compiler's own words."""
        self._run(self.command, arguments, folder)

    def archive(self, made: Path, members: Sequence[Path]) -> None:
        """A static library: no times, no owners, an index."""
        made.unlink(missing_ok=True)
        self._run(self.archiver, ("rcsD", made, *members))

    def _run(
        self,
        command: tuple[str, ...],
        arguments: Sequence[str | Path],
        folder: Path | None = None,
    ) -> None:
        words = [*command, *map(str, arguments)]
        made = subprocess.run(words, capture_output=True, text=True, cwd=folder)
        if made.returncode:
            said = (made.stderr or made.stdout).strip()[:2000]
            raise BuildError(f"native, {self.triple}", said, "C that compiles", "this is a bug")

    def compile(self, source: Path, includes: Sequence[Path], flags: Sequence[str] = ()) -> Path:
        """The object of a C file, cached by the content of everything it is made from."""
        digest = hashlib.sha256(f"{self.command}{self.version}{self.triple}{FLAGS}{flags}".encode())
        headers = [*source.parent.glob("*.h"), *(h for i in includes for h in i.rglob("*.h"))]
        for path in [source, *sorted(headers)]:
            digest.update(path.name.encode() + path.read_bytes())
        folder = cache_folder() / "objects"
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f"{source.stem}-{digest.hexdigest()[:24]}.o"
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=folder) as place:
                object_ = Path(place) / "made.o"
                options = [*FLAGS, *flags, *(f"-I{i}" for i in includes)]
                # clang writes the name of the file into the object as it was given.
                self.run(*options, "-c", source.name, "-o", object_, folder=source.parent)
                object_.replace(made)
        return made


def host_triple() -> str:
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    return f"{machine}-linux-gnu"


def toolchain(triple: str) -> Toolchain:
    """The compiler for a triple: $CC or the system's cc for this machine, else ziglang.

    Raises UnsupportedError where there is none.
    """
    is_host = triple == host_triple()
    names = (os.environ.get("CC"), "cc", "gcc", "clang") if is_host else ()
    for name in names:
        if name and (found := shutil.which(name)) and (archiver := shutil.which("ar")):
            return Toolchain(triple, (found,), (archiver,), _version(found))
    if not has_zig():
        system = "a C compiler called cc, or " if is_host else ""
        need = f"{system}the package ziglang"
        raise UnsupportedError(
            "native", f"no compiler for {triple}", need, "pip install 'edgec[cross]'"
        )
    return zig(triple, PLATFORMS[triple].zig)


def has_zig() -> bool:
    return importlib.util.find_spec("ziglang") is not None


def zig(triple: str, target: str) -> Toolchain:
    """The compiler of the package ziglang; `target` is its own name of the platform.

    Its program is called as `python -m ziglang` would, but that takes modules from the folder that
    it is called in.
    """
    package = importlib.util.find_spec("ziglang")
    assert package is not None and package.origin is not None
    program = str(Path(package.origin).with_name("zig"))
    compiler = (program, "cc", "-target", target)
    return Toolchain(triple, compiler, (program, "ar"), _version(program, "cc"))


@functools.cache
def _version(*command: str) -> str:
    made = subprocess.run([*command, "--version"], capture_output=True, text=True)
    lines = made.stdout.splitlines()
    return lines[0] if lines else ""
