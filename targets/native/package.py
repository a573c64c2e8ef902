"""A model as a CMake package, and as C sources with objects for the user's own compiler."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edgec.runtime.sources import INCLUDE, ROOT
from edgec.targets.native.expressions import identifier
from edgec.targets.native.libraries import ModelCode, kernel_objects
from edgec.targets.native.platforms import Platform

OLDEST_CMAKE = "3.16"


# ------------------------------------------------------------------ find_package
def write_config(
    code: ModelCode, platforms: Sequence[Platform], outputs: Sequence[str], folder: Path
) -> str:
    """cmake/NAMEConfig.cmake, for find_package; its name relative to the folder."""
    made = f"cmake/{code.name}Config.cmake"
    (folder / "cmake").mkdir(exist_ok=True)
    (folder / made).write_text(_config(code, platforms, outputs))
    return made


def _config(code: ModelCode, platforms: Sequence[Platform], outputs: Sequence[str]) -> str:
    name = code.name
    there = [p for p in platforms if p.archive]
    choice = _choice(
        there, lambda p: f'CMAKE_SYSTEM_NAME STREQUAL "Linux" AND {_processor(p)}', "_triple"
    )
    known = ", ".join(p.triple for p in there) or "none"
    targets = []
    if "shared" in outputs:
        more = f'\n    IMPORTED_SONAME "lib{identifier(name)}.so"'
        targets.append(_imported(name, "SHARED", f"lib{identifier(name)}.so", name, more))
    if "static" in outputs:
        more = '\n    INTERFACE_LINK_LIBRARIES "Threads::Threads;m"'
        file = f"lib{identifier(name)}.a"
        targets.append(_imported(name, "STATIC", file, f"{name}_static", more))
    missing = (
        f"{name} has no libraries for ${{CMAKE_SYSTEM_NAME}} on ${{CMAKE_SYSTEM_PROCESSOR}}, only "
        f"for: {known}. Its sources, outputs=source, serve more."
    )
    tokens = f'set({name}_TOKENS "${{_root}}/{name}.tokens")\n' if code.tokens else ""
    return f"""\
# {name}, compiled by edgec: find_package({name} CONFIG), then link {name}::{name} (shared) or
# {name}::{name}_static. {name}_WEIGHTS is the path of the weights,
# {name}_TOKENS of the tokenizer where there is one.
{choice}
else()
  set({name}_FOUND FALSE)
  set({name}_NOT_FOUND_MESSAGE "{missing}")
  return()
endif()
get_filename_component(_root "${{CMAKE_CURRENT_LIST_DIR}}/.." ABSOLUTE)
include(CMakeFindDependencyMacro)
find_dependency(Threads)
{"".join(targets)}set({name}_WEIGHTS "${{_root}}/{name}.weights")
{tokens}"""


def _imported(name: str, kind: str, file: str, target: str, more: str) -> str:
    return f"""\
if(NOT TARGET {name}::{target})
  add_library({name}::{target} {kind} IMPORTED)
  set_target_properties({name}::{target} PROPERTIES
    IMPORTED_LOCATION "${{_root}}/lib/${{_triple}}/{file}"{more}
    INTERFACE_INCLUDE_DIRECTORIES "${{_root}}")
endif()
"""


def _processor(platform: Platform) -> str:
    return f'CMAKE_SYSTEM_PROCESSOR MATCHES "^({platform.processors})$"'


def _choice(
    platforms: Sequence[Platform], condition: Callable[[Platform], str], variable: str
) -> str:
    """if() ... elseif() that sets a variable to the triple; without endif()."""
    lines: list[str] = []
    for platform in platforms:
        word = "elseif" if lines else "if"
        lines += [f"{word}({condition(platform)})", f"  set({variable} {platform.triple})"]
    return "\n".join(lines or ["if(FALSE)"])


# ------------------------------------------------------------------ add_subdirectory
def write_source(code: ModelCode, platforms: Sequence[Platform], folder: Path) -> list[str]:
    """CMakeLists.txt, the C files and the kernels' objects; all names relative to the folder."""
    there = [p for p in platforms if p.systems]
    sources, runtime = folder / "src", folder / "src/runtime"
    runtime.mkdir(parents=True)
    code.write(sources, folder)
    for path in sorted((ROOT / "src").glob("*.[ch]")):
        shutil.copyfile(path, runtime / path.name)
    headers = ["edgec/block_table.h", *([] if code.tokens else ["edgec/tokenizer.h"])]
    for name in headers:
        shutil.copyfile(INCLUDE / name, folder / name)
    (folder / "CMakeLists.txt").write_text(_lists(code, there))
    objects = list(_write_objects(code, there, folder))
    written = [p.relative_to(folder).as_posix() for p in sources.rglob("*.[ch]")]
    return sorted(["CMakeLists.txt", *headers, *written, *objects])


def _write_objects(code: ModelCode, platforms: Sequence[Platform], folder: Path) -> Iterator[str]:
    for platform in platforms:
        place = folder / "objects" / platform.triple
        place.mkdir(parents=True)
        for name, path in kernel_objects(code, platform).items():
            shutil.copyfile(path, place / name)
            yield f"objects/{platform.triple}/{name}"


def _lists(code: ModelCode, platforms: Sequence[Platform]) -> str:
    name = code.name
    choice = _choice(
        platforms,
        lambda p: f'CMAKE_SYSTEM_NAME MATCHES "^({p.systems})$" AND {_processor(p)}',
        "triple",
    )
    known = ", ".join(p.triple for p in platforms)
    sources = "\n  ".join(f"src/runtime/{p.name}" for p in sorted((ROOT / "src").glob("*.c")))
    return f"""\
# {name}, compiled by edgec: add_subdirectory of this folder, then link {name}::{name}. The C is
# compiled here, the kernels come as objects.
cmake_minimum_required(VERSION {OLDEST_CMAKE})
project({name} LANGUAGES C)

{choice}
else()
  message(FATAL_ERROR "{name} has no kernels for ${{CMAKE_SYSTEM_NAME}} on \
${{CMAKE_SYSTEM_PROCESSOR}}, only for: {known}")
endif()
file(GLOB objects "${{CMAKE_CURRENT_SOURCE_DIR}}/objects/${{triple}}/*.o")
set_source_files_properties(${{objects}} PROPERTIES EXTERNAL_OBJECT TRUE)

add_library({name} STATIC
  src/{name}.c
  src/model_of.c
  {sources}
  ${{objects}})
add_library({name}::{name} ALIAS {name})
add_library({name}::{name}_static ALIAS {name})
target_include_directories({name} PUBLIC "${{CMAKE_CURRENT_SOURCE_DIR}}")
set_target_properties({name} PROPERTIES
  C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON
  LINKER_LANGUAGE C)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  target_compile_options({name} PRIVATE -O2)
endif()
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
target_link_libraries({name} PUBLIC Threads::Threads m)
get_directory_property(has_parent PARENT_DIRECTORY)
if(has_parent)
  set({name}_WEIGHTS "${{CMAKE_CURRENT_SOURCE_DIR}}/{name}.weights" PARENT_SCOPE)
endif()
"""
