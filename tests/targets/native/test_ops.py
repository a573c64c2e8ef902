"""Every op case in one native library, a function each, executed against `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from edgec.errors import EdgecError
from edgec.ir import Program, Range
from edgec.target import Executable
from edgec.targets.native import Native
from tests.cases.case import Case
from tests.cases.ops import CASES
from tests.cases.rounding import differences
from tests.targets.native.one_library import add

each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


@dataclass
class Cases:
    """A function for each case that the target takes, and why it did not take the others."""

    program: Program = field(default_factory=lambda: Program({}, {}))
    functions: dict[str, str] = field(default_factory=dict)
    refused: dict[str, EdgecError] = field(default_factory=dict)


@pytest.fixture(scope="module")
def cases() -> Cases:
    return legal_cases()


@pytest.fixture(scope="module")
def executable(cases: Cases, tmp_path_factory: pytest.TempPathFactory) -> Executable:
    """All of them in one library."""
    folder = tmp_path_factory.mktemp("native")
    Native().emit(cases.program, folder)
    return Native.load(folder)


def legal_cases() -> Cases:
    found = Cases()
    for i, case in enumerate(CASES):
        try:
            legal = Native().legalize(bounded(case).verify()).verify()
        except EdgecError as error:
            found.refused[case.name] = error
            continue
        found.functions[case.name] = f"case_{i}"
        add(found.program, legal, f"case_{i}")
    return found


def bounded(case: Case) -> Program:
    """The case's program, with the greatest of its sizes as the upper bounds of its dims."""
    program = case.program()
    most = {n: max(env.get(n, 0) for env in case.sizes) for n in case.names()}
    graph = program.main
    ranges = {n: Range(r.min, most[n]) for n, r in graph.dims.items()}
    return Program({"main": graph.replace(dims=ranges)}, program.constants)


@each_case
def test_native_computes_what_evaluate_does(
    case: Case, cases: Cases, executable: Executable
) -> None:
    if case.name in cases.refused:
        raise cases.refused[case.name]
    assert differences(executable, cases.functions[case.name], case) == []
