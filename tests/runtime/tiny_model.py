"""Builds c/tiny_model.c: its weights, the shared library, and programs that are linked with it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.runtime.container import Container, Entry, Kind
from edgec.runtime.container_writer import write_container
from edgec.runtime.sources import INCLUDE, library_sources

C_TESTS = Path(__file__).resolve().parent / "c"
TINY = C_TESTS / "tiny_model.c"
TABLE = np.arange(16 * 8, dtype=np.float32).reshape(16, 8)
SCALE = 0.5

STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion")


@dataclass(frozen=True)
class TinyModel:
    """A shared library and the weights that belong to it."""

    library: Path
    weights: Path


def write_weights(path: Path, scale: float = SCALE, model: str = "tiny") -> Container:
    """The tiny model's weights; another scale makes those of another model."""
    entries = [Entry.of("table", TABLE), Entry.of("scale", np.array([scale], np.float32))]
    return write_container(path, Kind.WEIGHTS, entries, model, "0.1.0")


def describe_weights(weights: Container) -> list[str]:
    """Compiler options that put hash and size of the weights into the model."""
    digest = ",".join(f"0x{byte:02x}" for byte in weights.payload_hash)
    return [f"-DTINY_HASH={{{digest}}}", f"-DTINY_WEIGHTS_BYTES={weights.file_bytes}"]


def compile_c(compiler: Sequence[str], out: Path, sources: Sequence[Path], *flags: str) -> Path:
    """Compile and link with the runtime's headers, internal ones too; the compiler's complaint is
    the failure."""
    include = ["-I", str(INCLUDE), "-I", str(INCLUDE.parent / "src")]
    command = [*compiler, *STRICT, *include, *map(str, sources), *flags, "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return out


def compile_objects(
    compiler: Sequence[str], folder: Path, sources: Sequence[Path], *flags: str
) -> list[Path]:
    """One object for each source, to be linked with several programs."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        compile_c(compiler, folder / f"{source.stem}.o", [source], "-c", *flags)
        for source in sources
    ]


def build_tiny(folder: Path, compiler: Sequence[str] = ("gcc",), *flags: str) -> TinyModel:
    """Library and weights in `folder`."""
    weights = write_weights(folder / "tiny.weights")
    sources = [TINY, *library_sources()]
    options = ["-O2", "-g", "-fPIC", "-shared", "-pthread", *describe_weights(weights), *flags]
    library = compile_c(compiler, folder / "libtiny.so", sources, *options)
    return TinyModel(library, folder / "tiny.weights")
