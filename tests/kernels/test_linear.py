"""The linear kernel against torch in float64: sizes with tails, strides, epilogues, tiles."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.ir import Dense
from edgec.kernels.calling import host_sets
from edgec.kernels.instruction_sets import INSTRUCTION_SETS
from edgec.kernels.linear import Linear
from edgec.kernels.panel_packing import pack
from edgec.kernels.steps import Epilogue, Step
from edgec.kernels.tiles import BLOCKINGS, CANDIDATES
from edgec.kernels.tuning import database, from_json, measuring, to_json
from edgec.kernels.tuning.__main__ import main as tune
from edgec.kernels.tuning.measuring import CASES
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
@pytest.mark.parametrize("m, k", [(500, 400), (500, 680), (200, 1400)], ids=str)
def test_rows_that_the_cache_does_not_hold_are_done_in_groups(isa, m, k):
    check_linear(Linear(), isa, m, k, 70)


@each_set
def test_a_sum_over_nothing_is_the_bias(isa):
    check_linear(Linear(), isa, 3, 0, 5)


@each_set
def test_a_linear_layer_without_bias(isa):
    check_linear(Linear(bias=False), isa, 13, 40, 37)


@each_set
def test_no_columns_of_x_leave_the_bias(isa):
    check_linear(Linear(), isa, 5, 0, 37)


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


@pytest.mark.parametrize("isa", INSTRUCTION_SETS.values(), ids=lambda isa: isa.name)
def test_blockings_are_such_as_kernels_take(isa):
    stored = database(isa.name).values()
    assert [to_json(from_json(entry)) for entry in stored] == list(stored)
    listed = [*map(from_json, stored), BLOCKINGS[isa.name], *CANDIDATES[isa.name]]
    for blocking in listed:
        rows = [t.rows for t in blocking.tiles]
        assert rows == sorted(set(rows), reverse=True)
        assert rows[-1] == 1
        assert blocking.depth % 4 == 0
        assert all(t.cols % isa.lanes == 0 and 32 % t.cols == 0 for t in blocking.tiles)
        assert all(blocking.unroll % t.split == 0 for t in blocking.tiles)


def test_every_family_of_the_database_is_measured():
    assert set(database("x86_64_avx512")) == set(CASES)


def test_a_tuner_of_unknown_instructions_says_which_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        tune(["--set", "sse"])
    assert all(isa.name in capsys.readouterr().err for isa in host_sets()[:1])


@pytest.mark.parametrize(("times", "chosen"), [((1.05, 1.0, 2.0), 0), ((1.5, 1.2, 1.0), 2)])
def test_a_tuner_keeps_the_first_of_equals(monkeypatch, times, chosen):
    candidates = CANDIDATES["wasm32"][:3]
    monkeypatch.setattr(measuring, "_times", lambda case, given, isa: iter(times))
    best, means = measuring.fastest(CASES["linear"], candidates, SETS[0])
    assert best == candidates[chosen]
    assert list(means) == list(candidates)
