"""Execution of the aarch64 library on another machine: qemu runs a static program that loads it."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgec.errors import FormatError, UnsupportedError, ValidationError
from edgec.kernels.building import cache_folder
from edgec.runtime.arguments import Array
from edgec.runtime.golden import GoldenCall, read_outputs, write_golden
from edgec.runtime.sources import INCLUDE, ROOT, check_sources, library_sources
from edgec.target import Signature
from edgec.targets.native.toolchain import has_zig, zig

TRIPLE = "aarch64-linux-gnu"
SOURCE = Path(__file__).with_name("emulated.c")

#: What the check program calls in the library that it has loaded (emulated.c).
LOADED = ("model_of", "create", "call", "destroy", "last_error", "variant_of", "profile_of")
FILE_STATUSES = ("CANNOT_OPEN", "TRUNCATED", "DAMAGED", "OTHER_MODEL", "OTHER_VERSION")


class Emulated:
    """A library for aarch64 under qemu, a process for each call.

    Raises UnsupportedError where qemu-aarch64 or ziglang is missing.
    """

    def __init__(self, library: Path, weights: Path, threads: int = 1) -> None:
        if missing := self.missing():
            do = "install it, or execute the library on such a machine"
            raise UnsupportedError("native", f"{TRIPLE} on another machine", missing, do)
        self.command = (str(_qemu()), str(loading_program(library)))
        self.library, self.weights, self.threads = library, weights, threads

    @staticmethod
    def missing() -> str:
        """What is not here and needed; "": nothing."""
        if _qemu() is None:
            return "qemu-aarch64 on PATH (Debian's qemu-user)"
        return "" if has_zig() else "the package ziglang"

    def run(
        self, signature: Signature, dims: Mapping[str, int], inputs: Sequence[Array]
    ) -> list[Array]:
        """Call a function; all outputs, states too. Raises ValidationError with the text of the C
        library, FormatError for files that it refuses."""
        call = GoldenCall(
            signature.name,
            [dims[n] for n in signature.dims],
            inputs,
            [None] * len(signature.outputs),
        )
        with tempfile.TemporaryDirectory() as place:
            calls, made = Path(place) / "calls", Path(place) / "made"
            write_golden(calls, [call])
            words = [str(self.weights), str(calls), "--out", str(made)]
            done = subprocess.run(
                [*self.command, *words, "--threads", str(self.threads)],
                env={**os.environ, "EDGEC_LIBRARY": str(self.library)},
                capture_output=True,
                text=True,
            )
            if done.returncode:
                said = done.stderr.strip() or f"exit status {done.returncode}"
                damaged = any(f"EDGEC_{s}" in said for s in FILE_STATUSES)
                raise (FormatError if damaged else ValidationError)(str(self.library), said)
            (outputs,) = read_outputs(made)
        return [outputs[i].copy() for i in range(len(signature.outputs))]


def _qemu() -> str | None:
    return shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")


def loading_program(library: Path) -> Path:
    """The static program for this library, cached by its content."""
    compiler = zig(TRIPLE, "aarch64-linux-musl")
    renamed = tuple(f"-Dedgec_{n}=loaded_{n}" for n in LOADED)
    internals = [INCLUDE, ROOT / "src", ROOT / "check"]
    objects = [compiler.compile(s, internals, renamed) for s in check_sources()]
    objects += [compiler.compile(s, [INCLUDE]) for s in library_sources()]
    objects.append(compiler.compile(SOURCE, [INCLUDE]))
    with tempfile.TemporaryDirectory() as place:
        imports = Path(place) / "imports.c"
        imports.write_text(_imports(undefined_symbols(library.read_bytes(), str(library))))
        objects.append(compiler.compile(imports, []))
    digest = hashlib.sha256("\n".join(o.name for o in objects).encode()).hexdigest()[:24]
    made = cache_folder() / "programs" / f"emulated-{digest}"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as place:
            program = Path(place) / "program"
            compiler.run("-static", "-s", "-o", program, *objects, "-lm", "-lpthread")
            program.replace(made)
    return made


def _imports(names: Sequence[str]) -> str:
    """C of the table of functions that a library asks for, under names that clash with none."""
    declared = [f'extern char import_{i}[] __asm__("{n}");' for i, n in enumerate(names)]
    rows = [f'  {{"{n}", import_{i}}},' for i, n in enumerate(names)]
    table = "const struct { const char *name; void *address; } edgec_imports[] = {"
    return "\n".join([*declared, table, *rows, "  {0, 0}};\n"])


#: Linkers' hooks that a library may ask for weakly and do without.
OPTIONAL = ("_ITM_", "__gmon_start__", "__cxa_finalize")


def undefined_symbols(content: bytes, where: str) -> list[str]:
    """Names that an ELF64 library asks others for (ELF-64 object file format, version 1.5).

    Raises FormatError for anything else.
    """
    try:
        if content[:5] != b"\x7fELF\x02":
            raise ValueError
        (offset,) = struct.unpack_from("<Q", content, 40)
        size, count = struct.unpack_from("<HH", content, 58)
        places = [offset + i * size for i in range(count)]
        headers = [struct.unpack_from("<IIQQQQII", content, at) for at in places]
        found = []
        for _, type_, _, _, start, length, link, _ in headers:
            if type_ == 11:  # SHT_DYNSYM
                names = headers[link][4]
                for at in range(start + 24, start + length, 24):
                    name, _, _, section = struct.unpack_from("<IBBH", content, at)
                    text = content[names + name : content.index(b"\0", names + name)].decode()
                    if section == 0 and not text.startswith(OPTIONAL):
                        found.append(text)
        return sorted(found)
    except (ValueError, IndexError, struct.error) as error:
        raise FormatError(where, "no whole ELF64 file", "a shared library of edgec") from error
