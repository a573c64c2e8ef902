"""The library as its users build it: by CMake, without threads or files, from the README."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgec.runtime.container import DTYPES
from edgec.runtime.golden import Expected, GoldenCall, write_golden
from edgec.runtime.sources import ROOT, check_sources, library_sources
from tests.runtime.tiny_model import SCALE, TABLE, TINY, compile_c, describe_weights, write_weights
from tests.runtime.tools import need

README = (ROOT / "README.md").read_text(encoding="utf-8")
TOKENS = np.array([3, 0, 15])
EMBED = GoldenCall("embed", [3], [TOKENS], [Expected(TABLE[TOKENS] * np.float32(SCALE))])


def test_cmake_builds_library_and_check_program(tmp_path: Path):
    cmake = need("cmake", "cmake")
    flags = " ".join(describe_weights(write_weights(tmp_path / "tiny.weights")))
    write_golden(tmp_path / "golden", [EMBED])
    for command in (
        [
            "-S",
            ROOT,
            "-B",
            tmp_path / "b",
            f"-DEDGEC_CHECK_MODEL={TINY}",
            f"-DCMAKE_C_FLAGS={flags}",
        ],
        ["--build", tmp_path / "b"],
        ["--install", tmp_path / "b", "--prefix", tmp_path / "installed"],
    ):
        done = subprocess.run([cmake, *map(str, command)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    program = [tmp_path / "b" / "check", tmp_path / "tiny.weights", tmp_path / "golden"]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "installed" / "include" / "edgec" / "runtime.h").is_file()
    assert (tmp_path / "installed" / "lib" / "libedgec_runtime.a").is_file()


@pytest.mark.parametrize(
    ("define", "words", "status", "reason"),
    [
        ("EDGEC_WITHOUT_THREADS", [], 0, ""),
        ("EDGEC_WITHOUT_THREADS", ["--threads", "2"], 2, "EDGEC_NO_THREADS: .*no threads"),
        ("EDGEC_WITHOUT_FILES", [], 2, "EDGEC_CANNOT_OPEN: .*pass options.weights"),
    ],
)
def test_parts_that_are_left_out_say_so(
    tmp_path: Path, define: str, words: list[str], status: int, reason: str
):
    need("gcc", "gcc")
    weights = write_weights(tmp_path / "tiny.weights")
    write_golden(tmp_path / "golden", [EMBED])
    sources = [TINY, *library_sources(), *check_sources()]
    options = [f"-D{define}", *describe_weights(weights), "-pthread", "-lm"]
    program = compile_c(["gcc"], tmp_path / "check", sources, *options)
    done = subprocess.run(
        [program, tmp_path / "tiny.weights", tmp_path / "golden", *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert re.search(reason, done.stderr)


def test_the_example_of_the_readme_compiles_and_runs(tmp_path: Path):
    need("gcc", "gcc")
    weights = write_weights(tmp_path / "NAME.weights")
    example = re.findall(r"^```c\n(.*?)^```$", README, re.M | re.S)[0]  # the others are tokenizing
    include, body = example.split("\n", 1)
    body = body.replace('"main"', '"embed"')
    (tmp_path / "use.c").write_text(
        f"{include}\n#include <stdio.h>\n"
        "static int fail(const char *error) { return puts(error), 1; }\n"
        "int main(void) {\n"
        "int64_t tokens[5] = {0, 1, 2, 3, 15};\nfloat logits[5 * 8];\n"
        f'{body}printf("%g\\n", (double)logits[39]);\nreturn status;\n}}\n'
    )
    sources = [tmp_path / "use.c", TINY, *library_sources()]
    options = ["-pthread", *describe_weights(weights)]
    program = compile_c(["gcc"], tmp_path / "use", sources, *options)
    done = subprocess.run([program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "63.5\n")


def test_the_readme_has_the_numbers_of_the_dtypes():
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(DTYPES))
    assert f"| dtype | {listed} |" in README


def test_the_readme_names_every_source():
    for path in library_sources():
        assert f"`{path.name}`" in README or f"src/{path.name}`" in README, path.name
