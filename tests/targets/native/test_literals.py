"""Constants of one element are numbers in the code of kernels: also those that compilers fold."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from edgec.interpreter import Interpreter
from edgec.ir import Builder, DType, Program, TensorType
from edgec.target import Executable
from edgec.targets.native import Native

F32, I64 = DType.F32, DType.I64
NUMBERS = (0.0, -0.0, -2.5, math.inf, math.nan)
OPS = ("mul", "div", "floor_div", "mod", "pow", "maximum")
INTEGERS = (0, -1, 7, 2**40)
OF_INTEGERS = ("mul", "floor_div", "mod")

X = torch.tensor([0.0, -0.0, 1.0, -1.0, 2.5, -3.0, math.inf, -math.inf, math.nan, 7.0, -7.0])
I = torch.tensor([0, 1, -1, 5, -5, 2**33, -(2**33)])  # noqa: E741


@pytest.fixture(scope="module")
def program() -> Program:
    """A function for each op and number: x op number, and number op x."""
    made = Program({}, {})
    for op, number in itertools.product(OPS, NUMBERS):
        add(made, op, number, F32)
    for op, whole in itertools.product(OF_INTEGERS, INTEGERS):
        add(made, op, whole, I64)
    return made.verify()


def name_of(op: str, number: float) -> str:
    """By the place of a number among the others; -0.0 is not 0.0, and NaN is NaN."""
    numbers = NUMBERS if isinstance(number, float) else INTEGERS
    return f"{op}_{type(number).__name__}_{list(map(str, numbers)).index(str(number))}"


def add(program: Program, op: str, number: float, dtype: DType) -> None:
    xs = TensorType(dtype, (len(X) if dtype is F32 else len(I),))
    b = Builder.new(name_of(op, number), [("x", xs)], program.constants)
    scalar, x = b.scalar(number, dtype), b.input("x")
    graph = b.finish([getattr(b, op)(x, scalar), getattr(b, op)(scalar, x)])
    program.graphs[graph.name] = graph


@pytest.fixture(scope="module")
def executable(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Executable:
    folder = tmp_path_factory.mktemp("literals")
    Native().emit(Native().legalize(program), folder)
    return Native.load(folder)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("op", OPS)
def test_floats(op: str, number: float, program: Program, executable: Executable) -> None:
    check(name_of(op, number), X, program, executable)


@pytest.mark.parametrize("number", INTEGERS)
@pytest.mark.parametrize("op", OF_INTEGERS)
def test_integers(op: str, number: int, program: Program, executable: Executable) -> None:
    """But for divisors of 0, which torch refuses: those give 0 here."""
    if op in ("floor_div", "mod"):
        function, nonzero = name_of(op, number), torch.where(I == 0, 3, I)
        wanted = [div(op, nonzero, number), div(op, torch.tensor(number), nonzero)]
        got = executable.run(function, [nonzero])
        assert all(torch.equal(g, w) for g, w in zip(got, wanted, strict=True))
        return
    check(name_of(op, number), I, program, executable)


def div(op: str, a: torch.Tensor, b: torch.Tensor | int) -> torch.Tensor:
    if isinstance(b, int) and b == 0:
        return torch.zeros_like(a)
    return torch.div(a, b, rounding_mode="floor") if op == "floor_div" else torch.remainder(a, b)


def check(function: str, x: torch.Tensor, program: Program, executable: Executable) -> None:
    """The same numbers, NaN and infinities at the same places."""
    wanted = Interpreter(program).run([x], function)
    for got, want in zip(executable.run(function, [x]), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-45, equal_nan=True)
