"""Damaged releases and models on the command line: one line each, and an exit code that tells."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import edgec as package
from edgec.cli import main
from tests.cli.harness import only_error
from tests.programs import decoder


@pytest.fixture(scope="module")
def release(tmp_path_factory, reference_target) -> Path:
    out = tmp_path_factory.mktemp("damage") / "release"
    package.compile(decoder(), ["quantize-weights{bits=8}"], "onnx", out)
    return out


@pytest.fixture
def copy(release, tmp_path) -> Path:
    return Path(shutil.copytree(release, tmp_path / "copy"))


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES = [remove, empty, truncate, flip]
SHIPPED = ["model/step.onnx", "model/weights.bin"]


def files_of(release: Path) -> list[str]:
    return [f.name for f in package.Release.load(release).manifest.files if f.kind == "model"]


def test_the_files_that_are_damaged_here_are_those_of_a_release(release) -> None:
    assert {"model/encode.onnx", *SHIPPED} == set(files_of(release))


def test_an_intact_copy_is_verified_and_shown(copy, capsys) -> None:
    for command in (["verify", str(copy), "-q"], ["inspect", str(copy)]):
        assert main(command) == 0
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", SHIPPED)
def test_every_command_notices_a_damaged_model(copy, capsys, name, damage) -> None:
    damage(copy / name)
    assert main(["verify", str(copy), "-q"]) == 11
    captured = capsys.readouterr()
    assert captured.err == "" and f"FAILED files     [copy] {name}" in captured.out
    run = ["run", str(copy), "--function", "encode", "--input", "ids=[[1, 2]]"]
    for command in (["inspect", str(copy)], run):
        assert main(command) == 2
        line = only_error(capsys.readouterr().err)
        assert line.startswith(f"error: [copy] {name} ") and "copy the release again" in line


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_command_notices_a_damaged_manifest(copy, capsys, damage) -> None:
    damage(copy / "release.json")
    for command in ("verify", "inspect", "run", "bench", "translate"):
        assert main([command, str(copy), *(["x"] if command == "translate" else [])]) == 2
        assert only_error(capsys.readouterr().err)


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_notices_damaged_evidence(copy, capsys, damage) -> None:
    damage(copy / "evidence" / "golden.safetensors")
    assert main(["verify", str(copy), "-q"]) == 11
    assert "FAILED files     [copy] evidence/golden.safetensors" in capsys.readouterr().out
    assert main(["inspect", str(copy)]) == 0  # evidence does not ship


def test_several_damaged_files_have_a_line_each(copy, capsys) -> None:
    for name in SHIPPED:
        (copy / name).unlink()
    assert main(["inspect", str(copy)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: [copy] model/step.onnx is missing",
        "error: [copy] model/weights.bin is missing; copy the release again, or build it again",
    ]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model/step.onnx", empty),
        ("model/step.onnx", truncate),
        ("model/weights.bin", remove),
        ("model/weights.bin", empty),
        ("model/weights.bin", truncate),
    ],
)
def test_files_without_a_release_around_them(copy, capsys, name, damage) -> None:
    """Hashes are in release.json: without it only damage of the form can be noticed."""
    (copy / "release.json").unlink()
    assert main(["inspect", str(copy / "model")]) == 0
    capsys.readouterr()
    damage(copy / name)
    assert main(["inspect", str(copy / "model")]) == 2
    assert "which no target can read" in only_error(capsys.readouterr().err)


# ------------------------------------------------------------------ models
@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A classifier of images in the transformers layout, the smallest there is."""
    from tests.capture.tiny_models import build, saved

    folder = tmp_path_factory.mktemp("checkpoint")
    saved(build("resnet"), folder)
    return folder


def flip_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[20] ^= 4
    path.write_bytes(content)


def poison(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    name = next(n for n, t in tensors.items() if t.is_floating_point())
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, path)


@pytest.mark.parametrize("damage", [remove, empty, truncate, flip_header, poison])
def test_damaged_weights_of_a_checkpoint_are_told(
    checkpoint, tmp_path, capsys, damage: Callable[[Path], None]
) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    damage(folder / "model.safetensors")
    out = tmp_path / "out"
    assert main(["build", f"hf:{folder}", "-q", "--target", "reference", "--out", str(out)]) == 2
    line = only_error(capsys.readouterr().err)
    assert "safetensors" in line
    assert not out.exists()
