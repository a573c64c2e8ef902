"""The README's support table says what the code does."""

from __future__ import annotations

import pytest

from edgec.targets.onnx.table import README, readme_with_table


def test_the_readme_holds_the_current_table() -> None:
    text = README.read_text()
    assert readme_with_table(text) == text, "run python -m edgec.targets.onnx.table"


def test_a_readme_without_the_marks() -> None:
    with pytest.raises(ValueError, match=r"README.md has no"):
        readme_with_table("nothing")
