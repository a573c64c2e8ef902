"""Pools against the ops' own meaning in float64: all attributes, one to three axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from edgec.kernels import InstructionSet
from edgec.kernels.calling import host_sets
from edgec.ops import windows
from edgec.ops.pool import AdaptiveAvgPool, AvgPool, MaxPool
from tests.kernels.guarded import bits, check, run

pytest.importorskip("tvm")

SETS = pytest.mark.parametrize("isa", host_sets(), ids=lambda i: i.name)


def sizes_of(x: torch.Tensor, result: tuple[int, ...], **attributes: Any) -> dict[str, int]:
    """Size parameters, missing spatial axes filled in ahead."""
    axes = x.dim() - 2
    made = {"planes": x.shape[0] * x.shape[1]}
    rows: dict[str, tuple[Any, int]] = {"n": (x.shape[2:], 1), "o": (result, 1)}
    defaults = {"k": 1, "s": 1, "g": 1, "l": 0, "h": 0}
    rows |= {name: (values, defaults[name]) for name, values in attributes.items()}
    for name, (values, default) in rows.items():
        for a, v in zip("dhw", [default] * (3 - axes) + list(values), strict=True):
            made[f"{name}{a}"] = int(v)
    return made


def result_of(x: torch.Tensor, op: Any) -> tuple[int, ...]:
    """Numbers of windows, which may be below 1."""
    dilation = getattr(op, "dilation", (1,) * len(op.kernel))
    sides = tuple(x.shape[2:])
    made = windows.output_sizes(sides, op.kernel, op.stride, op.padding, dilation, op.ceil_mode)
    return tuple(int(n) for n in made)


def pooled(kernel: Any, isa: InstructionSet, x: torch.Tensor, op: Any) -> Any:
    dilation = getattr(op, "dilation", (1,) * len(op.kernel))
    result = result_of(x, op)
    low, high = zip(*op.padding, strict=True)
    sizes = sizes_of(x, result, k=op.kernel, s=op.stride, g=dilation, l=low, h=high)
    return run(kernel, isa, {"x": bits(x)}, sizes, {"y": (*x.shape[:2], *result)})["y"]


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    axes = draw(st.integers(1, 3))

    def each(strategy: Any) -> tuple[Any, ...]:
        return tuple(draw(strategy) for _ in range(axes))

    kernel, dilation = each(st.integers(1, 3)), each(st.integers(1, 2))
    reach = [windows.extent(k, g) for k, g in zip(kernel, dilation, strict=True)]
    return {
        "sides": (*each(st.integers(1, 9))[:-1], draw(st.sampled_from([1, 7, 20, 40]))),
        "kernel": kernel,
        "stride": each(st.integers(1, 3)),
        "dilation": dilation,
        "low": tuple(draw(st.integers(0, n - 1)) for n in reach),
        "high": tuple(draw(st.integers(0, n - 1)) for n in reach),
        "ceil": draw(st.booleans()),
        "inside": draw(st.booleans()),
    }


def image(sides: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(sides))
    return (torch.randn(2, 2, *sides, generator=generator) + 1).to(dtype)


RESNET = {
    "sides": (40, 40), "kernel": (3, 3), "stride": (2, 2), "dilation": (1, 1), "low": (1, 1),
    "high": (1, 1), "ceil": False, "inside": False,
}  # fmt: skip
SAME = RESNET | {"stride": (1, 1), "inside": True}


@SETS
@settings(max_examples=40)
@given(case=cases())
@example(case=RESNET)
@example(case=SAME)
def test_max_pool(isa: InstructionSet, case: dict[str, Any]) -> None:
    from edgec.kernels.pool import Pool

    pads = tuple(zip(case["low"], case["high"], strict=True))
    op = MaxPool(case["kernel"], case["stride"], pads, case["dilation"], case["ceil"])
    x = image(case["sides"])
    assume(min(result_of(x, op)) >= 1)
    got = pooled(Pool(unit=op.stride[-1] == 1), isa, x, op)
    np.testing.assert_array_equal(got, op.evaluate(x).numpy())


@SETS
@settings(max_examples=40)
@given(case=cases())
@example(case=RESNET)
@example(case=SAME)
def test_avg_pool(isa: InstructionSet, case: dict[str, Any]) -> None:
    from edgec.kernels.pool import Pool

    low = tuple(min(n, k - 1) for n, k in zip(case["low"], case["kernel"], strict=True))
    high = tuple(min(n, k - 1) for n, k in zip(case["high"], case["kernel"], strict=True))
    pads = tuple(zip(low, high, strict=True))
    op = AvgPool(case["kernel"], case["stride"], pads, case["ceil"], not case["inside"])
    x = image(case["sides"])
    assume(min(result_of(x, op)) >= 1)
    kernel = Pool(kind="mean_inside" if case["inside"] else "mean", unit=op.stride[-1] == 1)
    got = pooled(kernel, isa, x, op)
    check(op, got, op.evaluate(x.double()), math.prod(op.kernel))


@SETS
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_dtypes(dtype: str, isa: InstructionSet) -> None:
    from edgec.kernels.pool import Pool

    x = image((9, 40), getattr(torch, dtype))
    pads = ((1, 1), (1, 1))
    largest = MaxPool((3, 3), (1, 1), pads, (1, 1))
    got = pooled(Pool(dtype, unit=True), isa, x, largest)
    np.testing.assert_array_equal(got, bits(largest.evaluate(x)))
    mean = AvgPool((3, 3), (1, 1), pads)
    got = pooled(Pool(dtype, "mean", unit=True), isa, x, mean)
    check(mean, got, mean.evaluate(x.double()), 9)


@SETS
def test_nan_and_infinities(isa: InstructionSet) -> None:
    from edgec.kernels.pool import Pool

    x = image((6, 40))
    x[0, 0, 2, 3], x[0, 1, 4, 20], x[1, 0] = float("nan"), float("inf"), -float("inf")
    op = MaxPool((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    np.testing.assert_array_equal(pooled(Pool(unit=True), isa, x, op), op.evaluate(x).numpy())


@SETS
@settings(max_examples=20)
@given(
    sides=st.lists(st.sampled_from([1, 2, 5, 7, 12]), min_size=1, max_size=3),
    bins=st.lists(st.integers(1, 6), min_size=3, max_size=3),
)
def test_adaptive_pool(isa: InstructionSet, sides: list[int], bins: list[int]) -> None:
    from edgec.kernels.pool import AdaptivePool

    x, size = image(tuple(sides)), tuple(bins[: len(sides)])
    op = AdaptiveAvgPool(size)
    sizes = sizes_of(x, size)
    got = run(AdaptivePool(), isa, {"x": x.numpy()}, sizes, {"y": (2, 2, *size)})["y"]
    largest = math.prod((n - 1) // o + 2 for n, o in zip(sides, size, strict=True))
    check(op, got, op.evaluate(x.double()), largest)
