"""Tools that tests of the runtime need: one that is missing skips the test, and fails it in CI."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

import pytest


def need(program: str, package: str) -> str:
    """Path of a program; without it the test is skipped, except where EDGEC_CI is set: there a
    missing tool is a failure of the setup, and a skip would hide it."""
    found = shutil.which(program)
    if found is None:
        _missing(f"no {program} on PATH; install Debian's package `{package}`")
    assert found is not None
    return found


def need_zig() -> list[str]:
    """The command that runs the zig of PyPI: a C compiler and linker for every machine."""
    if importlib.util.find_spec("ziglang") is None:
        _missing("no module ziglang; pip install ziglang")
    return [sys.executable, "-m", "ziglang"]


def _missing(message: str) -> None:
    if os.environ.get("EDGEC_CI"):
        pytest.fail(message)
    pytest.skip(message)
