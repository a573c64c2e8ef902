"""Emitted models as C and C++ programmers use them: by CMake, two in a program, cross-compiled."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch

from edgec.errors import UnsupportedError
from edgec.ir import Program
from edgec.targets.native import Native
from edgec.targets.native.toolchain import host_triple
from tests.runtime.tools import need, need_zig
from tests.targets.native.small import close, emit, small

ARM = "aarch64-linux-gnu"

MAIN = """\
#include <stdio.h>
#include "first.h"
#include "second.h"

static int fail(const char *text) {
  puts(text);
  return 1;
}

int main(int count, char **paths) {
  char error[EDGEC_ERROR_BYTES];
  edgec_instance *first, *second;
  const int64_t ids[] = {3, 0, 23}, wrong[] = {24};
  float y[3][7], z[3][7];
  if (count != 3 || first_create(paths[1], NULL, &first, error)) return fail(error);
  if (second_create(paths[2], NULL, &second, error)) return fail(error);
  if (first_main(first, 3, ids, y[0])) return fail(edgec_last_error(first));
  if (second_main(second, 3, ids, z[0])) return fail(edgec_last_error(second));
  for (int i = 0; i < 21; i++) printf("%.9g %.9g\\n", (&y[0][0])[i], (&z[0][0])[i]);
  if (first_main(first, 1, wrong, y[0]) != EDGEC_INDEX_OUT_OF_RANGE) return fail("not refused");
  first_destroy(first);
  second_destroy(second);
  return 0;
}
"""

USE = """\
cmake_minimum_required(VERSION 3.16)
project(use LANGUAGES C)
{find}
add_executable(use main.c)
target_link_libraries(use PRIVATE {libraries})
file(WRITE "${{CMAKE_BINARY_DIR}}/weights" "${{first_WEIGHTS}}\\n${{second_WEIGHTS}}\\n")
"""

FIND = {
    "shared": (
        "find_package(first CONFIG REQUIRED)\nfind_package(second CONFIG REQUIRED)",
        "first::first second::second",
    ),
    "static": (
        "find_package(first CONFIG REQUIRED)\nfind_package(second CONFIG REQUIRED)",
        "first::first_static second::second_static",
    ),
    "source": (
        'add_subdirectory("{root}/first" first)\nadd_subdirectory("{root}/second" second)',
        "first::first second::second",
    ),
}


@pytest.fixture(scope="module")
def programs() -> tuple[Program, Program]:
    return small(1), small(2)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, programs: tuple[Program, Program]) -> Path:
    """Two models for this machine, in all forms."""
    root = tmp_path_factory.mktemp("models")
    outputs = ("shared", "static", "cmake", "source")
    for name, program in zip(("first", "second"), programs, strict=True):
        (root / name).mkdir()
        emit(program, root / name, name=name, outputs=outputs)
    return root


def build(models: Path, work: Path, how: str, *options: str) -> Path:
    """A program that uses both models, built by CMake."""
    cmake = need("cmake", "cmake")
    find, libraries = FIND[how]
    (work / "main.c").write_text(MAIN)
    text = USE.format(find=find.format(root=models), libraries=libraries)
    (work / "CMakeLists.txt").write_text(text)
    found = f"-DCMAKE_PREFIX_PATH={models}/first;{models}/second"
    run(cmake, "-S", work, "-B", work / "build", found, *options)
    run(cmake, "--build", work / "build")
    return work / "build/use"


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(printed: str, programs: tuple[Program, Program]) -> None:
    rows = torch.tensor([[float(n) for n in line.split()] for line in printed.splitlines()])
    for column, program in enumerate(programs):
        want = program.run(torch.tensor([3, 0, 23]))
        assert close(rows[:, column].reshape(3, 7), want)


@pytest.mark.parametrize("how", FIND)
def test_two_models_in_a_program(
    how: str, models: Path, programs: tuple[Program, Program], tmp_path: Path
) -> None:
    program = build(models, tmp_path, how)
    weights = (tmp_path / "build/weights").read_text().splitlines()
    check(run(program, *weights), programs)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_compilers_have_nothing_to_complain_about(
    compiler: str, models: Path, tmp_path: Path
) -> None:
    """The C source, with all warnings as errors."""
    flags = ("-std=c11", "-O2", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{models / 'first'}")
    for source in ("first.c", "model_of.c"):
        path = models / "first/src" / source
        run(need(compiler, compiler), *flags, "-c", path, "-o", tmp_path / "made.o")


@pytest.mark.slow
def test_sources_are_cross_compiled_with_a_toolchain_file(
    programs: tuple[Program, Program], tmp_path: Path
) -> None:
    """As for Android: another compiler and C library, and the kernels as they are."""
    qemu, zig = need("qemu-aarch64", "qemu-user"), need_zig()
    for name, program in zip(("first", "second"), programs, strict=True):
        (tmp_path / name).mkdir()
        emit(program, tmp_path / name, (ARM,), name, outputs=("source",))
    compiler = tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\nexec {" ".join(zig)} cc -target aarch64-linux-musl "$@"\n')
    compiler.chmod(0o755)
    toolchain = tmp_path / "toolchain.cmake"
    toolchain.write_text(
        "set(CMAKE_SYSTEM_NAME Linux)\nset(CMAKE_SYSTEM_PROCESSOR aarch64)\n"
        f'set(CMAKE_C_COMPILER "{compiler}")\nset(CMAKE_EXE_LINKER_FLAGS -static)\n'
    )
    (tmp_path / "use").mkdir()
    flags = f"-DCMAKE_TOOLCHAIN_FILE={toolchain}"
    built = build(tmp_path, tmp_path / "use", "source", flags)
    weights = (tmp_path / f"{name}/{name}.weights" for name in ("first", "second"))
    check(run(qemu, built, *weights), programs)


def test_a_foreign_machine_is_told_what_there_is(models: Path, tmp_path: Path) -> None:
    cmake = need("cmake", "cmake")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(use LANGUAGES NONE)\n"
        "set(CMAKE_SYSTEM_PROCESSOR riscv64)\nfind_package(first CONFIG REQUIRED)\n"
    )
    found = f"-DCMAKE_PREFIX_PATH={models}/first"
    command = [cmake, "-S", str(tmp_path), "-B", str(tmp_path / "b"), found]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert f"first has no libraries for Linux on riscv64, only for: {host_triple()}" in said


def test_the_header_is_cplusplus(models: Path, tmp_path: Path) -> None:
    """All warnings are errors."""
    compiler = need("g++", "g++")
    source = tmp_path / "use.cpp"
    source.write_text('#include "first.h"\nint main() { return first_model.n_functions - 1; }\n')
    (library,) = models.glob("first/lib/*/libfirst.so")
    flags = ("-std=c++17", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{models / 'first'}")
    where = (f"-L{library.parent}", "-lfirst", f"-Wl,-rpath,{library.parent}")
    run(compiler, *flags, source, *where, "-o", tmp_path / "use")
    run(tmp_path / "use")


def test_static_libraries_define_only_names_of_the_model_and_the_runtime(models: Path) -> None:
    nm = need("nm", "binutils")
    (library,) = models.glob("first/lib/*/libfirst.a")
    lines = [line.split() for line in run(nm, "-g", "--defined-only", library).splitlines()]
    # TVM puts its conversions of half floats into every object, as weak symbols.
    names = {line[2] for line in lines if len(line) == 3 and line[1] not in "WV"}
    assert {n for n in names if not re.match("first_|edgec_", n)} == set()
    assert {"first_main", "first_model", "edgec_call"} <= names
    assert not any(n.startswith("edgec_k_") for n in names)


def test_shared_libraries_show_only_the_interface(models: Path) -> None:
    nm = need("nm", "binutils")
    (library,) = models.glob("first/lib/*/libfirst.so")
    names = {line.split()[2] for line in run(nm, "-D", "--defined-only", library).splitlines()}
    assert {n for n in names if n.startswith("first_")} == {"first_main", "first_model"}
    assert not any("_k_" in n for n in names)
    assert all(re.match("first_|edgec_", n) for n in names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": ("dll",)}, "outputs dll"),
        ({"outputs": ("cmake",)}, r"outputs cmake for .*; need one of shared, static, source"),
        ({"outputs": ()}, r"\(none\)"),
        ({"triples": ("aarch64-apple-ios",)}, "aarch64-apple-ios; need one of source"),
        ({"triples": ("riscv64-linux-gnu",)}, "riscv64-linux-gnu; need some of x86_64-linux-gnu"),
        ({"triples": (ARM, ARM)}, "each of them once"),
    ],
)
def test_options_that_cannot_be_met_are_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        Native(**options)  # type: ignore[arg-type]


def test_objects_for_apple_are_in_its_format(
    programs: tuple[Program, Program], tmp_path: Path
) -> None:
    made = emit(programs[0], tmp_path, ("aarch64-apple-ios",), outputs=("source",))
    objects = [tmp_path / f for f in made.files if f.endswith(".o")]
    assert objects
    for path in objects:
        content = path.read_bytes()
        assert content[:8] == bytes.fromhex("cffaedfe0c000001")  # Mach-O, 64 bit, arm64
        assert b"\0_small_edgec_k_" in content  # as its compilers call C's small_edgec_k_
