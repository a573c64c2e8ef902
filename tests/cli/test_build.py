"""`edgec build` of a model: what is checked before anything is loaded, and limits of zero."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.cli import main
from tests.cli.harness import MODEL, one_line

UNLOADABLE = "no.such.module:f"  # whoever loads it finds out


def build(tmp_path: Path, *options: str, model: str = MODEL) -> int:
    return main(["build", model, "-q", "--out", str(tmp_path / "out"), *options])


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--max-ratio", "0"], 12, "allowed 0"),
        (["--max-size", "0"], 12, "allowed 0 B"),
        (["--max-drop", "0", "--pass", "quantize-weights{bits=2}"], 10, "allowed 0"),
    ],
)
def test_a_limit_of_zero_is_a_limit(tmp_path, capsys, options, code, text) -> None:
    assert build(tmp_path, "--target", "reference", *options) == code
    assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value"),
    [("--max-drop", "0"), ("--max-ratio", "0"), ("--max-size", "0"), ("--target", "reference")],
)
def test_any_option_beside_a_recipe_is_refused(built, tmp_path, capsys, option, value) -> None:
    arguments = ["build", str(built.parent / "recipe.toml"), "-q", "--out", str(tmp_path / "out")]
    assert main([*arguments, option, value]) == 2
    assert f"{option} beside a recipe" in one_line(capsys)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--target", "onnxx"], "did you mean onnx?"),
        (["--target", "reference", "--option", "blot=5"], "did you mean bloat?"),
        (["--target", "reference", "--option", "bloat=much"], "bloat"),
        (["--pass", "quantise-weights"], "did you mean quantize-weights?"),
        (["--pass", "quantize-weights{bits=99}"], "bits"),
        (["--pass", "gptq{bits=4}"], "add --calibration FILE"),
        (["--metric", "belu"], "did you mean bleu?"),
        (["--max-size", "6 apples"], "need a size such as 6MB"),
        (["--max-size", "9" * 400], "need a size such as 6MB"),
        (["--max-drop", "nan"], "[--max-drop] got nan; need a number that is not negative"),
        (["--max-drop", "-1"], "[--max-drop] got -1"),
        (["--max-ratio", "inf"], "[--max-ratio] got inf"),
        (["--max-ratio", "-0.5"], "[--max-ratio] got -0.5"),
        (["--data", "missing.tsv"], "need a file that exists"),
        (["--data", "README.md"], "need .tsv, .txt or .safetensors"),
        (["--dim", "batch=0"], "need a whole number"),
        (["--dim", "batch=2", "--dim", "batch=3"], "batch more than once"),
    ],
)
def test_options_are_checked_before_the_model_is_loaded(tmp_path, capsys, options, text) -> None:
    assert build(tmp_path, *options, model=UNLOADABLE) == 2
    assert text in one_line(capsys)


@pytest.mark.parametrize("place", ["file/out", "file", "name" * 100])
def test_a_place_that_cannot_be_written_is_told_before_the_model_is_loaded(
    tmp_path, capsys, place
) -> None:
    (tmp_path / "file").write_text("kept")
    assert main(["build", UNLOADABLE, "-q", "--out", str(tmp_path / place)]) == 2
    assert place.split("/")[-1][:100] in one_line(capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("function", ["quitting", "quitting_in_forward"])
def test_a_model_that_ends_the_process_is_an_error(tmp_path, capsys, function) -> None:
    assert build(tmp_path, model=f"tests.example_models:{function}") == 2
    assert "SystemExit" in one_line(capsys)


def test_a_module_that_ends_the_process_is_an_error(tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / "script_of_mine.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert build(tmp_path, model="script_of_mine:model") == 2
    assert "importing script_of_mine raised SystemExit" in one_line(capsys)
    assert build(tmp_path, "--metric", "script_of_mine:metric") == 2
    assert "importing script_of_mine raised SystemExit" in one_line(capsys)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("raise ZeroDivisionError('of its own')", "ZeroDivisionError: of its own"),
        ("raise SystemExit", "SystemExit"),
        ("return 'good'", "gave 'good'; need a number"),
        ("return float('nan')", "gave nan; need a number"),
    ],
)
def test_a_metric_of_ones_own_that_fails(tmp_path, capsys, monkeypatch, body, text) -> None:
    name = tmp_path.name  # another module for each case
    (tmp_path / f"{name}.py").write_text(f"def score(predictions, references):\n    {body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert build(tmp_path, "--target", "reference", "--metric", f"{name}:score") == 2
    line = one_line(capsys)
    assert text in line and f"{name}:score" in line
    assert not (tmp_path / "out").exists()


def test_several_wrong_passes_have_a_line_each(tmp_path, capsys) -> None:
    assert build(tmp_path, "--pass", "quantise-weights", "--pass", "cast-weights{to=f8}") == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: [passes] got quantise-weights; need one of ")
    assert second.startswith("error: [cast-weights] ")


def test_the_mistakes_of_a_recipe_have_a_line_each(tmp_path, capsys) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('modle = "m:f"\n[build.a]\nmax_drop = "much"\n')
    assert main(["build", str(path), "-q", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: [recipe.toml] unknown key modle (did you mean model?)",
        "error: [recipe.toml] model is missing, need a text",
        "error: [recipe.toml] build.a.max_drop = 'much', need a number or nothing; "
        "correct these and try again",
    ]
