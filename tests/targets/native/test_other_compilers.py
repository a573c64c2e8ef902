"""A library for this machine that is compiled by ziglang finds the same instruction set."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

import edgec
from edgec.runtime.model import Model
from edgec.targets.native import Native
from tests.runtime.tools import need_zig


@pytest.fixture
def no_system_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    need_zig()
    monkeypatch.setattr("shutil.which", lambda *given, **options: None)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="has several instruction sets")
def test_zig_builds_a_library_that_knows_its_cpu(no_system_compiler: None, tmp_path: Path) -> None:
    """__builtin_cpu_supports, as zig compiles it, says no to everything."""
    program = edgec.capture(torch.nn.Linear(8, 4).eval(), (torch.randn(2, 8),))
    target = Native()
    target.emit(target.legalize(program), tmp_path)
    (library,) = tmp_path.rglob("*.so")
    with Model(library, tmp_path / "model.weights") as model:
        assert model.variant.startswith("x86_64_")
