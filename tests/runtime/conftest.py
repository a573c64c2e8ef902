"""The tiny model, built once for all tests of the runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.runtime.sources import check_sources, library_sources
from tests.runtime.tiny_model import (
    TINY,
    TinyModel,
    build_tiny,
    compile_c,
    describe_weights,
    write_weights,
)
from tests.runtime.tools import need


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    need("gcc", "gcc")
    return build_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def check_program(tmp_path_factory: pytest.TempPathFactory, tiny: TinyModel) -> Path:
    """The check program of the tiny model, under the sanitizers for memory."""
    weights = write_weights(tiny.weights)
    sources = [TINY, *library_sources(), *check_sources()]
    flags = ["-O1", "-g", "-pthread", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    out = tmp_path_factory.mktemp("check") / "check"
    return compile_c(["gcc"], out, sources, *flags, *describe_weights(weights), "-lm")
