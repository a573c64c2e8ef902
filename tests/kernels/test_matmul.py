"""Batched products against torch: broadcasting, strides, dtypes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.kernels.calling import host_sets
from edgec.kernels.matmul import Matmul, PlainMatmul
from edgec.ops.linear import Matmul as MatmulOp
from tests.kernels.guarded import bits, check, run

SETS = host_sets()
tails = st.sampled_from([1, 2, 3, 7, 8, 12, 17, 31, 32, 33, 40, 65, 97])


def axis_sizes(leading, a, b, y):
    """Extents and strides of the leading axes, 0 along an axis of extent 1 that is repeated."""
    sizes = {}
    for i, extent in enumerate(leading):
        sizes[f"extent{i}"] = extent
        for name, tensor in (("a", a), ("b", b), ("y", y)):
            repeated = tensor.shape[i] == 1 and extent > 1
            sizes[f"{name}_axis{i}"] = 0 if repeated else tensor.stride(i)
    return sizes


def check_product(kernel, isa, a, b, b_sizes):
    """b_sizes: the strides of b, by name."""
    want = a.double() @ b.double()
    leading = want.shape[:-2]
    sizes = {"m": a.shape[-2], "n": b.shape[-1], "k": a.shape[-1]}
    sizes |= {"a_row": a.stride(-2), "a_col": a.stride(-1), "y_row": want.shape[-1], **b_sizes}
    sizes |= axis_sizes(leading, a, b, want)
    arrays = {"a": memory(a), "b": memory(b)}
    return run(kernel, isa, arrays, sizes, {"y": tuple(want.shape)})["y"], want


def memory(x):
    """The elements in the order in which they lie."""
    size = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True))
    return bits(x.as_strided((size,), (1,)))


@settings(max_examples=25)
@given(tails, st.integers(1, 40) | st.sampled_from([256, 300]), tails, st.integers(0, 7))
def test_matmul_is_torchs_for_any_size(m, k, n, choice):
    isa, transposed, turned = SETS[choice % len(SETS)], bool(choice & 2), bool(choice & 4)
    a = torch.randn(2, k, m).mT if turned else torch.randn(2, m, k)
    b = torch.randn(2, n, k).mT if transposed else torch.randn(2, k, n)
    row = {"b_row": b.stride(-1) if transposed else b.stride(-2)}
    made, want = check_product(Matmul(1, transposed), isa, a, b, row)
    check(MatmulOp(), made, want, k)


@pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
def test_leading_axes_broadcast(isa):
    a, b = torch.randn(3, 1, 5, 9), torch.randn(1, 2, 9, 35)
    made, want = check_product(Matmul(2), isa, a, b, {"b_row": 35})
    check(MatmulOp(), made, want, 9)


def test_no_leading_axis():
    a, b = torch.randn(33, 9), torch.randn(9, 35)
    made, want = check_product(Matmul(0), SETS[0], a, b, {"b_row": 35})
    check(MatmulOp(), made, want, 9)


@pytest.mark.parametrize("name", ["int64", "int32", "int8", "uint8", "float64", "bfloat16"])
def test_a_product_of_any_dtype(name):
    dtype = getattr(torch, name)
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randint(0, 5, s, generator=generator).to(dtype) for s in ((3, 4, 9), (3, 7, 9)))
    b = b.mT
    strides = {"b_row": b.stride(-2), "b_col": b.stride(-1)}
    made, want = check_product(PlainMatmul(name), SETS[0], a, b, strides)
    if dtype.is_floating_point:
        check(MatmulOp(), made, want, 9)
    else:
        assert torch.equal(torch.from_numpy(made), a @ b)
