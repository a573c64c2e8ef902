"""Softmax and the norms against the ops' own meaning in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgec.kernels import InstructionSet
from edgec.kernels.calling import host_sets
from edgec.ops.normalize import GroupNorm, LayerNorm, LogSoftmax, RmsNorm, Softmax
from tests.kernels.guarded import bits, check, run

pytest.importorskip("tvm")

SETS = pytest.mark.parametrize("isa", host_sets(), ids=lambda i: i.name)
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
LENGTHS = st.sampled_from([1, 2, 7, 16, 17, 64, 65, 131])
ROWS = given(outer=st.integers(0, 3), n=LENGTHS, inner=st.sampled_from([0, 1, 3, 16, 63, 85]))
EPS = 2.0**-17  # an f32 number, which is what float64 kernels get, too


def sample(*shape: int, seed: int = 0, dtype: str = "float32") -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * 3 + 1).to(getattr(torch, dtype))


def softmax(x: torch.Tensor, isa: InstructionSet, log: bool, across: bool, dtype: str) -> Any:
    from edgec.kernels.softmax import Softmax as Kernel

    sizes = dict(zip(("outer", "n", "inner"), x.shape, strict=True))
    kernel = Kernel(log, dtype, across)
    return run(kernel, isa, {"x": bits(x)}, sizes, {"y": tuple(x.shape)})["y"]


@SETS
@pytest.mark.parametrize("op", [Softmax(1), LogSoftmax(1)], ids=["softmax", "log_softmax"])
@settings(max_examples=12)
@ROWS
@example(outer=2, n=1000, inner=1)
def test_softmax(op: Any, isa: InstructionSet, outer: int, n: int, inner: int) -> None:
    x, log = sample(outer, n, inner), isinstance(op, LogSoftmax)
    for across in {inner != 1, True}:
        got = softmax(x, isa, log, across, "float32")
        check(op, got, op.evaluate(x.double()), n)


@SETS
@DTYPES
@pytest.mark.parametrize("across", [False, True])
def test_softmax_of_other_dtypes(dtype: str, across: bool, isa: InstructionSet) -> None:
    x = sample(3, 37, 21 if across else 1, dtype=dtype)
    for op in (Softmax(1), LogSoftmax(1)):
        got = softmax(x, isa, isinstance(op, LogSoftmax), across, dtype)
        check(op, got, op.evaluate(x.double()), 37)


@SETS
@pytest.mark.parametrize("across", [False, True])
def test_softmax_of_extreme_values(across: bool, isa: InstructionSet) -> None:
    inf = float("inf")
    x = sample(6, 40, 33 if across else 1)
    x[0], x[1, 5], x[2, 7] = -inf, float("nan"), inf
    x[3, 1:], x[4], x[5, 11] = -inf, 1e38, -3e38
    for op in (Softmax(1), LogSoftmax(1)):
        got = softmax(x, isa, isinstance(op, LogSoftmax), across, "float32")
        np.testing.assert_allclose(got, op.evaluate(x.double()).float().numpy(), rtol=1e-5)


@SETS
@pytest.mark.parametrize("weight, bias", [(True, True), (True, False), (False, False)])
@settings(max_examples=10)
@given(rows=st.integers(0, 3), n=LENGTHS)
@example(rows=2, n=1000)
def test_layer_norm(weight: bool, bias: bool, isa: InstructionSet, rows: int, n: int) -> None:
    from edgec.kernels.normalize import LayerNorm as Kernel

    given_ = {"weight": sample(n, seed=1), "bias": sample(n, seed=2)}
    x, r = sample(rows, n), sample(rows, n, seed=3)
    there = {k: v for k, v in given_.items() if {"weight": weight, "bias": bias}[k]}
    sizes = {"rows": rows, "n": n, "eps": EPS}
    arrays = {"x": x.numpy(), "r": r.numpy(), **{k: v.numpy() for k, v in there.items()}}
    operands = [there[k].double() if k in there else None for k in given_]
    op = LayerNorm(EPS)

    plain = run(Kernel("float32", weight, bias), isa, arrays, sizes, {"y": (rows, n)})
    check(op, plain["y"], op.evaluate(x.double(), *operands), n)
    shapes = {"y": (rows, n), "s": (rows, n)}
    both = run(Kernel("float32", weight, bias, residual=True), isa, arrays, sizes, shapes)
    np.testing.assert_array_equal(both["s"], (x + r).numpy())
    check(op, both["y"], op.evaluate((x + r).double(), *operands), n)


@SETS
@settings(max_examples=10)
@ROWS
@example(outer=2, n=1000, inner=1)
def test_rms_norm(isa: InstructionSet, outer: int, n: int, inner: int) -> None:
    from edgec.kernels.normalize import RmsNorm as Kernel

    x, r, w = sample(outer, n, inner), sample(outer, n, inner, seed=1), sample(n, seed=2)
    sizes = {"outer": outer, "n": n, "inner": inner, "eps": EPS}
    arrays = {"x": x.numpy(), "r": r.numpy(), "weight": w.numpy()}
    op, shape = RmsNorm(EPS, 1), tuple(x.shape)
    for across in {inner != 1, True}:
        got = run(Kernel(across=across), isa, arrays, sizes, {"y": shape})["y"]
        check(op, got, op.evaluate(x.double(), w.double()), n)
    if inner == 1:
        kernel = Kernel(weight=False, residual=True)
        both = run(kernel, isa, arrays, sizes, {"y": shape, "s": shape})
        np.testing.assert_array_equal(both["s"], (x + r).numpy())
        check(op, both["y"], op.evaluate((x + r).double()), n)


@SETS
@pytest.mark.parametrize("affine", [True, False])
@settings(max_examples=10)
@given(
    batch=st.integers(0, 2),
    groups=st.integers(1, 3),
    channels=st.integers(1, 3),
    spatial=st.sampled_from([1, 2, 16, 17, 100]),
)
def test_group_norm(
    affine: bool, isa: InstructionSet, batch: int, groups: int, channels: int, spatial: int
) -> None:
    from edgec.kernels.normalize import GroupNorm as Kernel

    count = groups * channels
    x, w, v = sample(batch, count, spatial), sample(count, seed=1), sample(count, seed=2)
    sizes = {"batch": batch, "groups": groups, "channels": channels, "spatial": spatial}
    arrays = {"x": x.numpy(), "weight": w.numpy(), "bias": v.numpy()}
    kernel = Kernel(weight=affine, bias=affine)
    got = run(kernel, isa, arrays, {**sizes, "eps": EPS}, {"y": tuple(x.shape)})["y"]
    op = GroupNorm(groups, EPS)
    operands = (w.double(), v.double()) if affine else ()
    if channels * spatial > 1 and batch:  # torch refuses groups of one element
        check(op, got, op.evaluate(x.double(), *operands), channels * spatial)


@SETS
@DTYPES
def test_norms_of_other_dtypes(dtype: str, isa: InstructionSet) -> None:
    from edgec.kernels import normalize as k

    x, w, v = (sample(*s, seed=i, dtype=dtype) for i, s in enumerate([(6, 34), (34,), (34,)]))
    arrays = {"x": bits(x), "weight": bits(w), "bias": bits(v)}
    sizes: dict[str, float] = {"rows": 6, "n": 34, "outer": 6, "inner": 1, "eps": EPS}
    sizes |= {"batch": 6, "groups": 2, "channels": 17, "spatial": 1}
    exact = [t.double() for t in (x, w, v)]
    cases: list[tuple[Any, Any, int, int]] = [
        (k.LayerNorm(dtype), LayerNorm(EPS), 3, 34),
        (k.RmsNorm(dtype), RmsNorm(EPS), 2, 34),
        (k.GroupNorm(dtype), GroupNorm(2, EPS), 3, 17),
    ]
    for kernel, op, operands, length in cases:
        got = run(kernel, isa, arrays, sizes, {"y": (6, 34)})["y"]
        check(op, got, op.evaluate(*exact[:operands]), length)


@SETS
def test_statistics_of_a_large_mean_keep_the_variance(isa: InstructionSet) -> None:
    from edgec.kernels.normalize import LayerNorm as Kernel

    x = 1000 + sample(4, 256) / 100
    arrays, sizes = {"x": x.numpy()}, {"rows": 4, "n": 256, "eps": EPS}
    got = run(Kernel(weight=False, bias=False), isa, arrays, sizes, {"y": (4, 256)})["y"]
    own = torch.layer_norm(x, (256,), eps=EPS) - torch.layer_norm(x.double(), (256,), eps=EPS)
    want = LayerNorm(EPS).evaluate(x.double()).numpy()
    assert np.abs(got - want).max() <= 4 * own.abs().max().item()
