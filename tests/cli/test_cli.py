"""The command line: exit codes, one-line errors, what is printed."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file

import edgec
from edgec.cli import main
from tests.programs import decoder

ROOT = Path(__file__).resolve().parents[2]
MODEL = "tests.example_models:scores"
RECIPE = f"""
model = "{MODEL}"
[build.plain]
target = "reference"
[build.small]
target = "reference"
passes = ["quantize-weights{{bits=8}}"]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT of a recipe with two variants."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "recipe.toml").write_text(RECIPE)
    assert main(["build", str(folder / "recipe.toml"), "--out", str(folder / "out"), "-q"]) == 0
    return folder / "out"


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What stands on standard error, which must be one error and no traceback."""
    captured = capsys.readouterr().err
    errors = [line for line in captured.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, captured
    assert "Traceback" not in captured
    return errors[0]


# ------------------------------------------------------------------ build
def test_a_recipe_prints_one_table(tmp_path, capsys) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    code = main(["build", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert code == 0
    for text in ("plain", "small", "ACCEPT", "1.000", "default small"):
        assert text in captured.out
    assert "small: passes quantize-weights" in captured.err


def test_a_model_is_built_with_options(tmp_path, capsys) -> None:
    out = tmp_path / "out"
    arguments = ["build", MODEL, "--out", str(out), "--target", "reference"]
    arguments += ["--pass", "quantize-weights{bits=8}", "--option", "bloat=5", "--dim", "batch=7"]
    assert main(arguments) == 0
    assert "ACCEPT" in capsys.readouterr().out
    manifest = edgec.Release.load(out).manifest
    assert manifest.options == {"spoil": "", "bloat": 5}
    assert {c.label: c.dims for c in manifest.fidelity.checked}["typical"] == {"batch": 7}
    assert "example" in {c.label for c in manifest.fidelity.checked}


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--max-ratio", "0.01"], 12, "INFEASIBLE"),
        (["--max-drop", "0", "--pass", "quantize-weights{bits=2}"], 10, "REGRESSION"),
        (["--option", "bloat=90000", "--pass", "quantize-weights"], 13, "GREW"),
    ],
)
def test_verdicts_have_exit_codes_of_their_own(tmp_path, capsys, options, code, text) -> None:
    arguments = ["build", MODEL, "-q", "--out", str(tmp_path / "out"), "--target", "reference"]
    assert main(arguments + options) == code
    assert text in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "out"), "-q"]) == code


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["build"], "Missing argument"),
        (["buidl"], "Did you mean 'build'"),
        (["build", MODEL, "--bits", "4"], "No such option: --bits"),
        (["build", MODEL, "--max-drop", "much"], "--max-drop"),
        (["build", MODEL, "--pass", "quantize-weight"], "did you mean quantize-weights?"),
        (["build", MODEL, "--pass", "quantize-weights{bits=99}"], "bits"),
        (["build", MODEL, "--target", "onnxx"], "did you mean onnx?"),
        (["build", MODEL, "--option", "bloat"], "need NAME=VALUE"),
        (["build", MODEL, "--dim", "batch=two"], "need a whole number"),
        (["build", MODEL, "--metric", "belu"], "did you mean bleu?"),
        (["build", "tests.example_models:branching"], "error: ["),
        (["build", "missing.toml"], "No such file"),
        (["build", "hf:missing/folder"], "missing/folder"),
        (["build", "README.md"], "need hf:DIRECTORY or package.module:function"),
        (["verify", "missing"], "need a release folder"),
        (["verify", "tests"], "need a release folder"),
        (["inspect", "README.md"], "which no target can read"),
        (["inspect", "missing"], "nothing there"),
        (["translate", "missing", "x"], "need a release folder"),
        (["run", "missing"], "nothing there"),
        (["list", "everything"], "everything"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, capsys, arguments, text) -> None:
    if arguments[0] == "build":
        arguments = [*arguments, "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert text in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_options_beside_a_recipe_are_refused(built, capsys) -> None:
    recipe = built.parent / "recipe.toml"
    assert main(["build", str(recipe), "--pass", "cast-weights", "--max-drop", "1"]) == 2
    assert "--pass, --max-drop beside a recipe" in one_line(capsys)


def test_debug_shows_the_traceback_wherever_it_stands(capsys) -> None:
    for arguments in (["--debug", "verify", "missing"], ["verify", "missing", "--debug"]):
        assert main(arguments) == 2
        assert "Traceback" in capsys.readouterr().err


def test_an_error_of_our_own_says_so(monkeypatch, capsys) -> None:
    def broken(*arguments: object) -> None:
        raise KeyError("something")

    monkeypatch.setattr("edgec.release.Release.load", broken)
    assert main(["verify", "x"]) == 70
    assert "[internal] KeyError: 'something'; run again with --debug" in one_line(capsys)


def test_an_interrupt_has_its_own_code(monkeypatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgec.release.Release.load", interrupted)
    assert main(["verify", "x"]) == 130


def test_version_and_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgec", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"edgec {edgec.__version__}\n")


# ------------------------------------------------------------------ verify, inspect, list
def test_verify_prints_each_check_of_each_variant(built, capsys) -> None:
    assert main(["verify", str(built), "-q"]) == 0
    out = capsys.readouterr().out
    for name in ("files", "load", "fidelity", "quality", "sizes", "verdict"):
        assert len(re.findall(rf"^  ok +{name} ", out, re.M)) == 2


def test_verify_fails_for_a_file_that_was_changed(built, tmp_path, capsys) -> None:
    import shutil

    shutil.copytree(built, tmp_path / "copy")
    path = tmp_path / "copy" / "small" / "model" / "constants.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert main(["verify", str(tmp_path / "copy"), "-q"]) == 11
    assert "constants.safetensors was changed" in capsys.readouterr().out


def test_inspect_shows_functions_bytes_and_tensors(built, capsys) -> None:
    assert main(["inspect", str(built)]) == 0
    out = capsys.readouterr().out
    for text in ("f32[batch, 16]", "1 .. 32", "bytes by encoding", "affine(", "first.weight"):
        assert text in out


def test_inspect_shows_what_a_target_wrote_without_a_release(built, capsys) -> None:
    assert main(["inspect", str(built / "small" / "model")]) == 0
    out = capsys.readouterr().out
    assert "reference" in out and "f32[batch, 16]" in out


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("passes", ["quantize-weights", "bits=8", "fold-constants"]),
        ("targets", ["onnx", "reference"]),
        ("ops", ["attention", "layer_norm"]),
        ("models", ["translate"]),
        ("metrics", ["bleu", "cosine"]),
    ],
)
def test_list(kind, texts, capsys) -> None:
    assert main(["list", kind]) == 0
    out = capsys.readouterr().out
    assert all(text in out for text in texts)


def test_bench_measures_every_variant(built, capsys) -> None:
    assert main(["bench", str(built), "--runs", "3"]) == 0
    out = capsys.readouterr().out
    assert "plain" in out and "small" in out and " ms" in out


# ------------------------------------------------------------------ run
def test_run_takes_arrays_and_numbers(built, tmp_path, capsys) -> None:
    x = numpy.random.default_rng(0).normal(size=(2, 16)).astype("float32")
    numpy.save(tmp_path / "x.npy", x)
    save = tmp_path / "y.safetensors"
    arguments = ["run", str(built), "--input", f"x={tmp_path / 'x.npy'}", "--save", str(save)]
    assert main(arguments) == 0
    (got,) = load_file(save).values()
    release = edgec.Release.load(built)
    assert torch.equal(got, release.run(torch.from_numpy(x)))
    assert main(["run", str(built), "--input", f"x=[{[0.5] * 16}]"]) == 0
    assert "float32[1, 5]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([], "missing --input x (f32[batch, 16])"),
        (["y=[1]"], "unknown --input y"),
        (["x=[[1, 2]]"], "need f32[batch, 16]"),
        (["x=[[1, 2], [3]]"], "FILE.npy or numbers"),
        (["x=words"], "FILE.npy or numbers"),
        (["x=missing.npy"], "No such file"),
        (["x=README.md.npy"], "No such file"),
        (["text=hello"], "a tokenizer"),
        (["x"], "need NAME=VALUE"),
        (["x=" + str([[0.0] * 16] * 33)], "batch = 33, need 1 <= batch <= 32"),
    ],
)
def test_inputs_that_do_not_fit(built, capsys, inputs, text) -> None:
    arguments = ["run", str(built)]
    for given in inputs:
        arguments += ["--input", given]
    assert main(arguments) == 2
    assert text in one_line(capsys)


def test_run_asks_for_a_function_of_several(tmp_path, capsys) -> None:
    edgec.compile(decoder(), [], "reference", tmp_path / "r")
    assert main(["run", str(tmp_path / "r")]) == 2
    assert "--function with one of encode, step" in one_line(capsys)
    arguments = ["run", str(tmp_path / "r"), "--function", "encode", "--input", "ids=[[1, 2]]"]
    assert main(arguments) == 0


def test_a_pickle_is_not_opened(built, tmp_path, capsys) -> None:
    numpy.save(tmp_path / "x.npy", numpy.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert main(["run", str(built), "--input", f"x={tmp_path / 'x.npy'}"]) == 2
    assert "pickle" in one_line(capsys).lower()


def test_translate_needs_a_translator(built, capsys, monkeypatch) -> None:
    assert main(["translate", str(built), "hello"]) == 2
    assert "generation settings" in one_line(capsys)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert main(["translate", str(built)]) == 2
    assert "no text" in one_line(capsys)
