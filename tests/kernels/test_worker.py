"""Kernels compiled by several processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.kernels import INSTRUCTION_SETS, building, worker
from edgec.kernels.copy import Copy

WASM = INSTRUCTION_SETS["wasm32"]
KERNELS = [Copy(axes, nbytes, True) for axes in (2, 3) for nbytes in (1, 2, 4, 8)]


def test_a_process_is_worth_several_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(4))
    counts = {n: worker.processes(n) for n in (0, 1, 15, 16, 31, 400)}
    assert counts == {0: 1, 1: 1, 15: 1, 16: 2, 31: 3, 400: 4}


def test_workers_compile_what_one_process_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process finds all of their objects, and the same bytes where it compiles itself."""
    monkeypatch.setenv(building.CACHE_VARIABLE, str(tmp_path / "one"))
    monkeypatch.setattr(worker, "processes", lambda kernels: 2)
    with monkeypatch.context() as here:
        here.setattr(building, "_object", lambda *given: pytest.fail("compiled here"))
        made = building.build_objects(KERNELS, WASM, "_x", "y_")
    assert list(made) == KERNELS
    monkeypatch.setenv(building.CACHE_VARIABLE, str(tmp_path / "two"))
    again = building.build_objects(KERNELS, WASM, "_x", "y_", parallel=False)
    for kernel in KERNELS:
        assert made[kernel].read_bytes() == again[kernel].read_bytes()
