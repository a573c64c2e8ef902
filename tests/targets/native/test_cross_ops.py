"""Every op case on the other machines that can be executed here, against `evaluate`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgec.ir import DType
from edgec.runtime.golden import Array, GoldenCall
from edgec.targets.native import Native
from edgec.targets.native.run import NativeExecutable
from tests.cases.case import Case
from tests.cases.ops import CASES
from tests.cases.rounding import differences, differing
from tests.runtime.tools import need, need_zig
from tests.targets.native.emulation import replay
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


def listed(cases: Cases) -> list[tuple[Case, str]]:
    return [(c, cases.functions[c.name]) for c in CASES if c.name in cases.functions]


def test_webassembly_computes_what_evaluate_does(folder: Path, cases: Cases) -> None:
    need(*TOOLS[WASM])
    executable = NativeExecutable(folder, triple=WASM)
    found = {c.name: differences(executable, name, c) for c, name in listed(cases)}
    assert {n: d for n, d in found.items() if d} == {}


def test_aarch64_computes_what_evaluate_does(folder: Path, cases: Cases) -> None:
    calls = [golden_call(case, name, i) for case, name in listed(cases) for i in range(sizes(case))]
    outputs = iter(replay(folder, calls))
    found = {}
    for case, _ in listed(cases):
        kinds = [t.dtype for t in case.program().main.output_types()]
        rows = [next(outputs) for _ in range(sizes(case))]
        made = [[tensor(row[i], dtype) for i, dtype in enumerate(kinds)] for row in rows]
        found[case.name] = differing(case, made)
    assert {n: d for n, d in found.items() if d} == {}


def sizes(case: Case) -> int:
    return len(case.sizes)


def golden_call(case: Case, function: str, index: int) -> GoldenCall:
    """The case at one of its sizes; nothing is expected."""
    graph, inputs = case.program().main, case.inputs(case.sizes[index])
    env = graph.bind(tuple(t.shape for t in inputs))
    nothing = [None] * len(graph.outputs)
    return GoldenCall(function, [env[n] for n in graph.dims], [array(t) for t in inputs], nothing)


def array(tensor: torch.Tensor) -> Array:
    """bf16 as its bits."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def tensor(found: Array, dtype: DType) -> torch.Tensor:
    if dtype is DType.BF16:
        return torch.from_numpy(found.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(found)
