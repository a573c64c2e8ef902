"""The same sources for other machines: strictly compiled by other compilers, and executed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgec.runtime.golden import Expected, GoldenCall, read_outputs, write_golden
from edgec.runtime.sources import (
    LOADER_JS,
    WASM_COMPILE,
    WASM_LINK,
    check_sources,
    library_sources,
)
from tests.runtime.tiny_model import (
    C_TESTS,
    SCALE,
    TABLE,
    TINY,
    compile_c,
    compile_objects,
    describe_weights,
    write_weights,
)
from tests.runtime.tools import need, need_zig

REACTOR = C_TESTS / "reactor.c"
TOKENS = np.array([3, 0, 15])
X = np.array([1, 2, 3, 4], np.float32)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_compilers_have_nothing_to_complain_about(compiler: str, tmp_path: Path) -> None:
    """With all warnings as errors, as a program's own sources may be compiled."""
    need(compiler, compiler)
    sources = [*library_sources(), *check_sources()]
    flags = ("-O2", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes")
    compile_objects([compiler], tmp_path, sources, *flags)


@pytest.mark.slow
@pytest.mark.parametrize("triple", ["aarch64-macos", "arm-linux-musleabihf", "riscv64-linux-musl"])
def test_machines_that_are_not_here_are_compiled_for(triple: str, tmp_path: Path) -> None:
    compiler = [*need_zig(), "cc", "-target", triple]
    compile_objects(compiler, tmp_path, [*library_sources(), *check_sources()], "-O2")


def test_the_header_is_cplusplus_too(tmp_path: Path) -> None:
    need("g++", "g++")
    (tmp_path / "use.cpp").write_text(
        '#include "edgec/runtime.h"\n'
        "int main() { return edgec_find(nullptr, nullptr) == -1 ? 0 : 1; }\n"
    )
    objects = compile_objects(["gcc"], tmp_path / "objects", library_sources())
    include = str(library_sources()[0].parent.parent / "include")
    command = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I", include]
    subprocess.run(
        [*command, tmp_path / "use.cpp", *objects, "-pthread", "-o", tmp_path / "use"], check=True
    )
    subprocess.run([tmp_path / "use"], check=True)


def test_webassembly_computes_the_same(tmp_path: Path) -> None:
    """Without libc, threads and imports, called by loader.mjs in Node."""
    node, zig = need("node", "nodejs"), need_zig()
    weights = write_weights(tmp_path / "tiny.weights")
    compiler = [*zig, "cc", "-target", "wasm32-freestanding"]
    sources, flags = [TINY, *library_sources()], (*WASM_COMPILE, *describe_weights(weights))
    objects = compile_objects(compiler, tmp_path, [*sources, REACTOR], "-O2", *flags)
    exports = ("--export=_initialize", "--export=was_initialized")
    subprocess.run(
        [*zig, "wasm-ld", *WASM_LINK, *exports, *objects, "-o", tmp_path / "tiny.wasm"], check=True
    )
    script = Path(__file__).resolve().parent / "wasm_check.mjs"
    done = subprocess.run(
        [node, script, LOADER_JS, tmp_path / "tiny.wasm", tmp_path / "tiny.weights"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    np.testing.assert_array_equal(found["embed"], (TABLE[TOKENS] * SCALE).reshape(-1))
    assert found["steps"] == [list(X * SCALE), list(X * 2 * SCALE)]
    assert found["imports"] == []


@pytest.mark.slow
def test_aarch64_computes_the_same(tmp_path: Path) -> None:
    """The check program, statically linked with musl, under qemu; Python reads what it got."""
    qemu, zig = need("qemu-aarch64", "qemu-user"), need_zig()
    weights = write_weights(tmp_path / "tiny.weights")
    compiler = [*zig, "cc", "-target", "aarch64-linux-musl"]
    sources = [TINY, *library_sources(), *check_sources()]
    flags = ("-O2", "-static", "-pthread", "-lm", *describe_weights(weights))
    program = compile_c(compiler, tmp_path / "check", sources, *flags)
    calls = [
        GoldenCall("embed", [3], [TOKENS], [Expected(TABLE[TOKENS] * np.float32(SCALE))]),
        GoldenCall("step", [], [X, X], [Expected(X), Expected(X * 2)]),
    ]
    write_golden(tmp_path / "golden", calls, "tiny")
    paths = [tmp_path / "tiny.weights", tmp_path / "golden", Path("--out"), tmp_path / "out"]
    done = subprocess.run(
        [qemu, program, *paths, "--threads", "3", "--repeat", "20", "--json"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["passed"]
    first, second = read_outputs(tmp_path / "out")
    np.testing.assert_array_equal(first[0], TABLE[TOKENS] * np.float32(SCALE))
    np.testing.assert_array_equal(second[1], X * 2)
