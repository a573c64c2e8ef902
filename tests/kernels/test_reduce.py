"""Reductions, indices of extrema, running sums and the k largest against the ops' own meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgec.kernels import InstructionSet
from edgec.kernels.calling import host_sets
from edgec.ops.reduce import (
    Argmax,
    Argmin,
    Cumsum,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceSum,
    Topk,
)
from tests.kernels.guarded import bits, check, run

pytest.importorskip("tvm")

SETS = pytest.mark.parametrize("isa", host_sets(), ids=lambda i: i.name)
LENGTHS = st.sampled_from([1, 2, 7, 16, 17, 64, 65, 131])
OPS: dict[Any, Any] = {
    "sum": ReduceSum((1,)),
    "mean": ReduceMean((1,)),
    "max": ReduceMax((1,)),
    "min": ReduceMin((1,)),
}
SHAPES = given(
    outer=st.integers(0, 3), n=LENGTHS, inner=st.sampled_from([0, 1, 3, 16, 63, 85, 150])
)


def sample(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    kind = getattr(torch, dtype)
    if dtype == "bool":
        return torch.rand(shape, generator=generator) < 0.5
    if not kind.is_floating_point:
        return torch.randint(-9, 9, shape, generator=generator).to(kind)
    return (torch.randn(shape, generator=generator) + 1).to(kind)


def reduced(kernel: Any, isa: InstructionSet, x: torch.Tensor, result: str = "y") -> Any:
    outer, n, inner = x.shape
    sizes = {"outer": outer, "n": n, "inner": inner}
    return run(kernel, isa, {"x": bits(x)}, sizes, {result: (outer, inner)})[result]


@SETS
@pytest.mark.parametrize("kind", OPS)
@settings(max_examples=12)
@SHAPES
@example(outer=2, n=1000, inner=1)
@example(outer=1, n=300, inner=64)
def test_reductions_of_floats(
    kind: Any, isa: InstructionSet, outer: int, n: int, inner: int
) -> None:
    from edgec.kernels.reduce import Reduce

    x = sample((outer, n, inner), "float32")
    op = OPS[kind]
    across = inner != 1
    got = reduced(Reduce(kind, across=across), isa, x)
    if kind in ("max", "min"):
        assert (got == op.evaluate(x).numpy()).all()
    else:
        check(op, got, op.evaluate(x.double()), n)
    if inner == 1:  # the other form means the same
        other = reduced(Reduce(kind, across=True), isa, x)
        check(op, other, op.evaluate(x.double()), n)


@SETS
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("across", [False, True])
def test_dtypes(dtype: str, across: bool, isa: InstructionSet) -> None:
    from edgec.kernels.reduce import Reduce

    x = sample((3, 37, 21 if across else 1), dtype)
    for kind in ("sum", "max", "min"):
        want = OPS[kind].evaluate(x)
        got = reduced(Reduce(kind, dtype, across), isa, x)
        if kind == "sum" and x.is_floating_point():
            check(OPS[kind], got, OPS[kind].evaluate(x.double()), 37)
        else:
            np.testing.assert_array_equal(got, bits(want))


@SETS
def test_any_and_all(isa: InstructionSet) -> None:
    from edgec.kernels.reduce import Reduce

    x = torch.tensor([[0, 0, 0], [0, 1, 0], [1, 1, 1]], dtype=torch.bool)[:, :, None]
    assert reduced(Reduce("max", "bool"), isa, x).ravel().tolist() == [0, 1, 1]
    assert reduced(Reduce("min", "bool"), isa, x).ravel().tolist() == [0, 0, 1]


@SETS
@pytest.mark.parametrize("across", [False, True])
def test_nan_and_infinities(across: bool, isa: InstructionSet) -> None:
    from edgec.kernels.reduce import Arg, Reduce

    n, inf = 70, float("inf")
    x = torch.randn(6, n, 33 if across else 1, generator=torch.Generator().manual_seed(0))
    x[1, 40], x[1, 69] = float("nan"), float("nan")
    x[2, 3], x[2, 4] = inf, inf
    x[3] = -inf
    x[4, 0] = -float("nan")
    x[5] = float("nan")
    for kind, op in OPS.items():
        got = reduced(Reduce(kind, across=across), isa, x)
        np.testing.assert_allclose(got, op.evaluate(x).numpy(), rtol=1e-5)
    for arg in (Argmax(1), Argmin(1)):
        got = reduced(Arg(isinstance(arg, Argmax), across=across), isa, x)
        np.testing.assert_array_equal(got, arg.evaluate(x).numpy())


@SETS
@pytest.mark.parametrize("across", [False, True])
def test_sums_of_nothing(across: bool, isa: InstructionSet) -> None:
    from edgec.kernels.reduce import Reduce

    x = torch.zeros(2, 0, 5 if across else 1)
    assert (reduced(Reduce("sum", across=across), isa, x) == 0).all()
    assert np.isnan(reduced(Reduce("mean", across=across), isa, x)).all()


@SETS
@pytest.mark.parametrize("dtype", ["float32", "int64"])
@settings(max_examples=12)
@SHAPES
def test_the_first_of_equal_extrema(
    dtype: str, isa: InstructionSet, outer: int, n: int, inner: int
) -> None:
    from edgec.kernels.reduce import Arg

    x = sample((outer, n, inner), "int64").to(getattr(torch, dtype))
    for op in (Argmax(1), Argmin(1)):
        got = reduced(Arg(isinstance(op, Argmax), dtype, inner != 1), isa, x)
        np.testing.assert_array_equal(got, op.evaluate(x).numpy())


@SETS
@pytest.mark.parametrize("dtype", ["float32", "int64"])
@settings(max_examples=12)
@SHAPES
def test_running_sums(dtype: str, isa: InstructionSet, outer: int, n: int, inner: int) -> None:
    from edgec.kernels.scan import Cumsum as Kernel

    x = sample((outer, n, inner), dtype)
    sizes = {"outer": outer, "n": n, "inner": inner}
    got = run(Kernel(dtype), isa, {"x": x.numpy()}, sizes, {"y": tuple(x.shape)})["y"]
    if dtype == "int64":
        np.testing.assert_array_equal(got, Cumsum(1).evaluate(x).numpy())
    else:
        check(Cumsum(1), got, Cumsum(1).evaluate(x.double()), n)


@SETS
@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("largest", [True, False])
@settings(max_examples=12)
@given(n=LENGTHS, k=st.integers(0, 20), inner=st.sampled_from([1, 3]), nans=st.booleans())
def test_the_k_largest(
    dtype: str, largest: bool, isa: InstructionSet, n: int, k: int, inner: int, nans: bool
) -> None:
    from edgec.kernels.scan import Topk as Kernel

    k = min(k, n)
    x = sample((2, n, inner), "int32").to(getattr(torch, dtype))  # many are equal
    if nans and dtype == "float32":
        x[0, n // 2], x[1, 0], x[1, n - 1] = float("nan"), float("nan"), -float("inf")
    op = Topk(k, 1, largest)
    sizes = {"outer": 2, "n": n, "inner": inner, "k": k}
    shape = (2, k, inner)
    got = run(
        Kernel(largest, dtype), isa, {"x": x.numpy()}, sizes, {"values": shape, "indices": shape}
    )
    values, indices = op.evaluate(x)
    np.testing.assert_array_equal(got["values"], values.numpy())
    np.testing.assert_array_equal(got["indices"], indices.numpy())
