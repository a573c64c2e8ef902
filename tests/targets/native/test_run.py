"""Opening and executing on this machine: inputs that do not fit, damaged and foreign files."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
import torch

from edgec.errors import FormatError, UnsupportedError, ValidationError
from edgec.interpreter import Interpreter
from edgec.ir import Builder, Program, Range, TensorType
from edgec.runtime.container import Kind
from edgec.runtime.container_reader import read_container
from edgec.runtime.container_writer import write_container
from edgec.target import Executable
from edgec.targets.native import Native
from edgec.targets.native.files import ABOUT
from edgec.targets.native.toolchain import host_triple
from tests.targets.native.small import LONGEST, TOKENS, close, emit, small


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    emit(small(), folder)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(built, tmp_path / "model")
    return tmp_path / "model"


IDS = torch.tensor([3, 0, TOKENS - 1])


def test_it_computes(built: Path) -> None:
    (got,), (want,) = Native.load(built).run("main", [IDS]), Interpreter(small()).run([IDS])
    assert close(got, want)


def test_signatures_come_from_the_files(built: Path) -> None:
    (signature,) = Native.load(built).functions.values()
    assert [(v.name, str(v.type)) for v in signature.inputs] == [("ids", "i64[length]")]
    assert signature.dims["length"] == Range(1, LONGEST)


# ------------------------------------------------------------------ inputs
@pytest.mark.parametrize(
    ("function", "inputs", "message"),
    [
        ("other", [IDS], "got other; need one of main"),
        ("main", [], "got 0 inputs; need 1: ids"),
        ("main", [IDS.float()], "ids: float32, need i64"),
        ("main", [IDS[None]], r"ids: shape \[1, 3\], need i64\[length\]"),
        ("main", [torch.zeros(LONGEST + 1).long()], "length = 10, need 1 <= length <= 9"),
        ("main", [torch.zeros(0).long()], "length = 0, need 1 <= length <= 9"),
        ("main", [torch.tensor([0, TOKENS])], "got 24 at 1; need 0 <= id < 24"),
        ("main", [torch.tensor([-1])], "got -1 at 0; need 0 <= id < 24"),
        ("main", [torch.tensor([2**62])], "got 4611686018427387904 at 0"),
    ],
)
def test_inputs_that_do_not_fit(
    function: str, inputs: list[torch.Tensor], message: str, built: Path
) -> None:
    executable = Native.load(built)
    with pytest.raises(ValidationError, match=message) as caught:
        executable.run(function, inputs)
    assert "\n" not in str(caught.value)
    assert len(executable.run("main", [IDS])) == 1, "an error leaves the model usable"


def test_inputs_need_not_be_contiguous(built: Path) -> None:
    executable = Native.load(built)
    wide = torch.zeros(3, 2, dtype=torch.int64)
    wide[:, 0] = IDS
    assert torch.equal(executable.run("main", [wide[:, 0]])[0], executable.run("main", [IDS])[0])


def test_results_are_the_callers_own(built: Path) -> None:
    executable = Native.load(built)
    (first,) = executable.run("main", [IDS])
    kept = first.clone()
    executable.run("main", [torch.tensor([7])])
    assert torch.equal(first, kept)


def test_values_are_the_outputs(built: Path) -> None:
    executable = Native.load(built)
    (name,) = (v.name for v in executable.functions["main"].outputs)
    assert list(executable.values("main", [IDS])) == [name]
    with pytest.raises(ValidationError, match=f"got gelu; need one of {name}"):
        executable.values("main", [IDS], ["gelu"])


def test_more_threads_compute_the_same(built: Path) -> None:
    (want,) = Native.load(built).run("main", [IDS])
    assert torch.equal(Native.load(built, threads=3).run("main", [IDS])[0], want)


def test_two_threads_on_one_instance(built: Path) -> None:
    """Each call is right, or says that the instance is in use."""
    executable = Native.load(built)
    (want,) = executable.run("main", [IDS])
    wrong: list[object] = []

    def work() -> None:
        for _ in range(300):
            try:
                (got,) = executable.run("main", [IDS])
                if not torch.equal(got, want):
                    wrong.append(got)
            except ValidationError as error:
                if "EDGEC_BUSY" not in str(error):
                    wrong.append(error)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


# ------------------------------------------------------------------ files
def fails(folder: Path, kind: type[Exception] = FormatError) -> str:
    with pytest.raises(kind) as caught:
        Native.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "0 files called *.weights" in fails(tmp_path)


def test_two_weights(folder: Path) -> None:
    shutil.copyfile(folder / "small.weights", folder / "other.weights")
    assert "2 files called *.weights" in fails(folder)


def test_a_folder_without_a_library(folder: Path) -> None:
    shutil.rmtree(folder / "lib")
    assert "libraries for no platform" in fails(folder, UnsupportedError)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_weights(share: float, folder: Path) -> None:
    path = folder / "small.weights"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "small.weights" in fails(folder)


def test_any_flipped_byte_of_the_weights_is_noticed(folder: Path) -> None:
    path = folder / "small.weights"
    content = bytearray(path.read_bytes())
    for position in range(0, len(content), 97):
        flipped = bytearray(content)
        flipped[position] ^= 0x10
        path.write_bytes(flipped)
        fails(folder)


def test_weights_of_another_model(folder: Path, tmp_path: Path) -> None:
    """Of the same program with other numbers: nothing but a hash tells them apart."""
    (tmp_path / "other").mkdir()
    emit(small(1), tmp_path / "other")
    shutil.copyfile(tmp_path / "other/small.weights", folder / "small.weights")
    assert "EDGEC_OTHER_MODEL" in fails(folder)


@pytest.mark.parametrize("about", [b"", b"[", b"[]", b"{}", b'{"functions": 3}', b"\xff"])
def test_weights_without_a_proper_signature(about: bytes, folder: Path) -> None:
    """Files that are whole, but that no build has written."""
    path = folder / "small.weights"
    container = read_container(path)
    entries = [e for n, e in container.entries.items() if n != ABOUT]
    if about:
        entries.append(
            type(entries[0]).of(
                ABOUT, torch.frombuffer(bytearray(about), dtype=torch.uint8).numpy()
            )
        )
    write_container(path, Kind.WEIGHTS, entries, "small", container.producer)
    assert ABOUT in fails(folder)


@pytest.mark.parametrize("content", [b"", b"no library", None])
def test_a_library_that_is_none(content: bytes | None, folder: Path) -> None:
    path = folder / "lib" / host_triple() / "libsmall.so"
    path.write_bytes(path.read_bytes()[:3000] if content is None else content)
    assert "libsmall.so" in fails(folder)


def test_a_model_in_place_of_another_is_the_one_that_is_opened(tmp_path: Path) -> None:
    """The dynamic linker knows libraries by their paths: one that was replaced is not the old."""
    place = tmp_path / "model"
    for power in (2.0, 3.0):
        place.mkdir()
        target, program = Native(), scaled(power)
        target.emit(target.legalize(program), place)
        opened = Native.load(place)
        (got,) = opened.run("main", [torch.ones(3)])
        assert got.tolist() == [power] * 3
        shutil.rmtree(place)


def scaled(factor: float) -> Program:
    """The factor is in the code, not in the weights, which are the same for all factors."""
    b = Builder.new("main", [("x", TensorType.parse("f32[3]"))])
    graph = b.finish(
        [b.mul(b.input("x"), b.full(shape=(), value=factor, dtype=b.input("x").type.dtype))]
    )
    return Program({"main": graph}, graph.constants).verify()


def test_a_model_can_be_opened_twice(built: Path) -> None:
    """And the first is usable when the second is gone."""
    first = Native.load(built)
    second: Executable | None = Native.load(built)
    assert second is not None
    (want,) = second.run("main", [IDS])
    second = None
    assert torch.equal(first.run("main", [IDS])[0], want)
