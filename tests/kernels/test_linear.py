"""The linear kernel against torch in float64: sizes with tails, strides, epilogues, tiles."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.ir import Dense
from edgec.kernels.calling import host_sets
from edgec.kernels.linear import Linear
from edgec.kernels.panel_packing import pack
from edgec.kernels.steps import Epilogue, Step
from edgec.kernels.tiles import BLOCKINGS
from edgec.kernels.tuning import database, from_json, to_json
from edgec.ops.activations import Gelu
from edgec.ops.elementwise import Add, Mul
from edgec.ops.linear import Linear as LinearOp
from tests.kernels.guarded import check, run

SETS = host_sets()
each_set = pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
tails = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 12, 31, 32, 33, 40, 64, 65, 95, 96, 97, 100])


def strided(x, stride):
    """Rows of another length, the rest of which is NaN."""
    wide = torch.full((len(x), stride), torch.nan)
    wide[:, : x.shape[1]] = x
    return wide.reshape(-1)[: (len(x) - 1) * stride + x.shape[1]]


def check_linear(kernel, isa, m, k, n, more=None, wanted=None, gap=0):
    x, w, bias = torch.randn(m, k), torch.randn(n, k), torch.randn(n)
    want = x.double() @ w.double().T + (bias.double() if kernel.bias else 0)
    want = want if wanted is None else wanted(want)
    arrays = {"x": strided(x, k + gap).numpy(), "w": pack(Dense(w))[1]["w"], "bias": bias.numpy()}
    if not kernel.bias:
        del arrays["bias"]
    arrays |= {name: array.numpy() for name, array in (more or {}).items()}
    sizes = {"m": m, "n": n, "k": k, "x_stride": k + gap, "y_stride": n}
    sizes |= {"e1_stride": n} if "e1" in arrays else {}
    made = run(kernel, isa, arrays, sizes, {"y": (m, n)})["y"]
    check(LinearOp(), made, want, k)


@settings(max_examples=40)
@given(tails, st.integers(1, 20) | st.sampled_from([256, 257, 300, 515]), tails, st.integers(0, 9))
def test_linear_is_torchs_for_any_size(m, k, n, choice):
    isa, gap = SETS[choice % len(SETS)], choice // 2
    check_linear(Linear(), isa, m, k, n, gap=gap)


@each_set
def test_a_linear_layer_without_bias(isa):
    check_linear(Linear(bias=False), isa, 13, 40, 37)


@each_set
def test_a_linear_layer_has_epilogues_of_every_extent(isa):
    m, n = 11, 39
    chain = [(Add(), 1), (Mul(), 2), (Add(), 3), (Mul(), 4)]
    steps = (Step(Gelu(), (0,)), *(Step(op, (5 + i, e)) for i, (op, e) in enumerate(chain)))
    epilogue = Epilogue(("full", "row", "column", "scalar"), steps)
    e1, e2, e3, e4 = torch.randn(m, n), torch.randn(n), torch.randn(m), torch.randn(1)

    def wanted(y):
        y = torch.nn.functional.gelu(y) + e1.double()
        return (y * e2.double() + e3.double().unsqueeze(1)) * e4.double()

    more = {"e1": e1, "e2": e2, "e3": e3, "e4": e4}
    check_linear(Linear(epilogue=epilogue), isa, m, 50, n, more, wanted)


@pytest.mark.parametrize("name", ["aarch64", "wasm32"])
def test_tiles_of_other_machines_compute_the_same(name):
    check_linear(Linear(blocking=BLOCKINGS[name]), SETS[-1], 29, 70, 45)


@pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
def test_the_database_has_blockings_that_kernels_take(isa):
    for entry in database(isa.name).values():
        blocking = from_json(entry)
        assert to_json(blocking) == entry
        assert blocking.tiles[-1].rows == 1
        assert blocking.depth % 4 == 0
        assert all(t.cols % isa.lanes == 0 and 32 % t.cols == 0 for t in blocking.tiles)
        assert all(blocking.unroll % t.split == 0 for t in blocking.tiles)
