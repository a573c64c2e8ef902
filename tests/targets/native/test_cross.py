"""Libraries for other machines, executed: aarch64 under qemu, WebAssembly in Node."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import edgec
from edgec.errors import FormatError, UnsupportedError, ValidationError
from edgec.ir import Program
from edgec.targets.native import Native
from edgec.targets.native.emulated import Emulated, undefined_symbols
from edgec.targets.native.run import NativeExecutable
from edgec.targets.native.toolchain import host_triple
from edgec.validate import fidelity, make_cases
from tests.runtime.tools import need, need_zig
from tests.targets.native.small import LONGEST, TOKENS, close, emit, small

BOTH = ("shared", "source")
ARM, WASM = "aarch64-linux-gnu", "wasm32-unknown-unknown"
TOOLS = {ARM: ("qemu-aarch64", "qemu-user"), WASM: ("node", "nodejs")}

foreign = pytest.mark.parametrize("triple", [ARM, WASM])

# Slow: zig compiles a C library for each platform when it is first used.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(host_triple() == ARM, reason="aarch64 is no other machine here"),
]


@pytest.fixture(scope="module")
def program() -> Program:
    return small()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, program: Program) -> Path:
    need_zig()
    place = tmp_path_factory.mktemp("model")
    emit(program, place, (ARM, WASM))
    return place


@foreign
def test_foreign_libraries_compute_the_same(triple: str, folder: Path, program: Program) -> None:
    need(*TOOLS[triple])
    executable = NativeExecutable(folder, triple=triple)
    for length in (1, 5, LONGEST):
        ids = torch.randint(TOKENS, (length,))
        (got,) = executable.run("main", [ids])
        assert close(got, program.run(ids))


@foreign
def test_errors_of_foreign_libraries_have_the_text_of_the_runtime(
    triple: str, folder: Path
) -> None:
    """And the next call is answered."""
    need(*TOOLS[triple])
    executable = NativeExecutable(folder, triple=triple)
    with pytest.raises(ValidationError, match="got 24 at 1; need 0 <= id < 24"):
        executable.run("main", [torch.tensor([0, 24])])
    assert len(executable.run("main", [torch.tensor([0])])) == 1


@foreign
def test_foreign_libraries_refuse_other_weights(triple: str, folder: Path, tmp_path: Path) -> None:
    need(*TOOLS[triple])
    emit(small(1), tmp_path, (ARM, WASM))
    (tmp_path / "small.weights").write_bytes((folder / "small.weights").read_bytes())
    with pytest.raises(FormatError, match="EDGEC_OTHER_MODEL"):
        NativeExecutable(tmp_path, triple=triple).run("main", [torch.tensor([0])])


def test_the_first_that_can_be_executed_is_taken(folder: Path) -> None:
    need(*TOOLS[ARM])
    executable = Native.load(folder)
    assert isinstance(executable, NativeExecutable)
    assert executable.triple == ARM


@foreign
def test_a_missing_emulator_is_told(
    triple: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *given, **options: None)
    with pytest.raises(UnsupportedError, match=f"need {TOOLS[triple][0]} on PATH .*; install it"):
        NativeExecutable(folder, triple=triple)


def test_a_triple_that_is_not_there_is_told(folder: Path) -> None:
    with pytest.raises(
        UnsupportedError, match=f"libraries for {ARM}, {WASM}; need {host_triple()}"
    ):
        NativeExecutable(folder, triple=host_triple())


def test_a_recipe_names_its_triples(tmp_path: Path) -> None:
    """All libraries are in the release; it verifies."""
    need_zig()
    options = {"triples": (host_triple(), ARM, WASM)}
    release = edgec.compile(small(), target="native", options=options, out=tmp_path / "out")
    names = {f.name for f in release.manifest.files if f.kind == "model"}
    assert {f"model/lib/{ARM}/libmodel.so", f"model/lib/{WASM}/model.wasm"} <= names
    assert {"model/model.h", "model/model.mjs", "model/model.weights"} <= names
    checked = release.manifest.fidelity.checked
    assert all(o.name.startswith("output") for c in checked for o in c.outputs)
    assert release.manifest.notes == ()
    assert release.verify().passed


def test_every_platform_is_checked_and_the_worst_is_told(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library for aarch64 that is wrong is found, though this machine's own is right."""
    need(*TOOLS[ARM])
    need_zig()
    emit(program, tmp_path, (host_triple(), ARM))
    cases = make_cases(program)
    assert fidelity(program, Native.load(tmp_path), cases).passed
    run = Emulated.run
    monkeypatch.setattr(
        Emulated, "run", lambda *given: [np.multiply(y, 1.5, dtype=y.dtype) for y in run(*given)]
    )
    found = fidelity(program, Native.load(tmp_path), cases)
    assert not found.passed
    (output,) = Native.load(tmp_path).functions["main"].outputs
    wrong = {o.name for c in found.checked for o in c.outputs if not o.passed}
    assert wrong == {f"{output.name} ({ARM})"}


def test_a_platform_that_is_not_executed_is_told(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_zig()
    which = shutil.which
    hidden = lambda name, **given: None if "qemu" in name else which(name, **given)  # noqa: E731
    monkeypatch.setattr("shutil.which", hidden)
    made = emit(program, tmp_path, (host_triple(), ARM, "aarch64-apple-ios"), outputs=BOTH)
    assert made.notes == (
        f"{ARM}: written, not executed: no qemu-aarch64 on PATH (Debian's qemu-user) here",
        "aarch64-apple-ios: written, not executed: only its own devices can",
    )
    executable = Native.load(tmp_path)
    assert isinstance(executable, NativeExecutable)
    assert executable.others == {}


@pytest.mark.parametrize("cut", [0, 4, 40, 63, 200])
def test_damaged_libraries_are_no_surprise(cut: int, folder: Path) -> None:
    content = (folder / f"lib/{ARM}/libsmall.so").read_bytes()
    assert "calloc" in undefined_symbols(content, "whole")
    with pytest.raises(FormatError, match="need a shared library of edgec"):
        undefined_symbols(content[:cut], "cut")
