"""Every op case on the other machines that can be executed here, against `evaluate`."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.targets.native import Native
from edgec.targets.native.run import NativeExecutable
from tests.cases.ops import CASES
from tests.cases.rounding import differences
from tests.runtime.tools import need, need_zig
from tests.targets.native.test_cross import ARM, TOOLS, WASM
from tests.targets.native.test_ops import Cases, legal_cases

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def cases() -> Cases:
    return legal_cases()


@pytest.fixture(scope="module")
def folder(cases: Cases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_zig()
    place = tmp_path_factory.mktemp("cases")
    Native(triples=(ARM, WASM)).emit(cases.program, place)
    return place


@pytest.mark.parametrize("triple", [WASM, ARM])
def test_other_machines_compute_what_evaluate_does(triple: str, folder: Path, cases: Cases) -> None:
    need(*TOOLS[triple])
    executable = NativeExecutable(folder, triple=triple)
    listed = [(c, cases.functions[c.name]) for c in CASES if c.name in cases.functions]
    wrong = {c.name: d for c, name in listed if (d := differences(executable, name, c))}
    assert wrong == {}
