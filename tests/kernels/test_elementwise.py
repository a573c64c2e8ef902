"""Fused elementwise groups: every op's expression against its meaning, dtypes, broadcasting."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.ir import OPS, DType, Op
from edgec.kernels.calling import compile_all, host_sets
from edgec.kernels.element_types import storage
from edgec.kernels.elementwise import BLOCK, Elementwise, Operand
from edgec.kernels.op_expressions import SCALARS
from edgec.kernels.steps import Step
from edgec.ops.comparison import Gt, Where
from edgec.ops.creation import Full
from edgec.ops.elementwise import Add, Cast, Mul, Pow
from tests.kernels.guarded import run

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 3.7, -3.7, 100.0, 1e-30, np.inf, -np.inf, np.nan]
NAMES = {DType.F32: "float32", DType.F64: "float64", DType.I64: "int64", DType.I32: "int32"}
NAMES |= {DType.BOOL: "bool", DType.F16: "float16", DType.BF16: "bfloat16"}

#: Ops that take and give truth values.
LOGIC = {"logical_not", "logical_and", "logical_or", "logical_xor"}

#: Results that are the same bits, special values included.
EXACT = ["neg", "abs", "floor", "ceil", "round", "minimum", "maximum", "relu", "eq", "ne", "lt"]
EXACT += ["le", "gt", "ge", *sorted(LOGIC)]


def arity(name: str) -> int:
    return 3 if name == "where" else 2 if name in PAIRS else 1


PAIRS = {"add", "sub", "mul", "div", "floor_div", "mod", "pow", "minimum", "maximum", "prelu"}
PAIRS |= {"eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor"}


def compute(op: Op, operands: list[torch.Tensor], result: DType) -> list[torch.Tensor]:
    """The op over flat operands, by each instruction set of this machine."""
    kinds = tuple(Operand(NAMES[DType.of(t.dtype)], (True,)) for t in operands)
    step = Step(op, tuple(range(len(operands))), NAMES[result])
    kernel = Elementwise(1, kinds, (step,))
    count = operands[0].numel()
    arrays = [as_stored(t) for t in operands]
    found = []
    for isa in host_sets():
        y = np.zeros(count, storage(NAMES[result]))
        compile_all([kernel], isa)[kernel](*arrays, y, count, items=-(-count // BLOCK))
        found.append(torch.from_numpy(y.astype(bool) if result is DType.BOOL else y))
    return found


def as_stored(tensor: torch.Tensor) -> Any:
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    array = tensor.contiguous().numpy()
    return array.astype(np.uint8) if array.dtype == bool else array


@pytest.mark.parametrize("name", EXACT)
def test_special_values_keep_their_bits(name: str) -> None:
    values = list(itertools.product(SPECIAL, repeat=arity(name)))
    operands = [torch.tensor(column) for column in zip(*values, strict=True)]
    if name in LOGIC:
        operands = [t > 0 for t in operands]
    op = OPS[name]()
    want = op.evaluate(*operands)
    assert isinstance(want, torch.Tensor)
    for got in compute(op, operands, DType.of(want.dtype)):
        assert torch.equal(got.isnan(), want.isnan())
        assert torch.equal(got[~want.isnan()], want[~want.isnan()])


@pytest.mark.parametrize("name", ["floor_div", "mod"])
@pytest.mark.parametrize("dtype", [DType.I32, DType.I64])
def test_integer_division_never_traps(name: str, dtype: DType) -> None:
    """Signs as torch; a divisor of 0, and the least number by -1, give some number."""
    low = torch.iinfo(dtype.torch_dtype).min
    numbers = [low, -7, -1, 0, 1, 7, 13]
    values = list(itertools.product(numbers, [-3, -1, 0, 1, 2, 5]))
    a, b = (torch.tensor(c, dtype=dtype.torch_dtype) for c in zip(*values, strict=True))
    proper = (b != 0) & ~((a == low) & (b == -1))
    want = OPS[name]().evaluate(a[proper], b[proper])
    assert isinstance(want, torch.Tensor)
    for got in compute(OPS[name](), [a, b], dtype):
        assert torch.equal(got[proper], want)


def test_literal_powers_of_integers_are_exact() -> None:
    """Where f64 is not."""
    x = torch.tensor([3, -5, 2**50 + 1, 0])
    steps = (Step(Full((), 3, DType.I64), (), "int64"), Step(Pow(), (0, 1), "int64"))
    kernel = Elementwise(1, (Operand("int64", (True,)),), steps)
    y = np.zeros(4, np.int64)
    compile_all([kernel])[kernel](x.numpy(), y, 4, items=1)
    assert torch.equal(torch.from_numpy(y), x**3)


def test_other_literal_powers_are_built_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    """TVM's own pow warns on stderr, in the middle of a user's build."""
    x = torch.tensor([0.5, 1.5, -1.25])
    steps = (Step(Full((), 9.0, DType.F32), (), "float32"), Step(Pow(), (0, 1), "float32"))
    kernel = Elementwise(1, (Operand("float32", (True,)),), steps)
    y = np.zeros(3, np.float32)
    compile_all([kernel])[kernel](x.numpy(), y, 3, items=1)
    torch.testing.assert_close(torch.from_numpy(y), x**9)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["floor_div", "mod"])
def test_float_division_as_torch(name: str) -> None:
    values = list(itertools.product([1.0, -1.0, 7.3, -7.3, 0.1, 1e6, 0.0], [0.1, -0.1, 3.0, -2.5]))
    a, b = (torch.tensor(c) for c in zip(*values, strict=True))
    want = OPS[name]().evaluate(a, b)
    for got in compute(OPS[name](), [a, b], DType.F32):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("source", list(NAMES))
@pytest.mark.parametrize("to", list(NAMES))
def test_casts(source: DType, to: DType) -> None:
    values = torch.tensor([0.0, 1.0, -1.0, 2.75, -2.75, 100.0, 3.14159, 65000.0, 1e-8])
    x = (values.abs() if source is DType.BOOL else values).to(source.torch_dtype)
    want = x.to(to.torch_dtype)
    for got in compute(Cast(to), [x], to):
        assert torch.equal(got, as_tensor(want))


def as_tensor(tensor: torch.Tensor) -> torch.Tensor:
    array = as_stored(tensor)
    return torch.from_numpy(array.astype(bool) if tensor.dtype is torch.bool else array)


def test_half_precision_is_rounded_by_every_step() -> None:
    """(a + b) * b in bf16: the sum is rounded before the product."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(100, generator=generator).bfloat16() for _ in range(2))
    kind = Operand("bfloat16", (True,))
    steps = (Step(Add(), (0, 1), "bfloat16"), Step(Mul(), (2, 1), "bfloat16"))
    kernel = Elementwise(1, (kind, kind), steps)
    y = np.zeros(100, np.uint16)
    compile_all([kernel])[kernel](as_stored(a), as_stored(b), y, 100, items=1)
    assert torch.equal(torch.from_numpy(y.view(np.int16)).view(torch.bfloat16), (a + b) * b)


@settings(deadline=None, max_examples=25)
@given(
    shape=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    present=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_broadcasting_and_ends_of_buffers(shape: list[int], present: list[bool]) -> None:
    """where(x > y, x, y + x) with y broadcast along some axes; nothing beyond the ends."""
    rank = len(shape)
    axes = tuple(present[:rank])
    generator = np.random.default_rng(0)
    x = generator.standard_normal(shape).astype("f4")
    y = generator.standard_normal([n if p else 1 for n, p in zip(shape, axes, strict=True)])
    y = y.astype("f4")
    operands = (Operand("float32", (True,) * rank), Operand("float32", axes))
    steps = (Step(Gt(), (0, 1), "bool"), Step(Add(), (1, 0)), Step(Where(), (2, 0, 3)))
    kernel = Elementwise(rank, operands, steps)
    sizes = {f"n{a}": n for a, n in enumerate(shape)}
    for isa in host_sets():
        made = run(kernel, isa, {"x0": x, "x1": y}, sizes, {"y": tuple(shape)})
        assert np.array_equal(made["y"], np.where(x > y, x, y + x))


def test_every_op_with_an_expression_is_an_op() -> None:
    assert set(SCALARS) <= set(OPS)
