"""Builds that are killed, or run out of space or permission: what stood there before stays."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgec.cli import main
from tests.cli.harness import MODEL, ROOT, START, only_error

STALLING = """
import pathlib, time
def score(predictions, references):
    pathlib.Path({marker!r}).touch()
    time.sleep(300)
    return 0.0
"""


def build(out: Path, *options: str) -> list[str]:
    return ["build", MODEL, "--target", "reference", "-q", "--out", str(out), *options]


def content(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }


@pytest.fixture
def previous(built, tmp_path) -> Path:
    """A release at the place of the builds below."""
    return Path(shutil.copytree(built / "small", tmp_path / "place" / "out"))


def test_a_killed_build_leaves_the_previous_release_and_the_next_one_replaces_it(
    previous, tmp_path, capsys
) -> None:
    before, marker = content(previous), tmp_path / "is_running"
    (tmp_path / "stalling.py").write_text(STALLING.format(marker=str(marker)))
    command = [sys.executable, "-c", START, *build(previous, "--metric", "stalling:score")]
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}) as process:
        for _ in range(600):
            if marker.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert marker.exists() and process.returncode == -signal.SIGKILL
    assert content(previous) == before
    left = [p.name for p in previous.parent.iterdir() if p != previous]
    assert len(left) == 1 and left[0].startswith(".out.edgec-build-")
    assert main(["verify", str(previous), "-q"]) == 0

    assert main(build(previous)) == 0
    assert content(previous)["release.json"] != before["release.json"]
    assert [p.name for p in previous.parent.iterdir()] == ["out"]
    assert main(["verify", str(previous), "-q"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("target", "limit_bytes"),
    [("reference", 100), ("onnx", 12_000), ("reference", 30_000)],
    ids=["first file", "weights", "report"],
)
def test_without_space_the_previous_release_stays(previous, capsys, target, limit_bytes) -> None:
    """A limit on the size of files fails in a write, as a full device does."""
    before = content(previous)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        code = main(build(previous, "--target", target))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2
    assert "[out] got no space left on the device" in only_error(capsys.readouterr().err)
    assert content(previous) == before
    assert [p.name for p in previous.parent.iterdir()] == ["out"]


@pytest.fixture(params=["chmod", "system"])
def refusing(request, tmp_path) -> Path:
    """A folder in which nothing can be written."""
    if request.param == "system":
        folder = Path("/sys/kernel")
        if not folder.is_dir():
            pytest.skip("no /sys, whose folders refuse everybody")
        return folder
    if os.geteuid() == 0:
        pytest.skip("root is refused by no permission")
    tmp_path.chmod(0o500)
    return Path(tmp_path)


@pytest.mark.parametrize("name", ["out", "new/out"])
def test_a_folder_that_cannot_be_written_is_told_before_the_model_is_loaded(
    refusing, capsys, name
) -> None:
    assert main(["build", "no.such.module:f", "-q", "--out", str(refusing / name)]) == 2
    line = only_error(capsys.readouterr().err)
    assert "[build] got out: " in line and "need files and folders that can be" in line
