"""Element types at the edges of a program: inputs, outputs, casts and constants of each."""

from __future__ import annotations

import pytest
import torch

from edgec.interpreter import Interpreter
from edgec.ir import Builder, DType, Program, Range, TensorType
from edgec.target import Executable
from edgec.targets.native import Native

TYPES = list(DType)
DIMS = {"n": Range(0, 9)}


def name_of(a: DType, b: DType) -> str:
    return f"{a.value}_to_{b.value}"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> tuple[Executable, Interpreter]:
    """A function that casts for each pair of types, one that adds a constant for each type."""
    program = Program({}, {})
    for a in TYPES:
        kind = TensorType.parse(f"{a.value}[n, 3]")
        for b in TYPES:
            builder = Builder.new(name_of(a, b), [("x", kind)], program.constants, dict(DIMS))
            cast = builder.cast(builder.input("x"), dtype=b)
            program.graphs[name_of(a, b)] = builder.finish([cast])
        builder = Builder.new(f"same_{a.value}", [("x", kind)], program.constants, dict(DIMS))
        constant = builder.constant(constant_of(a), f"c_{a.value}")
        both = builder.concat("x", "x", axis=1)
        outputs = [both, constant, builder.flip(both, axes=(1,))]
        program.graphs[f"same_{a.value}"] = builder.finish(outputs, ["both", "constant", "back"])
    folder = tmp_path_factory.mktemp("types")
    target = Native()
    target.emit(target.legalize(program.verify()), folder)
    return Native.load(folder), Interpreter(program)


def constant_of(dtype: DType) -> torch.Tensor:
    return torch.tensor([[0, 1, 0]]).to(dtype.torch_dtype)


def values_of(dtype: DType, rows: int = 2) -> torch.Tensor:
    """Values at which types differ: signs, fractions, halves, what only wide types hold."""
    if dtype is DType.BOOL:
        return torch.tensor([[True, False, True], [False, True, True]])[:rows]
    if dtype.is_float:
        return torch.tensor([[0.5, 1.5, -2.75], [100.0, -0.0, 65504.0]])[:rows].to(
            dtype.torch_dtype
        )
    info = torch.iinfo(dtype.torch_dtype)
    return torch.tensor([[0, 1, 100], [info.max, info.min, 7]])[:rows].to(dtype.torch_dtype)


@pytest.mark.parametrize("b", TYPES, ids=lambda d: d.value)
@pytest.mark.parametrize("a", TYPES, ids=lambda d: d.value)
def test_casts_are_torchs(a: DType, b: DType, library: tuple[Executable, Interpreter]) -> None:
    executable, interpreter = library
    x = values_of(a)
    if a.is_float and not b.is_float and b is not DType.BOOL:
        x = x[:1].abs() if b is DType.U8 else x[:1]  # what is out of range has no meaning
    (got,) = executable.run(name_of(a, b), [x])
    (want,) = interpreter.run([x], name_of(a, b))
    assert got.dtype == want.dtype == b.torch_dtype
    assert torch.equal(got, want), (x, got, want)


@pytest.mark.parametrize("rows", [2, 0])
@pytest.mark.parametrize("dtype", TYPES, ids=lambda d: d.value)
def test_each_type_is_moved_and_stored(
    dtype: DType, rows: int, library: tuple[Executable, Interpreter]
) -> None:
    executable, _ = library
    x = values_of(dtype, rows)
    both, constant, back = executable.run(f"same_{dtype.value}", [x])
    assert torch.equal(both, torch.cat([x, x], 1)) and both.dtype == x.dtype
    assert torch.equal(back, both.flip(1))
    assert torch.equal(constant, constant_of(dtype))
