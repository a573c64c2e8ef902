"""Recipes: every mistake by name, all at once; builds of several variants side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgec.compiler.variants import build_recipe
from edgec.errors import CaptureError, FormatError, PassError, RecipeError, ValidationError
from edgec.recipe import load_recipe
from edgec.release import Release
from edgec.release.summary import load_summary
from tests.reference_target import Reference

GOOD = """
model = "tests.example_models:scores"
[build.plain]
target = "reference"
[build.small]
target = "reference"
passes = ["quantize-weights{bits=8}"]
max_ratio = 0.6
"""


def recipe(folder: Path, text: str = GOOD) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def problems_of(folder: Path, text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe(folder, text))
    return str(caught.value)


def test_a_recipe_is_read(tmp_path) -> None:
    loaded = load_recipe(recipe(tmp_path))
    assert list(loaded.recipe.build) == ["plain", "small"]
    assert loaded.recipe.build["small"].max_ratio == 0.6
    assert loaded.path("data.tsv") == tmp_path / "data.tsv"


def test_all_mistakes_are_listed_at_once(tmp_path) -> None:
    text = problems_of(
        tmp_path,
        """
        modle = "hf:."
        model = 3
        [evaluation]
        data = "held.tsv"
        metrics = "bleu"
        [build.int8]
        passes = "quantize-weights"
        max_drop = "much"
        max_ration = 0.3
        """,
    )
    for part in (
        "unknown key modle (did you mean model?)",
        "model = 3, need a text",
        "unknown key evaluation.metrics (did you mean metric?)",
        "build.int8.passes = 'quantize-weights', need a list, each a text",
        "build.int8.max_drop = 'much', need a number",
        "unknown key build.int8.max_ration (did you mean max_ratio?)",
    ):
        assert part in text, part


def test_mistakes_beyond_types_are_listed_at_once(tmp_path) -> None:
    text = problems_of(
        tmp_path,
        """
        model = "hf:."
        [evaluation]
        data = "held.tsv"
        metric = "belu"
        limit = -1
        agreement = -5
        min_agreement = 1.5
        [calibration]
        data = "recipe.toml"
        [build."a/b"]
        [build.int8]
        passes = ["quantise-weights", "quantize-weights{bits=8, gruop=32}"]
        target = "onxx"
        max_size = "6 apples"
        max_drop = -1
        max_ratio = -0.5
        [build.int4]
        target = "onnx"
        options = {opst = 21}
        """,
    )
    for part in (
        "evaluation.data = 'held.tsv', need a file beside the recipe",
        "evaluation.limit = -1",
        "evaluation.agreement = -5, need 0 (none) or more",
        "evaluation.min_agreement = 1.5, need a part of the texts: 0 to 1",
        "evaluation.metric: [metric] got belu; need one of bleu",
        "calibration.data: [data] got recipe.toml; need .tsv, .txt or .safetensors",
        "build.a/b: need a name",
        "build.int8.passes[0]: [passes] got quantise-weights",
        "did you mean quantize-weights?",
        "build.int8.passes[1]: [quantize-weights] unknown gruop",
        "build.int8.target: [targets] got 'onxx'",
        "build.int8.max_size: [size] got '6 apples'",
        "build.int8.max_drop = -1.0, need a number that is not negative",
        "build.int8.max_ratio = -0.5",
        "build.int4.target: [onnx] unknown opst",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model = ", "need valid TOML"),
        (b"[build.a]\nmodel = 1\n[build.a]", "need valid TOML"),
        (b"a = " + b"[" * 5000, "need valid TOML"),
        (b'model = "m:f"\n[build.a]\nmax_drop = nan', "max_drop = nan, need a number"),
        (b'model = "m:f"\n[build.a]\nmax_ratio = inf', "max_ratio = inf, need a number"),
        (b"\xff\xfe", "UTF-8"),
        (b"", "model is missing"),
        (b'model = "hf:."\nbuild = {}', "at least one variant"),
    ],
)
def test_files_that_are_no_recipes(tmp_path, content, message) -> None:
    (tmp_path / "recipe.toml").write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "recipe.toml")


def test_a_missing_recipe(tmp_path) -> None:
    with pytest.raises(RecipeError, match="No such file"):
        load_recipe(tmp_path / "recipe.toml")


def test_a_pass_that_needs_data_is_told_with_the_other_mistakes(tmp_path) -> None:
    text = 'model = "m:f"\n[build.a]\npasses = ["gptq{bits=4}", "gqtp"]\n'
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(RecipeError, match=r"need a \[calibration\] table") as error:
        load_recipe(tmp_path / "recipe.toml")
    assert "did you mean gptq?" in str(error.value)


# ------------------------------------------------------------------ builds
@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("variants") / "out"
    folder = tmp_path_factory.mktemp("recipe")
    summary = build_recipe(load_recipe(recipe(folder)), out)
    assert summary.exit_code == 0
    return out


def test_each_variant_is_a_release_with_a_summary_beside(built) -> None:
    names = {p.name for p in built.iterdir()}
    assert (
        {"plain", "small", "summary.json"}
        <= names
        <= {
            "plain",
            "small",
            "summary.json",
            "report.html",
        }
    )
    summary = load_summary(built)
    assert [r.name for r in summary.variants] == ["plain", "small"]
    assert summary.default == "small"
    assert [r.ratio for r in summary.variants] == [
        Release.load(built / n).manifest.sizes.ratio for n in ("plain", "small")
    ]
    assert all(Release.load(built / n).verify().passed for n in ("plain", "small"))


def test_a_pass_that_can_do_without_data_gets_those_of_the_recipe(tmp_path) -> None:
    save_file({"x": torch.randn(4, 16)}, tmp_path / "rows.safetensors")
    text = """
