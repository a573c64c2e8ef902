"""What libraries are built with, and that equal programs give equal files."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest
import torch

from edgec.errors import BuildError, UnsupportedError
from edgec.runtime.model import Model
from edgec.targets.native.run import NativeExecutable
from edgec.targets.native.toolchain import Toolchain, host_triple, toolchain
from tests.runtime.tools import need, need_zig
from tests.targets.native.small import close, emit, small

ARM, WASM = "aarch64-linux-gnu", "wasm32-unknown-unknown"
EVERYTHING = ("shared", "static", "cmake", "source")


def everything(folder: Path) -> dict[str, bytes]:
    """All files of the program for three platforms, by name."""
    need_zig()
    folder.mkdir(parents=True)
    files = emit(small(), folder, (host_triple(), ARM, WASM), outputs=EVERYTHING).files
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert there == set(files)
    return {name: (folder / name).read_bytes() for name in files}


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return everything(tmp_path_factory.mktemp("files") / "model")


@pytest.mark.slow
def test_equal_programs_give_equal_files(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere, and with nothing that was compiled before."""
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "cache"))
    again = everything(tmp_path / "another" / "place")
    assert contents.keys() == again.keys()
    assert [n for n in contents if contents[n] != again[n]] == []


@pytest.mark.slow
def test_files_hold_no_path_of_the_machine(contents: dict[str, bytes]) -> None:
    root = Path(__file__).resolve().parents[3]
    told = [str(root), sys.prefix, str(Path.home() / ".cache"), "pytest-of-"]
    found = {(n, t) for n, data in contents.items() for t in told if t.encode() in data}
    assert found == set()


@pytest.mark.slow
def test_one_source_serves_all_platforms(contents: dict[str, bytes]) -> None:
    """It is readable: the IR line stands above what it became."""
    (name,) = [n for n in contents if n == "src/small.c"]
    text = contents[name].decode()
    for guard in ("__x86_64__", "__aarch64__", "__wasm__"):
        assert f"defined({guard})" in text
    assert "= gelu(" in text and "= linear(" in text
    assert "edgec_status small_main(edgec_instance *self, int64_t n_length," in text


@pytest.mark.slow
def test_without_a_system_compiler_zig_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_zig()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CC", raising=False)
    assert "ziglang" in toolchain(host_triple()).command[0]
    (tmp_path / "model").mkdir()
    program = small()
    emit(program, tmp_path / "model")
    (got,) = NativeExecutable(tmp_path / "model").run("main", [torch.arange(4)])
    assert close(got, program.run(torch.arange(4)))


@pytest.mark.parametrize("triple", [host_triple(), ARM])
def test_without_any_compiler_it_is_told_what_to_install(
    triple: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = rf"no compiler for {triple}; need .*the package ziglang; pip install 'edgec\[cross\]'"
    with pytest.raises(UnsupportedError, match=message):
        toolchain(triple)


def test_cc_names_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For this machine only."""
    need("ar", "binutils")
    compiler = tmp_path / "my-cc"
    compiler.write_text("#!/bin/sh\necho my compiler 1.0\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    found = toolchain(host_triple())
    assert (found.command, found.version) == ((str(compiler),), "my compiler 1.0")


def test_what_the_compiler_says_is_told(tmp_path: Path) -> None:
    source = tmp_path / "wrong.c"
    source.write_text("int main(void) { return nothing; }\n")
    found = Toolchain(host_triple(), (need("cc", "gcc"),), (), "")
    with pytest.raises(BuildError, match=r"(?s)wrong\.c:1.*nothing"):
        found.compile(source, [])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="has several instruction sets")
def test_each_instruction_set_computes_the_same(tmp_path: Path) -> None:
    program = small()
    emit(program, tmp_path)
    ids = torch.arange(6)
    (library,) = tmp_path.rglob("*.so")
    with Model(library, tmp_path / "small.weights") as model:
        best, variants = model.variant, model.description.variants
    assert variants == ("x86_64_avx512", "x86_64_avx2")
    for variant in variants[variants.index(best) :]:
        with Model(library, tmp_path / "small.weights", variant=variant) as model:
            (got,) = model.run("main", {"length": 6}, [ids.numpy()])
        assert close(torch.from_numpy(got), program.run(ids))
