"""The READMEs' support tables say what the code does."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from edgec.errors import FormatError
from edgec.targets import TARGETS
from edgec.targets.native.legal import LIMITS
from edgec.targets.native.lower import LOWERINGS
from edgec.targets.support_tables import with_table


@pytest.mark.parametrize("target", TARGETS)
def test_the_readme_holds_the_current_tables(target: str) -> None:
    name = f"edgec.targets.{target}.table"
    table = import_module(name)
    text = table.README.read_text()
    assert with_table(table.README, table.support_table()) == text, f"run python -m {name}"


def test_a_readme_without_the_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing")
    with pytest.raises(FormatError, match="got no marks of a table"):
        with_table(readme, "table")


def test_limits_of_the_native_target_are_those_of_ops_with_kernels() -> None:
    assert set(LIMITS) <= set(LOWERINGS)
