"""Releases of target onnx, from a captured module to the shipped file and its damage."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import onnx
import pytest
import torch

import edgec
from edgec.cli import main
from edgec.compiler.job import Evaluation, Job
from edgec.compiler.variants import build_recipe
from edgec.errors import EdgecError, ValidationError
from edgec.ir import Constant, Dense
from edgec.metrics import get_metric
from edgec.passes import parse_pipeline
from edgec.recipe import load_recipe
from edgec.release import Release
from edgec.release.judge import Limits
from edgec.targets import get_target
from edgec.validate import fidelity, make_cases
from tests.example_models import scores
from tests.programs import classifier, decoder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captured module, its weights in groups of 4 bits."""
    out = tmp_path_factory.mktemp("onnx") / "release"
    program = edgec.capture(*scores())
    edgec.compile(program, ["quantize-weights{bits=4, group=16}"], "onnx", out)
    return out


@pytest.fixture
def release(built: Path, tmp_path: Path) -> Release:
    shutil.copytree(built, tmp_path / "release")
    return Release.load(tmp_path / "release")


def test_a_captured_module_becomes_a_checked_release(built) -> None:
    release = Release.load(built)
    assert release.verdict == "ACCEPT"
    module, (x,), _ = scores()
    y = release.run(x)
    assert y.shape == (3, 5)
    assert torch.nn.functional.cosine_similarity(y, module(x)).min() > 0.98
    assert release.verify().passed
    assert {"onnx", "onnxruntime", "torch"} <= set(release.manifest.host.tools)


def test_the_shipped_file_is_what_the_compressed_graph_means(built) -> None:
    found = Release.load(built).manifest.fidelity
    assert found.max_ratio is not None and found.max_ratio < 1e-6
    assert {c.label for c in found.checked} == {"typical", "smallest", "odd", "largest"}


def test_dimensions_out_of_range_are_refused_at_run_time(built) -> None:
    with pytest.raises(ValidationError, match="batch = 33, need 1 <= batch <= 32"):
        Release.load(built).run(torch.zeros(33, 16))


def test_several_functions_share_one_file_of_weights(tmp_path) -> None:
    release = edgec.compile(decoder(), ["quantize-weights{bits=8}"], "onnx", tmp_path / "r")
    names = [f.name for f in release.manifest.files if f.kind == "model"]
    assert names == ["model/encode.onnx", "model/step.onnx", "model/weights.bin"]
    assert release.verify().passed
    table = next(c for c in release.manifest.constants if c.name == "table")
    assert table.used_by == ("encode: gather", "step: gather", "step: linear")
    assert table.stored_bytes <= table.payload_bytes * 1.1, "stored once"


# ------------------------------------------------------------------ where a file comes from
def stated_recipe(path: Path) -> str:
    """What an independent reader finds in the metadata of a model."""
    model = onnx.load(path, load_external_data=False)
    return {p.key: p.value for p in model.metadata_props}["edgec.recipe"]


def test_a_file_states_the_hash_of_its_recipe(tmp_path) -> None:
    path = tmp_path / "recipe.toml"
    passes = 'passes = ["quantize-weights{bits=8}"]'
    path.write_text(
        f'model = "tests.example_models:scores"\n[build.plain]\n[build.small]\n{passes}'
    )
    build_recipe(load_recipe(path), tmp_path / "out")
    for name in ("plain", "small"):
        release = Release.load(tmp_path / "out", name)
        stated = stated_recipe(release.path / "model" / "model.onnx")
        assert stated == release.manifest.recipe.sha256
        assert stated == hashlib.sha256(path.read_bytes()).hexdigest()


def test_without_a_recipe_a_file_states_the_hash_of_passes_and_target(built) -> None:
    def asked(spec: str, target: str) -> str:
        job = Job(parse_pipeline([spec]), get_target(target), Limits(), Evaluation(get_metric("")))
        return job.recipe_sha256

    stated = stated_recipe(built / "model" / "model.onnx")
    assert stated == asked("quantize-weights{bits=4,group=16}", "onnx")
    assert stated != asked("quantize-weights{bits=4,group=32}", "onnx")
    assert stated != asked("quantize-weights{bits=4,group=16}", "onnx{opset=22}")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "missing"])
def test_a_damaged_file_is_a_one_line_error(release, capsys, damage) -> None:
    path = next((release.path / "model").glob("*.onnx"))
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 16
        path.write_bytes(content)
    elif damage == "foreign":
        path.write_bytes(onnx.ModelProto(ir_version=10).SerializeToString())
    else:
        path.unlink()
    assert main(["run", str(release.path), "--input", "x=[[0]]"]) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1 and "Traceback" not in error
    assert path.name in error
    assert main(["verify", str(release.path), "-q"]) == 11
    if damage != "missing":  # without a release around it, the target itself finds most damage
        capsys.readouterr()
        code = main(["inspect", str(path)])
        assert code in (0, 2)
        assert "Traceback" not in capsys.readouterr().err


def test_the_first_wrong_value_of_an_onnx_file_is_named(tmp_path) -> None:
    program = classifier()
    wrong = program.copy()
    values = program.constants["layer1.weight"].encoding.decode().clone()
    values[0, 0] += 0.5
    wrong.constants["layer1.weight"] = Constant("layer1.weight", Dense(values))
    target = get_target("onnx")
    target.emit(target.legalize(wrong), tmp_path)
    found = fidelity(program, target.load(tmp_path), make_cases(program))
    assert not found.passed
    assert found.first is not None
    assert found.first.value == "scores"
    assert found.first.local is True


def test_wrong_options_of_the_target_are_refused(tmp_path) -> None:
    for options in ({"opset": 5}, {"opst": 21}, {"opset": "new"}):
        with pytest.raises(EdgecError, match="ops"):
            edgec.compile(classifier(), [], "onnx", tmp_path / "r", options=options)
    assert not (tmp_path / "r").exists()