model = "tests.example_models:scores"
[calibration]
data = "rows.safetensors"
[build.small]
target = "reference"
passes = ["palettize-weights"]
"""
    build_recipe(load_recipe(recipe(tmp_path, text)), tmp_path / "out")
    (record,) = (
        p
        for p in Release.load(tmp_path / "out").manifest.passes
        if p.spec.startswith("palettize-weights")
    )
    assert "no calibration data" not in " ".join(record.notes)


def test_the_smallest_accepted_variant_is_opened_unless_another_is_named(built) -> None:
    assert Release.load(built).manifest.recipe.name == "small"
    assert Release.load(built, "plain").manifest.recipe.name == "plain"
    with pytest.raises(ValidationError, match="variant tiny; need one of plain, small"):
        Release.load(built, "tiny")


def test_the_recipe_is_kept(built) -> None:
    kept = Release.load(built).manifest.recipe
    assert kept.text == GOOD
    assert len(kept.sha256) == 64


def test_the_gravest_verdict_gives_the_exit_code(tmp_path) -> None:
    text = (
        GOOD.replace("0.6", "0.01") + "[build.wrong]\ntarget = \"reference{spoil='second.bias'}\"\n"
    )
    spoiled = text.replace("second.bias", _bias_name(tmp_path))
    summary = build_recipe(load_recipe(recipe(tmp_path, spoiled)), tmp_path / "out")
    assert [r.verdict for r in summary.variants] == ["ACCEPT", "INFEASIBLE", "ANOMALOUS"]
    assert summary.exit_code == 11
    assert summary.default == "plain"


def _bias_name(folder: Path) -> str:
    """The captured name of the last layer's bias."""
    from edgec.compiler.loading import load_model

    constants = load_model("tests.example_models:scores", folder).program.constants
    return next(n for n in constants if n.endswith("second.bias"))


def test_a_variant_that_fails_leaves_the_old_folder(built, tmp_path, monkeypatch) -> None:
    """`plain` is built before `small` fails: still nothing changes."""
    before = (built / "summary.json").read_bytes()
    emit = Reference.emit
    calls = []

    def failing(self, program, folder, recipe):
        calls.append(folder.parent.name)
        if folder.parent.name == "small":
            raise PassError("late", "a failure")
        return emit(self, program, folder, recipe)

    monkeypatch.setattr(Reference, "emit", failing)
    with pytest.raises(PassError, match="a failure"):
        build_recipe(load_recipe(recipe(tmp_path)), built)
    assert calls == ["0", "plain", "small"]
    assert (built / "summary.json").read_bytes() == before
    assert Release.load(built).verify().passed


def test_a_damaged_summary_is_refused(built, tmp_path) -> None:
    content = (built / "summary.json").read_bytes()
    for spoiled in (content[:-30], b"{}", json.dumps({**json.loads(content), "more": 1}).encode()):
        (tmp_path / "summary.json").write_bytes(spoiled)
        with pytest.raises(FormatError):
            Release.load(tmp_path)
    hostile = json.loads(content)
    hostile["variants"][0]["name"] = hostile["default"] = "../elsewhere"
    (tmp_path / "summary.json").write_text(json.dumps(hostile))
    with pytest.raises(FormatError, match="names of folders beside it"):
        Release.load(tmp_path)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("hf:missing", CaptureError, "missing"),
        ("no.such.module:f", RecipeError, "no module no"),
        (
            "tests.example_models:scroes",
            RecipeError,
            "no function scroes; need a function, such as",
        ),
        ("tests.example_models:nothing", RecipeError, "gave NoneType"),
        ("tests.example_models:wrong_tuple", RecipeError, "gave Scores and int"),
        ("tests.example_models:raising", CaptureError, "ZeroDivisionError: of the model's own"),
        ("tests.example_models:branching", CaptureError, "example_models.py"),
        ("just-a-name", RecipeError, "need hf:DIRECTORY or package.module:function"),
    ],
)
def test_models_that_cannot_be_used(tmp_path, model, error, message) -> None:
    text = GOOD.replace("tests.example_models:scores", model)
    with pytest.raises(error, match=message):
        build_recipe(load_recipe(recipe(tmp_path, text)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_metric_of_the_model_is_used_unless_the_recipe_has_one(tmp_path) -> None:
    text = GOOD.replace(":scores", ":scores_with_metric").partition("[build.small]")[0]
    summary = build_recipe(load_recipe(recipe(tmp_path, text)), tmp_path / "out")
    assert summary.variants[0].metric == "top1"


def test_a_metric_of_ones_own_may_lie_beside_the_recipe(tmp_path) -> None:
    (tmp_path / "metric_beside.py").write_text("def one(predictions, references):\n    return 1\n")
    text = GOOD.partition("[build.small]")[0]
    save_file({"x": torch.zeros(2, 16)}, tmp_path / "data.safetensors")
    text += '[evaluation]\ndata = "data.safetensors"\nmetric = "metric_beside:one"\n'
    summary = build_recipe(load_recipe(recipe(tmp_path, text)), tmp_path / "out")
    assert summary.variants[0].metric == "metric_beside:one"
