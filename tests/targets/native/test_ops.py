"""Every op case in one native library, a function each, executed against `evaluate`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch

from edgec.errors import EdgecError
from edgec.interpreter import Interpreter
from edgec.ir import OPS, Constant, DType, Exactness, Node, Program, Range, dims
from edgec.target import Executable
from edgec.targets.native import Native
from tests.cases.case import Case
from tests.cases.ops import CASES

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


def add(program: Program, case: Program, name: str) -> None:
    """Add a case's function under its own name, and its constants under names of their own."""
    names = {f"@{c}": f"@{name}_{c}" for c in case.constants}
    for constant in case.constants.values():
        own = f"{name}_{constant.name}"
        program.constants[own] = Constant(own, constant.encoding)

    def renamed(node: Node) -> Node:
        return node.renamed(names)

    graph = case.main.map_nodes(renamed)
    outputs = tuple(names.get(o, o) for o in graph.outputs)
    program.graphs[name] = dataclasses.replace(
        graph, name=name, outputs=outputs, constants=program.constants
    )


def allowed(program: Program, env: Mapping[str, int], scale: float) -> float:
    """The absolute deviation that rounding in another order may cause: 4 eps sqrt(K) max |want|."""
    (node,) = program.main.nodes
    types = [None if n is None else program.main.type(n) for n in node.inputs]
    kinds = [t.dtype for t in types if t is not None and t.dtype.is_float]
    kind = kinds[0] if kinds else DType.F32
    terms = max(1, dims.evaluate(node.op.reduction(types), env))
    eps = torch.finfo(kind.torch_dtype).eps
    return 4 * eps * math.sqrt(terms) * scale * node.op.factor


def agree(got: torch.Tensor, want: torch.Tensor, tolerance: float) -> bool:
    """Equal shapes, NaN and infinity at the same places, all else within tolerance."""
    if got.shape != want.shape or got.is_floating_point() != want.is_floating_point():
        return False
    if not want.is_floating_point():
        return torch.equal(got, want)
    got, want = got.double(), want.double()
    finite = want.isfinite()
    same = torch.equal(got[~finite].nan_to_num(), want[~finite].nan_to_num())
    return same and bool(((got - want)[finite].abs() <= tolerance).all())


@each_case
def test_native_computes_what_evaluate_does(
    case: Case, cases: Cases, executable: Executable
) -> None:
    if case.name in cases.refused:
        raise cases.refused[case.name]
    assert differences(executable, cases.functions[case.name], case) == []


def differences(executable: Executable, function: str, case: Case) -> list[object]:
    """Sizes, results and expectations of all that differs."""
    program = case.program()
    found: list[object] = []
    exact = OPS[case.op].exactness is Exactness.EXACT
    for env in case.sizes:
        inputs = case.inputs(env)
        compute = torch.float32 if case.rough else torch.float64
        wanted = Interpreter(program, compute=compute).run(inputs)
        declared = [t.dtype.torch_dtype for t in program.main.output_types()]
        outputs = executable.run(function, inputs)
        assert [t.dtype for t in outputs] == declared
        for got, want in zip(outputs, wanted, strict=True):
            finite = want.double()[want.isfinite()].abs()
            scale = float(finite.max()) if finite.numel() else 0.0
            tolerance = 0.0 if exact else allowed(program, env, scale)
            if not agree(got, want, tolerance):
                found.append((env, got, want))
    return found
