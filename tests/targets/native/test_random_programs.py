"""Random graphs over the whole op set in one library, held to what their ops declare."""

from __future__ import annotations

import pytest

import edgec.ops  # noqa: F401 - registers the op set
from edgec.ir import OPS, Program
from edgec.target import Executable
from edgec.targets.native import Native
from edgec.validate import Setting, check
from edgec.validate.fidelity import Reference
from tests.cases.random_graphs import inputs_of, random_graph
from tests.targets.native.one_library import add

pytestmark = pytest.mark.slow  # a minute of compiling kernels

SEEDS = range(5)
STEPS = 14
SIZES = ({"batch": 1, "length": 4}, {"batch": 3, "length": 17}, {"batch": 8, "length": 48})


@pytest.fixture(scope="module")
def programs() -> dict[int, Program]:
    return {seed: random_graph(seed, STEPS).verify() for seed in SEEDS}


@pytest.fixture(scope="module")
def executable(
    programs: dict[int, Program], tmp_path_factory: pytest.TempPathFactory
) -> Executable:
    whole = Program({}, {})
    for seed, program in programs.items():
        add(whole, Native().legalize(program).verify(), f"random_{seed}")
    folder = tmp_path_factory.mktemp("random")
    Native().emit(whole, folder)
    return Native.load(folder)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs_compute_what_the_interpreter_does(
    seed: int, programs: dict[int, Program], executable: Executable
) -> None:
    name, main = f"random_{seed}", programs[seed].main
    program = Program({name: main.replace(name=name)}, programs[seed].constants)
    reference = Reference(program)
    for env in SIZES:
        case = reference.case(name, Setting("random", env), inputs_of(env, seed))
        found = check(executable, case)
        assert found.passed, [c for c in found.outputs if not c.passed]
        assert all(c.scale is not None for c in found.outputs)


def test_random_graphs_know_every_op() -> None:
    used = {n.op.name for s in range(150) for n in random_graph(s, STEPS).main.nodes}
    assert used == set(OPS)
