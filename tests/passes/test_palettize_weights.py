"""palettize-weights: what it stores, with which data, what it leaves, and what ONNX makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Constant, Dense, Lut, Outliers, Sparse
from edgec.passes import parse_pass, parse_pipeline
from edgec.passes.numerics.descent import loss
from edgec.passes.numerics.palette import NF4, Layout, fit
from edgec.passes.numerics.palette_walk import walk
from edgec.passes.palettize_weights import PalettizeWeights
from edgec.passes.weight_pass import relative_error
from edgec.targets.onnx import Onnx
from edgec.transform import differs
from tests.passes.test_gptq import (
    BATCH,
    builder,
    calls,
    deviation,
    product,
    program_of,
    tensor,
    tied_program,
    two_layers,
)
from tests.passes.test_gptq_numerics import layer


def apply(program, calibration=None, **options):
    """Through the pipeline, so that every contract of a pass is checked on the way."""
    data = {"main": calibration} if isinstance(calibration, list) else calibration
    after, (record,) = parse_pipeline([PalettizeWeights(**options)]).run(program, calibration=data)
    return after, record


def encoding(program, name="first"):
    return program.constants[name].encoding


def large(n=256, k=128, seed=0):
    b = builder(x=(BATCH, k))
    return program_of(b, b.linear(b.input("x"), b.constant(tensor(n, k, seed=seed), "w"), None))


NO_DATA = "no calibration data: all weights are equally important"
LAYOUTS = [
    ({"bits": 4}, [1, 1, 16, 1]),
    ({"bits": 2}, [1, 1, 4, 1]),
    ({"bits": 3, "rows": 64}, [4, 1, 8, 1]),
    ({"bits": 3, "chunks": 8}, [1, 8, 8, 1]),
    ({"bits": 6, "vector": 2}, [1, 1, 64, 2]),
    ({"bits": 4, "vector": 2, "chunks": 0}, [1, 64, 16, 2]),
    ({"bits": 4, "group": 32}, [1, 1, 16, 1]),
    ({"bits": 6, "vector": 4, "group": 64, "rows": 128, "chunks": 4}, [2, 4, 64, 4]),
    ({"bits": 4, "method": "nf4", "group": 64}, [1, 1, 16, 1]),
]


# ------------------------------------------------------------------ what is stored
@pytest.mark.parametrize(("options", "shape"), LAYOUTS, ids=lambda o: str(o))
def test_layouts_bytes_and_errors(options, shape):
    program = large()
    after, record = apply(program, **options)
    e = encoding(after, "w")
    assert isinstance(e, Lut) and list(e.table.shape) == shape
    codes = 256 * 128 // shape[3] * options["bits"] // 8
    scales = 256 * 128 // options["group"] * 2 if "group" in options else 0
    assert e.nbytes == codes + e.table.numel() * 2 + scales == record.bytes_after
    w = encoding(program, "w").decode()
    assert record.errors == {"w": relative_error(w, e.decode())} and record.notes == (NO_DATA,)
    if "group" not in options:  # a vector with a scale is chosen before it is multiplied
        assert torch.equal(e.encode(w).decode(), e.decode())


def test_palettes_lose_less_than_affine_codes_of_the_same_bits():
    program = large()
    affine = parse_pipeline(["quantize-weights{bits=3,group=128}"]).run(program)[1][0].errors["w"]
    scalar = apply(program, bits=3)[1].errors["w"]
    pairs = apply(program, bits=6, vector=2)[1].errors["w"]
    groups = apply(program, bits=3, group=32)[1].errors["w"]
    assert scalar < affine and pairs < scalar and groups < scalar


def test_nf4_is_the_table_of_the_paper_with_the_greatest_of_each_block():
    program = large()
    after, _ = apply(program, method="nf4", group=64, scale_dtype="f32", table_dtype="f32")
    e = encoding(after, "w")
    blocks = encoding(program, "w").decode().view(256, 2, 64)
    torch.testing.assert_close(e.scale, blocks.abs().amax(-1))
    unit = blocks / e.scale.unsqueeze(-1)
    want = torch.tensor(NF4)[(unit.unsqueeze(-1) - torch.tensor(NF4)).abs().argmin(-1)]
    got = e.decode().view(256, 2, 64) / e.scale.unsqueeze(-1)
    torch.testing.assert_close(got, want)


def test_weights_that_take_few_values_are_kept_exactly():
    program = large()
    values = torch.tensor([-1.5, 0.0, 0.25])
    w = values[torch.randint(0, 3, (256, 128), generator=torch.Generator().manual_seed(0))]
    program.constants["w"] = Constant("w", Dense(w))
    after, record = apply(program, bits=2)
    e = encoding(after, "w")
    assert torch.equal(e.decode(), w) and e.table.shape[2] == 3 and record.errors == {"w": 0.0}


def test_a_mask_stays_and_only_what_it_keeps_counts():
    program = two_layers()
    w = encoding(program).decode()
    mask = torch.tensor([True, False, False, True]).repeat(48, 16)
    program.constants["first"] = Constant("first", Sparse("two_four", mask, Dense(w)))
    after, _ = apply(program, calls(8, 64), bits=3)
    e = encoding(after)
    assert isinstance(e, Sparse) and isinstance(e.values, Lut) and torch.equal(e.mask, mask)
    plain = large(48, 32)
    plain.constants["w"] = Constant("w", Dense(w[mask].view(48, 32)))
    want = encoding(apply(plain, bits=3)[0], "w").decode()
    unweighted = encoding(apply(program, bits=3)[0])
    assert torch.equal(unweighted.decode()[mask], want.flatten())


# ------------------------------------------------------------------ data
def test_feedback_and_importance_keep_outputs():
    program, data = two_layers(), calls(8, 64, count=20)
    lost = [
        deviation(program, apply(program, data, bits=3, **options)[0], data)
        for options in ({"importance": "none"}, {"feedback": False}, {})
    ]
    assert lost[2] < 0.6 * lost[1] < 0.6 * lost[0]


@pytest.mark.parametrize("op", ["linear", "conv", "matmul, right", "matmul, left"])
def test_all_products_are_palettized_for_their_inputs(op):
    program, data = product(op)
    options = {"bits": 3, "min_numel": 0}
    after, record = apply(program, data, **options)
    assert record.notes == ()
    plain, _ = apply(program, None, **options)
    assert deviation(program, after, data) < deviation(program, plain, data)


def test_rows_of_another_axis_get_nearest_entries_of_several_palettes():
    program, data = product("matmul, right")
    after, record = apply(program, data, bits=3, group=16)
    assert record.notes == ("@w: rows of axis 1; nearest entries",)
    e = encoding(after, "w")
    assert list(e.scale.shape) == [32, 3]


def test_rows_that_are_looked_up_get_the_better_entries():
    program = tied_program()
    ids = [[torch.tensor([[1, 3, 5, 7, 9]])] for _ in range(4)]
    options = {"bits": 2, "include": ("table",), "feedback": False}
    w = encoding(program, "table").decode()
    seen = torch.tensor([1, 3, 5, 7, 9])
    lost = []
    for importance in ("none", "inputs"):
        after, _ = apply(program, {"encode": ids}, importance=importance, **options)
        lost.append(float((encoding(after, "table").decode() - w)[seen].norm()))
    assert lost[1] < lost[0]


def test_tables_can_be_chosen_for_what_they_do_to_outputs():
    program = tied_program()
    generator = torch.Generator().manual_seed(0)
    ids = [[torch.randint(0, 50, (4, 5), generator=generator)] for _ in range(40)]
    options = {"bits": 3, "include": ("table",)}
    lost = [
        deviation(program, apply(program, {"encode": ids}, tables=t, **options)[0], ids, "encode")
        for t in ("nearest", "outputs")
    ]
    assert lost[1] < 0.95 * lost[0]


def test_outliers_are_kept_aside():
    program, data = two_layers(), calls(8, 64)
    w = encoding(program).decode().clone()
    w.view(-1)[::400] *= 25
    program.constants["first"] = Constant("first", Dense(w))
    lost = []
    for outliers in (0.0, 0.01):
        after, _ = apply(program, data, bits=3, outliers=outliers, group=16)
        lost.append(deviation(program, after, data))
    e = encoding(after)
    assert isinstance(e, Outliers) and isinstance(e.base, Lut) and lost[1] < lost[0]


def test_data_that_are_asked_for_are_needed():
    with pytest.raises(PassError, match=r"no calibration data.*importance=none"):
        apply(two_layers(), None, importance="inputs")
    _, record = apply(two_layers(), None, importance="none")
    assert record.notes == ()


# ------------------------------------------------------------------ numerics
@settings(max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from([1, 2, 4]), st.sampled_from([0, 8]), st.booleans())
def test_no_row_loses_more_by_feedback(seed, vector, group, spare):
    w, _, hessian = layer(seed, 8, 32, 50)
    made = fit(w, Layout(8, (2, 4), vector, group))
    spared = torch.zeros(w.shape, dtype=torch.bool)
    spared[:, 3] = spare
    found = walk(w, made, hessian, 0.01, spared if spare else None)
    got = found.decoded(spared if spare else None)
    first = torch.where(spared, w.half().float(), made.decoded())
    assert bool((loss(w, got, hessian) <= loss(w, first, hessian)).all())


def test_scalars_with_feedback_are_the_plain_algorithm():
    """One input after the other in natural order, on a diagonal that falls."""
    w, x, _ = layer(0, 6, 20, 200)
    x = x / x.norm(dim=0) * torch.arange(20, 0, -1)
    hessian = (x.T @ x).double()
    made = fit(w, Layout(4))
    got = walk(w, made, hessian, 0.01).palettes.decoded()
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(20)
    factor = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True).float()
    left, entries, want = w.clone(), made.table.flatten().float(), torch.empty_like(w)
    for j in range(20):
        want[:, j] = entries[(left[:, j : j + 1] - entries).abs().argmin(1)]
        error = (left[:, j] - want[:, j]) / factor[j, j]
        left[:, j + 1 :] -= error.unsqueeze(1) * factor[j, j + 1 :]
    kept = loss(w, want, hessian) < loss(w, made.decoded(), hessian)
    assert bool(kept.all()) and torch.equal(got, want)


# ------------------------------------------------------------------ ONNX, contracts, mistakes
@pytest.mark.parametrize("options", [o for o, _ in LAYOUTS[3:]] + [{"bits": 3, "outliers": 0.01}])
def test_onnx_computes_the_same(options, tmp_path: Path):
    after, _ = apply(large(), **options)
    target = Onnx()
    target.emit(target.legalize(after), tmp_path)
    x = tensor(4, 128, seed=5)
    got = target.load(tmp_path).run("main", [x])[0]
    torch.testing.assert_close(got, Interpreter(after).run([x])[0], rtol=1e-4, atol=1e-4)


def test_gathered_tables_in_onnx(tmp_path: Path):
    after, _ = apply(tied_program(), bits=3, include=("table",), vector=2)
    target, ids = Onnx(), [torch.tensor([[1, 7, 3, 49, 0]])]
    target.emit(target.legalize(after), tmp_path)
    got = target.load(tmp_path).run("encode", ids)[0]
    torch.testing.assert_close(got, Interpreter(after).run(ids, "encode")[0])


def test_what_does_not_fit_or_pay_is_left_and_told():
    after, record = apply(two_layers(), bits=8, group=32)
    assert record.notes[1:] == (
        "@first: 3776 bytes as palettes; need fewer than 3168, of 8-bit codes; left dense",
        "@second: K=48; need a multiple of group=32; left dense",
        "nothing to do: no weight was palettized",
    )
    assert not differs(after, two_layers())
    _, record = apply(two_layers(), bits=4, vector=5, rows=7)
    need = "last axis 64; need a multiple of vector=5; 48 rows; need a multiple of rows=7"
    assert record.notes[1] == f"@first: {need}; left dense"
    with pytest.raises(PassError, match="@second: K=48; need a multiple of group=32"):
        apply(two_layers(), group=32, misfits="fail")


def test_results_are_the_same_every_time_and_a_second_run_does_nothing():
    program, data = two_layers(), calls(4, 64)
    first, second = (apply(program, data, bits=4, vector=2)[0] for _ in range(2))
    assert not differs(first, second)
    again, record = apply(first, data)
    assert not differs(first, again)
    assert record.notes[-1] == "nothing to do: no weight was palettized"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("palettize-weights{bits=9,vector=0}", "bits=9, need 1 <= bits <= 8; vector=0"),
        ("palettize-weights{rows=-1,chunks=-1,group=-2}", "rows=-1.*chunks=-1.*group=-2"),
        ("palettize-weights{vector=2,group=3}", "group=3, need a multiple of vector=2"),
        ("palettize-weights{method=nf4}", "method=nf4, need bits=4 and a group"),
        ("palettize-weights{method=nf4,group=64,bits=3}", "method=nf4"),
        ("palettize-weights{outliers=0.5}", "outliers=0.5, need 0 <= outliers <= 0.01"),
        ("palettize-weights{damping=0.0}", "damping=0.0"),
        ("palettize-weights{tables=outputs,importance=none}", "tables=outputs, need feedback"),
        ("palettize-weights{importance=some}", "importance=some, need auto or none or inputs"),
    ],
)
def test_mistakes_are_told(text, message):
    with pytest.raises(PassError, match=message):
        parse_pass(text)


def test_text_form():
    text = "palettize-weights{bits=8,vector=2,chunks=0,importance=none}"
    assert str(parse_pass(text)) == text
