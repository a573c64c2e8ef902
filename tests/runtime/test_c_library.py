"""The C library's own tests, under the sanitizers for memory, undefined behaviour and races."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgec.runtime.sources import library_sources
from tests.runtime.tiny_model import (
    C_TESTS,
    TINY,
    compile_c,
    compile_objects,
    describe_weights,
    write_weights,
)
from tests.runtime.tools import need

DEBUG = ("-O1", "-g", "-pthread", "-fno-omit-frame-pointer")
MEMORY = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RACES = ("-fsanitize=thread",)


@dataclass(frozen=True)
class Built:
    """Objects of the library and of the tiny model under one sanitizer, and weights on disk."""

    folder: Path
    objects: list[Path]
    flags: tuple[str, ...]
    weights: Path
    other_weights: Path

    def run(self, name: str, *arguments: Path | str, flags: tuple[str, ...] = ()) -> str:
        """Build and run the test program `name`; returns what it printed."""
        program = self.folder / name
        sources = [C_TESTS / f"{name}.c", *self.objects]
        compile_c(["gcc"], program, sources, *self.flags, *flags)
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def build(folder: Path, *sanitizer: str) -> Built:
    need("gcc", "gcc")
    weights = write_weights(folder / "tiny.weights")
    write_weights(folder / "other.weights", scale=2.0, model="other")
    flags = (*DEBUG, *sanitizer)
    sources = [TINY, *library_sources()]
    objects = compile_objects(
        ["gcc"], folder / "objects", sources, *flags, *describe_weights(weights)
    )
    return Built(folder, objects, flags, folder / "tiny.weights", folder / "other.weights")


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("memory"), *MEMORY)


@pytest.fixture(scope="module")
def races(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("races"), *RACES)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("name", ["test_sha256", "test_status", "test_threads"])
def test_parts_of_the_library(memory: Built, name: str) -> None:
    memory.run(name)


def test_damaged_containers(memory: Built) -> None:
    """Truncated at every byte, every bit flipped, every field forged behind a hash that fits."""
    memory.run("test_container", memory.weights)


def test_instances(memory: Built) -> None:
    memory.run("test_instance", memory.weights, memory.other_weights)


def test_instances_without_races(races: Built) -> None:
    races.run("test_instance", races.weights, races.other_weights)


def test_threads_without_races(races: Built) -> None:
    races.run("test_threads")


def test_nothing_is_allocated_after_creation(plain: Built) -> None:
    """Without a sanitizer, since those bring a malloc of their own."""
    plain.run("test_allocation", plain.weights)


def test_missing_memory_and_threads(plain: Built) -> None:
    plain.run("test_limits", plain.weights)


# As Linux calls them = as LLVM does.
CPU_FLAGS = {
    "x86_64": "avx2=avx2 fma=fma f16c=f16c avx_vnni=avxvnni avx512f=avx512f avx512dq=avx512dq "
    "avx512bw=avx512bw avx512vl=avx512vl avx512_vnni=avx512vnni",
    "aarch64": "asimd=neon asimdhp=fullfp16 asimddp=dotprod i8mm=i8mm bf16=bf16 sve=sve",
}


@pytest.mark.skipif(platform.machine() not in CPU_FLAGS, reason="nothing to ask this CPU for")
def test_features_of_the_cpu_are_those_that_linux_lists(memory: Built) -> None:
    memory.run("test_cpu", *CPU_FLAGS[platform.machine()].split())


def test_formatter_without_libc(memory: Built) -> None:
    """format.c as it is for WebAssembly, in place of the library's."""
    objects = [path for path in memory.objects if path.stem != "format"]
    own = compile_objects(
        ["gcc"],
        memory.folder / "format",
        [path for path in library_sources() if path.stem == "format"],
        "-DEDGEC_TEST_FORMAT",
        *memory.flags,
    )
    other = Built(memory.folder, objects + own, memory.flags, memory.weights, memory.other_weights)
    other.run("test_format", flags=("-Wno-format",))
