"""Tools that tests of the runtime need: one that is missing skips the test, and fails it in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def need(program: str, package: str) -> str:
    """Path of a program; without it the test is skipped, except where EDGEC_CI is set: there a
    missing tool is a failure of the setup, and a skip would hide it."""
    found = shutil.which(program)
    if found is None:
        message = f"no {program} on PATH; install Debian's package `{package}`"
        if os.environ.get("EDGEC_CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found
