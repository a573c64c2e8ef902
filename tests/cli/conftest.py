"""The reference target, for tests of what does not depend on a target, and a release by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.cli import main
from edgec.targets import TARGETS
from tests.cli.harness import RECIPE
from tests.reference_target import reference_target

__all__ = ["built", "reference_target"]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT of a recipe with two variants; tests damage copies of it."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "recipe.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TARGETS, "reference", "tests.reference_target:Reference")
        assert main(["build", str(folder / "recipe.toml"), "--out", str(folder / "out"), "-q"]) == 0
    return folder / "out"
