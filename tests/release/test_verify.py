"""`Release.verify`: every check again, and every kind of tampering found."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

import edgec
from edgec.errors import FormatError, ValidationError
from edgec.measure import sha256
from edgec.release import Release
from tests.programs import classifier, decoder


def steps_of(release: Release) -> dict[str, bool]:
    return {s.name: s.passed for s in release.verify().steps}


def reseal(release: Release, name: str) -> Release:
    """Record a changed file as if the build had written it."""
    path = release.path / name
    files = tuple(
        replace(f, size_bytes=path.stat().st_size, sha256=sha256(path)) if f.name == name else f
        for f in release.manifest.files
    )
    replace(release.manifest, files=files).save(release.path)
    return Release.load(release.path)


def test_a_release_as_built_passes_everything(release) -> None:
    found = release.verify()
    assert found.passed
    assert found.exit_code == 0
    names = ["files", "load", "fidelity", "quality", "sizes", "verdict"]
    assert [s.name for s in found.steps] == names


@pytest.mark.parametrize(
    "name", ["model/program.json", "model/constants.safetensors", "evidence/golden.safetensors"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_damaged_files_are_found_by_name(release, name, damage) -> None:
    path = release.path / name
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:-1])
    elif damage == "flipped":
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    found = release.verify()
    assert not found.passed
    assert found.exit_code != 0
    assert [s.name for s in found.steps] == ["files"]
    assert name in found.steps[0].found


def test_nothing_is_executed_from_damaged_files(release) -> None:
    path = release.path / "model" / "constants.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"constants.safetensors was changed.*\n?.*copy"):
        Release.load(release.path).run(torch.zeros(1, 64))


def test_predictions_that_are_not_those_of_the_build_are_found(release) -> None:
    """Mean scores may stay while samples change places."""
    name = "evidence/quality/samples.safetensors"
    tensors = load((release.path / name).read_bytes())
    a, b = tensors["got/0"], tensors["got/1"]
    (release.path / name).write_bytes(save(tensors | {"got/0": b, "got/1": a}))
    found = reseal(release, name).verify()
    step = next(s for s in found.steps if s.name == "quality")
    assert not step.passed
    assert "50.0% of the predictions are the build's" in step.found


def test_an_artifact_that_was_exchanged_under_new_hashes_is_found(release, tmp_path) -> None:
    """Somebody puts another model there and corrects release.json: the golden calls show it."""
    other = classifier()
    values = other.constants["layer1.weight"].encoding.decode() * 1.01
    other.constants["layer1.weight"] = edgec.ir.Constant("layer1.weight", edgec.ir.Dense(values))
    edgec.compile(other, ["quantize-weights{bits=8}"], "reference", tmp_path / "other")
    for name in ("program.json", "constants.safetensors"):
        shutil.copy(tmp_path / "other" / "model" / name, release.path / "model" / name)
        release = reseal(release, f"model/{name}")
    assert steps_of(release)["fidelity"] is False


def test_other_functions_than_recorded_are_found(release, tmp_path) -> None:
    edgec.compile(classifier(classes=7), [], "reference", tmp_path / "other")
    for name in ("program.json", "constants.safetensors"):
        shutil.copy(tmp_path / "other" / "model" / name, release.path / "model" / name)
        release = reseal(release, f"model/{name}")
    found = steps_of(release)
    assert found["load"] is False
    assert "fidelity" not in found


def test_golden_data_that_was_changed_under_new_hashes_is_found(release) -> None:
    name = "evidence/golden.safetensors"
    tensors = load((release.path / name).read_bytes())
    tensors["0/want/0"] = tensors["0/want/0"] * 1.001
    (release.path / name).write_bytes(save(tensors))
    assert steps_of(reseal(release, name))["fidelity"] is False


def test_quality_that_was_made_up_is_found(release) -> None:
    quality = replace(release.manifest.quality, original=1.5)
    replace(release.manifest, quality=quality).save(release.path)
    assert steps_of(Release.load(release.path))["quality"] is False


def test_a_verdict_that_was_made_up_is_found(release) -> None:
    sizes = replace(release.manifest.sizes, max_ratio=0.01)
    replace(release.manifest, sizes=sizes).save(release.path)
    assert steps_of(Release.load(release.path))["verdict"] is False


def test_sizes_that_were_made_up_are_found(release) -> None:
    sizes = replace(release.manifest.sizes, model_bytes=1)
    replace(release.manifest, sizes=sizes).save(release.path)
    assert steps_of(Release.load(release.path))["sizes"] is False


def test_functions_with_states_are_verified(tmp_path) -> None:
    release = edgec.compile(decoder(), ["quantize-weights{bits=8}"], "reference", tmp_path / "r")
    labels = {(c.function, c.label) for c in release.manifest.fidelity.checked}
    assert {("encode", "smallest"), ("step", "rollout")} <= labels
    assert Release.load(tmp_path / "r").verify().passed


def test_a_release_runs_like_its_program(tmp_path) -> None:
    program = decoder()
    release = edgec.compile(program, [], "reference", tmp_path / "r")
    ids = torch.tensor([[1, 2, 3]])
    want = program.run(ids, function="encode")
    assert torch.allclose(release.run(ids, function="encode"), want)
    with pytest.raises(ValidationError, match="length = 17, need 1 <= length <= 16"):
        release.run(torch.zeros(1, 17, dtype=torch.int64), function="encode")
    with pytest.raises(ValidationError, match="ids: float32, need i64"):
        release.run(torch.zeros(1, 3), function="encode")
    with pytest.raises(ValidationError, match="need the name of one of encode, step"):
        release.run(ids)
