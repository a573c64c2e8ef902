"""Libraries of a model: kernels, the model's C source and the runtime, linked for a platform."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgec.kernels import Kernel
from edgec.kernels.building import build_objects
from edgec.runtime.sources import INCLUDE, WASM_EXPORTS, library_sources
from edgec.targets.native.expressions import identifier
from edgec.targets.native.header import model_symbol
from edgec.targets.native.platforms import Platform
from edgec.targets.native.toolchain import Toolchain, toolchain
from edgec.targets.native.variants import symbol_parts

#: What a shared library shows of the runtime: its kernels and internals stay hidden.
API = (
    "create destroy call find last_error status_name status_text dtype_bytes profile_of "
    "variant_of reserve release model_of"
).split()

#: The same of its tokenizer, for models that have one.
TOKENIZER_API = (
    "tokenizer_create tokenizer_destroy tokenizer_error tokenize detokenize generation_of "
    "choose_token"
).split()


@dataclass(frozen=True)
class ModelCode:
    """A model as C, the same for all platforms.

    name        of files and, as an identifier, of symbols
    source      NAME.c
    header      NAME.h
    functions   of the program
    kernels     that the source calls
    tokens      whether there is a NAME.tokens
    """

    name: str
    source: str
    header: str
    functions: tuple[str, ...]
    kernels: tuple[Kernel, ...]
    tokens: bool = False

    def symbols(self) -> list[str]:
        """What the source defines for users."""
        typed = [f"{identifier(self.name)}_{identifier(f)}" for f in self.functions]
        return [model_symbol(self.name), *typed]

    def api(self) -> list[str]:
        """What users find of the runtime in a shared library."""
        return [*(f"edgec_{n}" for n in API), *self.tokenizer_api()]

    def tokenizer_api(self) -> list[str]:
        return [f"edgec_{n}" for n in TOKENIZER_API] if self.tokens else []

    def model_of(self) -> str:
        """model_of.c: the model that loaders and the check program ask the library for. A file of
        its own, which static libraries bring in only where it is asked for."""
        return (
            f'#include "{self.name}.h"\n'
            f"const edgec_model *edgec_model_of(void) {{ return &{model_symbol(self.name)}; }}\n"
        )

    def write(self, sources: Path, headers: Path) -> list[Path]:
        """Write the C files and the header; the C files' paths."""
        (headers / f"{self.name}.h").write_text(self.header)
        made = {f"{self.name}.c": self.source, "model_of.c": self.model_of()}
        for name, text in made.items():
            (sources / name).write_text(text)
        return [sources / name for name in made]


def kernel_objects(code: ModelCode, platform: Platform) -> dict[str, Path]:
    """Objects of all kernels for all instruction sets, by the names that archives give them."""
    found: dict[str, Path] = {}
    for isa in platform.sets:
        prefix, suffix = symbol_parts(code.name, isa)
        made = build_objects(code.kernels, isa, suffix, prefix)
        found |= {f"{k.name.removeprefix('edgec_')}{suffix}.o": p for k, p in made.items()}
    return found


def library_objects(code: ModelCode, platform: Platform) -> dict[str, Path]:
    """Everything that a library is made of, by the names that archives give it."""
    compiler, found = toolchain(platform.triple), kernel_objects(code, platform)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        for source in code.write(work, work):
            found[f"{source.stem}.o"] = compiler.compile(source, [INCLUDE, work], platform.compile)
    for source in library_sources():
        found[f"edgec_{source.stem}.o"] = compiler.compile(source, [INCLUDE], platform.compile)
    return found


def write_shared(code: ModelCode, platform: Platform, folder: Path) -> str:
    """The shared library, or the WebAssembly module; its name relative to the folder."""
    made = f"lib/{platform.triple}/{platform.library_name(identifier(code.name))}"
    (folder / made).parent.mkdir(parents=True, exist_ok=True)
    objects = list(library_objects(code, platform).values())
    link = _link_wasm if platform.is_webassembly else _link_elf
    link(code, toolchain(platform.triple), objects, folder / made)
    return made


def _link_elf(code: ModelCode, compiler: Toolchain, objects: list[Path], made: Path) -> None:
    shown = " ".join(f"{n};" for n in [*code.api(), *code.symbols()])
    with tempfile.TemporaryDirectory() as place:
        exports = Path(place) / "exports.map"
        exports.write_text(f"{{ global: {shown} local: *; }};\n")
        compiler.run(
            "-shared",
            "-s",
            "-Wl,--gc-sections,--build-id=none",
            f"-Wl,-soname,{made.name}",
            f"-Wl,--version-script={exports}",
            "-o",
            made,
            *objects,
            "-lm",
            "-lpthread",
        )


def _link_wasm(code: ModelCode, compiler: Toolchain, objects: list[Path], made: Path) -> None:
    """A module without imports: libm comes from the C library of WASI, which it asks nothing.
    The linker puts the stack first, so that an overflow traps instead of writing over data."""
    compiler.run(
        "-mexec-model=reactor",
        "-s",
        "-Wl,--export-table",
        "-Wl,-z,stack-size=131072",
        *(f"-Wl,--export={n}" for n in sorted({*WASM_EXPORTS, *code.tokenizer_api()})),
        "-o",
        made,
        *objects,
    )


def write_static(code: ModelCode, platform: Platform, folder: Path) -> str:
    """The static library; its name relative to the folder.

    Members of the runtime are the same in all models of one version of edgec, so that a linker
    takes them from the first; kernels and functions have the model's name in theirs.
    """
    made = f"lib/{platform.triple}/lib{identifier(code.name)}.a"
    (folder / made).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        members = []
        for name, path in sorted(library_objects(code, platform).items()):
            members.append(Path(place) / name)
            shutil.copyfile(path, members[-1])
        toolchain(platform.triple).archive(folder / made, members)
    return made
