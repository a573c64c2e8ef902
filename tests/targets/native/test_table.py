"""The README's support tables say what the code does."""

from __future__ import annotations

import pytest

from edgec.targets.native.legal import LIMITS
from edgec.targets.native.lower import LOWERINGS
from edgec.targets.native.table import README, readme_with_table


def test_the_readme_holds_the_current_tables() -> None:
    text = README.read_text()
    assert readme_with_table(text) == text, "run python -m edgec.targets.native.table"


def test_a_readme_without_the_marks() -> None:
    with pytest.raises(ValueError, match=r"README.md has no"):
        readme_with_table("nothing")


def test_limits_are_those_of_ops_with_kernels() -> None:
    assert set(LIMITS) <= set(LOWERINGS)
