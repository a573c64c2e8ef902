"""`edgec run`: what is given, what is printed, and what of both is refused."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

import edgec
from edgec.cli import main
from tests.cli.harness import one_line
from tests.programs import decoder, embedder

ROW = str([[0.5] * 16])


def run(release: Path, *inputs: str, options: tuple[str, ...] = ()) -> int:
    arguments = [part for text in inputs for part in ("--input", text)]
    return main(["run", str(release), *arguments, *options])


@pytest.fixture(scope="module", params=["reference", "onnx"])
def table(request, tmp_path_factory, reference_target) -> Path:
    """A release that reads a table of 42 rows at ids + 2, by each kind of executor."""
    out = tmp_path_factory.mktemp("run") / "table"
    edgec.compile(embedder(), [], request.param, out)
    return out


def test_run_takes_arrays_and_numbers(built, tmp_path, capsys) -> None:
    x = numpy.random.default_rng(0).normal(size=(2, 16)).astype("float32")
    numpy.save(tmp_path / "x.npy", x)
    numpy.save(tmp_path / "big_endian.npy", x.astype(">f8"))
    save_file({"of_mine": torch.from_numpy(x)}, tmp_path / "x.safetensors")
    release = edgec.Release.load(built)
    for given in ("x.npy", "big_endian.npy", "x.safetensors:of_mine"):
        save = tmp_path / "y.safetensors"
        assert run(built, f"x={tmp_path / given}", options=("--save", str(save))) == 0
        (got,) = load_file(save).values()
        assert torch.equal(got, release.run(torch.from_numpy(x)))
    assert run(built, f"x={ROW}") == 0
    assert "float32[1, 5]" in capsys.readouterr().out


def test_of_a_great_tensor_a_summary_is_printed(built, tmp_path, capsys) -> None:
    x = torch.zeros(32, 16)
    save_file({"x": x}, tmp_path / "x.safetensors")
    assert run(built, f"x={tmp_path / 'x.safetensors'}") == 0
    out = capsys.readouterr().out
    want = edgec.Release.load(built).run(x)
    assert "float32[32, 5]  min " in out and f"mean {float(want.mean()):.4g}" in out
    assert f"first {float(want[0, 0]):.4g}, " in out
    assert "--save FILE.safetensors" in out and len(out.splitlines()) <= 3


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([], "[run] missing --input x (f32[batch, 16]); `edgec inspect` shows"),
        ([f"x={ROW}", "y=[1]"], "unknown --input y; need --input x"),
        ([f"x={ROW}", f"x={ROW}"], "[--input] got x more than once"),
        (["x=[[1, 2]]"], "need f32[batch, 16]"),
        (["x=[[1, 2], [3]]"], "FILE.npy or numbers"),
        (["x=words"], "FILE.npy or numbers"),
        (["x=" + "[" * 9999], "FILE.npy or numbers"),
        (["x=missing.npy"], "missing.npy: No such file or directory; need a .npy file"),
        (["x=missing.safetensors"], "[missing.safetensors] got No such file or directory"),
        (["text=hello"], "a tokenizer"),
        (["x"], "need NAME=VALUE"),
        (["x=" + str([[0.0] * 16] * 33)], "batch = 33, need 1 <= batch <= 32"),
    ],
)
def test_inputs_that_do_not_fit(built, capsys, inputs, text) -> None:
    assert run(built, *inputs) == 2
    line = one_line(capsys)
    assert text in line
    assert "->" not in line  # a signature, which may have a hundred inputs


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'shape", id="truncated"),
        pytest.param(b"PK\x03\x04", id="archive"),
        pytest.param(b"\x80\x04N.", id="pickle"),
    ],
)
def test_damaged_arrays_are_told_in_our_words(built, tmp_path, capsys, content) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    assert run(built, f"x={tmp_path / 'x.npy'}") == 2
    line = one_line(capsys)
    assert "[--input x] got x.npy, which is damaged or holds no numbers" in line
    assert "numpy.save" in line and "pickle" not in line


@pytest.mark.parametrize(
    "array",
    [
        numpy.array([{"a": 1}], dtype=object),
        numpy.array(["text"]),
        numpy.ones((1, 16), dtype="complex64"),
        numpy.zeros(3, dtype=[("a", "f4")]),
    ],
)
def test_arrays_of_something_else_are_not_opened(built, tmp_path, capsys, array) -> None:
    numpy.save(tmp_path / "x.npy", array, allow_pickle=True)
    assert run(built, f"x={tmp_path / 'x.npy'}") == 2
    assert "holds no numbers" in one_line(capsys)


def test_integers_are_not_changed_to_fit(table, tmp_path, capsys) -> None:
    numpy.save(tmp_path / "ids.npy", numpy.array([[1.5, 2.0]]))
    assert run(table, f"ids={tmp_path / 'ids.npy'}", "mask=[[1, 1]]") == 2
    assert "[--input ids] got float64 values that i64[batch, length] cannot hold" in one_line(
        capsys
    )
    assert run(table, "ids=[[1, 99999999999999999999]]", "mask=[[1, 1]]") == 2
    assert "[--input ids]" in one_line(capsys)


def test_an_index_that_no_table_has_is_told_with_the_inputs(table, capsys) -> None:
    assert run(table, "ids=[[1, 39]]", "mask=[[1, 1]]") == 0
    capsys.readouterr()
    assert run(table, "ids=[[1, 4000]]", "mask=[[1, 1]]") == 2
    line = one_line(capsys)
    assert "[run main] got ids of 1 to 4000, mask of 1 to 1: " in line
    assert "out of" in line and "status" not in line.lower()


def test_run_asks_for_a_function_of_several(tmp_path, capsys) -> None:
    edgec.compile(decoder(), [], "reference", tmp_path / "r")
    assert main(["run", str(tmp_path / "r")]) == 2
    assert "--function with one of encode, step" in one_line(capsys)
    assert run(tmp_path / "r", "ids=[[1, 2]]", options=("--function", "encode")) == 0


@pytest.mark.parametrize("place", ["missing/y.safetensors", "."])
def test_a_place_to_save_that_cannot_be_written(built, tmp_path, capsys, place) -> None:
    assert run(built, f"x={ROW}", options=("--save", str(tmp_path / place))) == 2
    assert "[--save] got " in one_line(capsys)
