"""`edgec.compile`: one call from a program to a checked release."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import edgec
from edgec.errors import (
    BuildError,
    FormatError,
    PassError,
    RecipeError,
    UnsupportedError,
    ValidationError,
)
from edgec.metrics import Tensors
from tests.programs import classifier, embedder
from tests.reference_target import Reference

INT8 = ["quantize-weights{bits=8}"]


def compiled(out: Path, passes: list[str] = INT8, target: str = "reference", **options):
    return edgec.compile(classifier(), passes, target, out, **options)


def test_it_gives_an_accepted_release(tmp_path) -> None:
    release = compiled(tmp_path / "r")
    assert release.verdict == "ACCEPT"
    assert release.bytes == sum(p.stat().st_size for p in (tmp_path / "r/model").iterdir())
    assert list(release.functions) == ["main"]
    x = torch.randn(3, 64)
    assert torch.allclose(release.run(x), classifier().run(x), atol=0.2)
    assert release.manifest.quality.metric == "cosine"


def test_nothing_but_the_release_is_left(tmp_path) -> None:
    compiled(tmp_path / "r")
    assert [p.name for p in tmp_path.iterdir()] == ["r"]
    names = {p.name for p in (tmp_path / "r").iterdir()}
    assert (
        {"model", "evidence", "release.json"}
        <= names
        <= {
            "model",
            "evidence",
            "release.json",
            "report.html",
        }
    )


def test_conditions_on_sizes_are_in_the_release(tmp_path) -> None:
    program = classifier()
    program.metadata["conditions"] = {"main": ["batch%2 == 0"]}
    release = edgec.compile(program, [], "reference", tmp_path / "r")
    assert release.manifest.warnings == ("main: right where batch%2 == 0",)


def test_without_jinja2_the_release_says_that_the_report_is_missing(tmp_path, monkeypatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "jinja2" else real(name)
    )
    release = compiled(tmp_path / "r")
    assert "install edgec[report]" in release.manifest.warnings[-1]
    assert not (tmp_path / "r/report.html").exists()
    assert release.verify().passed


def test_the_program_is_not_changed(tmp_path) -> None:
    program = classifier()
    before = program.text()
    edgec.compile(program, INT8, "reference", tmp_path / "r")
    assert program.text() == before


def test_a_build_without_passes_loses_nothing(tmp_path) -> None:
    release = compiled(tmp_path / "r", [])
    assert release.manifest.sizes.ratio == 1.0
    assert release.manifest.quality.drop == 0.0
    assert release.manifest.quality.same_as_original == 1.0


# ------------------------------------------------------------------ verdicts
def test_a_wrong_artifact_is_anomalous_and_says_where(tmp_path) -> None:
    release = compiled(tmp_path / "r", target="reference{spoil='layer1.weight'}")
    assert release.verdict == "ANOMALOUS"
    assert release.manifest.exit_code == 11
    assert "first differing value %scores" in release.manifest.reasons[0]
    assert release.verify().exit_code == 11


def test_options_of_a_target_narrow_what_is_checked(tmp_path) -> None:
    """Sizes beyond them are not executed, nor interpreted; samples of such sizes are left out."""
    samples = {"main": [[torch.ones(9, 64)], [torch.ones(5, 64)]]}
    release = compiled(tmp_path / "r", options={"batch": 6}, samples=samples)
    assert release.verdict == "ACCEPT"
    checked = release.manifest.fidelity.checked
    assert max(c.dims["batch"] for c in checked) == 6
    assert [c.dims["batch"] for c in checked if c.label.startswith("example")] == [5]
    assert "main: 1 of 2 samples left out" in "; ".join(release.manifest.warnings)
    assert release.functions["main"].dims["batch"].max == 6


def test_an_artifact_that_cannot_show_its_values_is_wrong_somewhere(tmp_path) -> None:
    release = compiled(tmp_path / "r", options={"spoil": "layer0.bias", "blind": True})
    assert release.verdict == "ANOMALOUS"
    first = release.manifest.fidelity.first
    assert first is not None and "linear(%x, @layer0.weight, @layer0.bias)" in first.node


def test_lost_quality_is_a_regression(tmp_path) -> None:
    release = compiled(tmp_path / "r", ["quantize-weights{bits=2}"], max_drop=1e-3)
    assert release.verdict == "REGRESSION"
    assert release.manifest.quality.drop > 1e-3


def test_a_budget_that_is_not_met_is_infeasible(tmp_path) -> None:
    assert compiled(tmp_path / "r", max_size="3 kB").verdict == "INFEASIBLE"
    assert compiled(tmp_path / "r", max_ratio=0.1).verdict == "INFEASIBLE"
    assert compiled(tmp_path / "r", max_size="1 MB", max_ratio=0.9).verdict == "ACCEPT"


def test_a_bigger_artifact_needs_permission(tmp_path) -> None:
    bloated = "reference{bloat=100000}"
    assert compiled(tmp_path / "r", target=bloated).verdict == "GREW"
    release = compiled(tmp_path / "r", target=bloated, allow_bigger=True)
    assert release.verdict == "ACCEPT"
    assert release.verify().passed


def test_a_value_that_overflows_in_float32_is_recorded(tmp_path) -> None:
    class Overflow(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.abs() + 100).exp().log()

    program = edgec.capture(Overflow(), (torch.randn(4),))
    release = edgec.compile(program, [], "reference", tmp_path / "r")
    assert release.manifest.fidelity.checked[0].own_error is None


# ------------------------------------------------------------------ metrics and data
def test_accuracy_on_labelled_data(tmp_path) -> None:
    x = torch.randn(20, 64, generator=torch.Generator().manual_seed(3))
    labels = classifier().run(x).argmax(-1)
    labels[:5] = (labels[:5] + 1) % 10
    save_file({"x": x, "labels": labels}, tmp_path / "data.safetensors")
    data = tmp_path / "data.safetensors"
    release = compiled(tmp_path / "r", metric="top1", data=data)
    quality = release.manifest.quality
    assert quality.original == 75.0
    assert quality.samples == 20
    assert quality.unit == "%"
    assert release.verify().passed


def test_an_own_metric_by_name_or_as_a_function(tmp_path) -> None:
    from tests.example_models import mean_of_first

    data = Tensors((("main", (torch.ones(1, 64),)),))
    by_name = compiled(
        tmp_path / "a", metric="tests.example_models:mean_of_first", data=data
    ).manifest.quality
    direct = compiled(tmp_path / "b", metric=mean_of_first, data=data).manifest.quality
    assert by_name.value == direct.value
    assert by_name.metric == direct.metric == "tests.example_models:mean_of_first"
    assert by_name.original == pytest.approx(float(classifier().run(torch.ones(1, 64))[0, 0]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metric": "blue"}, RecipeError, "did you mean bleu?"),
        ({"metric": "no.such:metric"}, RecipeError, "no module no"),
        ({"data": "missing.tsv"}, RecipeError, "need a file that exists"),
        ({"max_size": "six"}, BuildError, "need a size such as 6MB"),
        ({"max_drop": float("nan")}, RecipeError, "max_drop. got nan; need a number that is not"),
        ({"max_ratio": -1.0}, RecipeError, "max_ratio. got -1; need a number that is not"),
        ({"max_slowdown": float("inf")}, RecipeError, "max_slowdown. got inf"),
        ({"dims": {"bacth": 4}}, ValidationError, "got bacth; need named dimensions.*batch"),
        ({"dims": {"batch": 65}}, ValidationError, "batch = 65, need 1 <= batch <= 64"),
        ({"target": "onyx"}, UnsupportedError, "did you mean onnx?"),
        ({"target": "reference{blot=1}"}, UnsupportedError, "did you mean bloat?"),
        ({"passes": ["quantise-weights"]}, PassError, "did you mean quantize-weights?"),
        ({"passes": ["quantize-weights{bit=4}"]}, PassError, "did you mean bits?"),
        ({"passes": ["quantize-weights{bits=two}"]}, PassError, "bits=two, need int"),
    ],
)
def test_wrong_options_leave_the_folder_as_it_was(tmp_path, options, error, message) -> None:
    compiled(tmp_path / "r")
    before = (tmp_path / "r" / "release.json").read_bytes()
    with pytest.raises(error, match=message):
        compiled(tmp_path / "r", **options)
    assert (tmp_path / "r" / "release.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_data_that_does_not_fit_is_refused_with_what_is_needed(tmp_path) -> None:
    path = tmp_path / "data.safetensors"
    save_file({"y": torch.zeros(3, 64)}, path)
    with pytest.raises(FormatError, match=r"tensors y; need x .and labels."):
        compiled(tmp_path / "r", data=path)
    save_file({"x": torch.zeros(3, 64), "labels": torch.zeros(2)}, path)
    with pytest.raises(FormatError, match="one count for all and labels"):
        compiled(tmp_path / "r", data=path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FormatError, match=r"damaged.*copy the file again"):
        compiled(tmp_path / "r", data=path)


# ------------------------------------------------------------------ failures on the way
@pytest.mark.parametrize("stage", ["emit", "load"])
def test_a_failure_in_the_middle_leaves_the_old_release(tmp_path, monkeypatch, stage) -> None:
    compiled(tmp_path / "r", [])
    before = (tmp_path / "r" / "release.json").read_bytes()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Reference, stage, full)
    with pytest.raises(BuildError, match="no space left"):
        compiled(tmp_path / "r")
    assert (tmp_path / "r" / "release.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_a_missing_tokenizer_file_is_told(tmp_path) -> None:
    program = embedder()
    program.metadata["tokenizer"] = {"files": {"vocab.json": str(tmp_path / "vocab.json")}}
    with pytest.raises(BuildError, match=r"missing vocab.json"):
        edgec.compile(program, [], "reference", tmp_path / "r")


def test_tokenizer_files_ship_and_equal_ones_ship_once(tmp_path) -> None:
    for name, text in (("source.spm", "same"), ("target.spm", "same"), ("vocab.json", "{}")):
        (tmp_path / name).write_text(text)
    program = embedder()
    names = ["source.spm", "target.spm", "vocab.json"]
    program.metadata["tokenizer"] = {"files": {n: str(tmp_path / n) for n in names}}
    release = edgec.compile(program, [], "reference", tmp_path / "r")
    places = release.metadata["tokenizer"]["files"]
    assert places["source.spm"] == places["target.spm"] == "tokenizer/source.spm"
    assert sorted(p.name for p in (tmp_path / "r" / "tokenizer").iterdir()) == [
        "source.spm",
        "vocab.json",
    ]
    assert release.bytes - release.manifest.sizes.model_bytes == len("same") + len("{}")
    assert release.runner.tokenizer["target.spm"].read_text() == "same"


def test_each_stage_and_each_pass_is_recorded(tmp_path) -> None:
    seen: list[str] = []
    release = compiled(tmp_path / "r", progress=lambda stage, done, total: seen.append(stage))
    manifest = release.manifest
    assert set(manifest.host.seconds) >= {"passes", "emit", "interpret", "execute", "evaluate"}
    assert any("quantize-weights" in s for s in seen)
    quantized = manifest.passes[-1]
    assert quantized.modified
    assert quantized.bytes_after < 0.3 * quantized.bytes_before
    assert quantized.deviation_cosine is not None and 0.99 < quantized.deviation_cosine < 1
    json.loads((tmp_path / "r" / "release.json").read_text())
