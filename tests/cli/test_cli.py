"""The command line: exit codes, one-line errors, what is printed."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import edgec
from edgec.cli import main
from edgec.errors import FormatError
from tests.cli.harness import MODEL, RECIPE, ROOT, one_line


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
    assert manifest.options == {"spoil": "", "bloat": 5, "blind": False, "batch": 0}
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
        (["two\nlines"], "No such command"),
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
        arguments = [*arguments, "-q", "--out", str(tmp_path / "out")]
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
    line = "error: [internal] KeyError: 'something'; run again with --debug\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(13, "Permission denied", "/a/file"), "[/a/file] got Permission denied"),
        (SystemExit(0), "[edgec] got SystemExit(0) from code that edgec called"),
        (FormatError("file", "a text\n of two lines", "one"), "[file] got a text of two lines;"),
    ],
)
def test_errors_of_system_and_user_are_no_errors_of_our_own(
    monkeypatch, capsys, error, text
) -> None:
    def broken(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("edgec.release.Release.load", broken)
    assert main(["verify", "x"]) == 2
    assert text in one_line(capsys)


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
        ("targets", ["onnx", "reference", "ONNX files", "C library"]),
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


def test_a_reader_that_goes_away_is_no_mistake() -> None:
    """As in `edgec list ops | head -1`."""
    command = [sys.executable, "-m", "edgec", "list", "ops"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
