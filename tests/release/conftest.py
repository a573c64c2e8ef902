"""Releases made with the reference target, built once a file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import edgec
from edgec.release import Release
from tests.programs import classifier
from tests.reference_target import reference_target

__all__ = ["built", "reference_target", "release"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, reference_target: None) -> Path:
    out = tmp_path_factory.mktemp("releases") / "int8"
    edgec.compile(classifier(), ["quantize-weights{bits=8}"], "reference", out)
    return out


@pytest.fixture
def release(built: Path, tmp_path: Path) -> Release:
    """A copy that a test may spoil."""
    shutil.copytree(built, tmp_path / "release")
    return Release.load(tmp_path / "release")
