"""What the tests of the command line share: a model, a recipe of it, and what an error may be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = "tests.example_models:scores"
RECIPE = f"""
model = "{MODEL}"
[build.plain]
target = "reference"
[build.small]
target = "reference"
passes = ["quantize-weights{{bits=8}}"]
"""

# The command in a process of its own, with the tests' reference target.
START = (
    "import sys; from edgec.targets import TARGETS; from edgec.cli import main; "
    "TARGETS['reference'] = 'tests.reference_target:Reference'; sys.exit(main())"
)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error on standard error: the only line there, with its place in front."""
    return only_error(capsys.readouterr().err)


def only_error(text: str) -> str:
    assert re.fullmatch(r"error: \[[^\]\n]+\] \S[^\n]*\n", text), text
    assert not text.startswith("error: [internal]"), text
    return text


def edgec(*arguments: str | bytes, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", START, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
    )
