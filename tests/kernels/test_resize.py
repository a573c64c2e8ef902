"""Resizing against the op's own meaning: all modes, ratios and edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.kernels import InstructionSet
from edgec.kernels.calling import host_sets
from edgec.ops.resize import Resize
from tests.kernels.guarded import run

pytest.importorskip("tvm")

SETS = pytest.mark.parametrize("isa", host_sets(), ids=lambda i: i.name)
MODES = [("nearest", False), ("linear", False), ("linear", True), ("cubic", False), ("cubic", True)]


def ratio(old: int, new: int, corners: bool) -> float:
    if corners:
        return float(np.float32(old - 1) / np.float32(new - 1)) if new > 1 else 0.0
    return float(np.float32(old) / np.float32(new))


@SETS
@pytest.mark.parametrize("mode, corners", MODES)
@settings(max_examples=20)
@given(
    sides=st.tuples(st.integers(1, 9), st.integers(1, 20)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 40)),
)
def test_resize(
    mode: Any, corners: bool, isa: InstructionSet, sides: tuple[int, int], size: tuple[int, int]
) -> None:
    from edgec.kernels.resize import Resize as Kernel

    x = torch.randn(1, 2, *sides, generator=torch.Generator().manual_seed(sum(sides))) + 1
    op = Resize(size, mode, corners)
    sizes: dict[str, float] = dict(zip(("nh", "nw", "oh", "ow"), (*sides, *size), strict=True))
    sizes |= {"planes": 2, "rh": ratio(sides[0], size[0], corners)}
    sizes |= {"rw": ratio(sides[1], size[1], corners)}
    got = run(Kernel(mode, corners), isa, {"x": x.numpy()}, sizes, {"y": (1, 2, *size)})["y"]
    if mode == "nearest":
        np.testing.assert_array_equal(got, op.evaluate(x).numpy())
        return
    # places are rounded to f32 in the kernel as in torch: one f32 run says what that costs
    exact = op.evaluate(x.double())
    own = float((op.evaluate(x).double() - exact).abs().max())
    error = float(np.abs(got - exact.numpy()).max())
    assert error <= max(10 * own, 4 * 2.0**-23 * 4 * float(exact.abs().max()))
