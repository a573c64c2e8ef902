"""Weights kept aside from a grid: which, what the rest gains, and how they are stored and run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.context import Context
from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Affine, Builder, Constant, Dense, DType, Outliers, Range, Sparse, TensorType
from edgec.passes import parse_pass, parse_pipeline
from edgec.passes.lookups import counts, hessians_of_outputs
from edgec.passes.numerics.affine import Codes, percentile_scale
from edgec.passes.numerics.descent import loss
from edgec.passes.numerics.gptq import gptq, gptq_spared
from edgec.passes.numerics.grid import Grid, decoded
from edgec.passes.numerics.outliers import choose, stored
from edgec.targets.onnx import Onnx
from tests.passes.test_gptq import (
    BATCH,
    calls,
    deviation,
    product,
    program_of,
    tensor,
    tied_program,
    two_layers,
)
from tests.passes.test_gptq_numerics import layer

RANGES = {"batch": Range(1, 64)}


def spiky(rows=32, length=64, count=10):
    """Weights with `count` great ones, in blocks of their own."""
    w = torch.randn(rows, length, generator=torch.Generator().manual_seed(0))
    places = torch.arange(count) * 3 * length + torch.arange(count)
    w.view(-1)[places] = 30.0
    return w, places


def run(program, *specs, data=None):
    given = None if data is None else {"main": data}
    after, records = parse_pipeline(specs).run(program, calibration=given)
    return after, records[-1]


# ------------------------------------------------------------------ which
def test_the_weights_that_spoil_scales_are_found():
    w, places = spiky()
    grid = Grid(Codes.of(4), 16, torch.bfloat16)
    aside = choose(w, grid, 12 / w.numel())
    assert set(places.tolist()) <= set(aside.flatten().nonzero().flatten().tolist())


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.floats(0.0, 0.2), st.booleans())
def test_no_more_than_the_ratio_and_only_under_the_mask(seed, ratio, symmetric):
    w, _, _ = layer(seed, 6, 32, 40)
    kept = torch.rand(w.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    grid = Grid(Codes.of(3), 16, torch.float32, symmetric)
    aside = choose(w * kept, grid, ratio, None, kept)
    assert int(aside.sum()) <= ratio * w.numel() and not bool((aside & ~kept).any())


def test_importance_says_which_rows_come_first():
    w = torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
    importance = torch.ones(8, 1)
    importance[5] = 1e6
    aside = choose(w, Grid(Codes.of(3), 0, torch.float32), 0.05, importance)
    assert bool(aside[5].any()) and int(aside.sum()) == int(aside[5].sum())


def test_values_are_f16_unless_one_is_beyond_its_range():
    assert stored(torch.tensor([1.0, -3])).dtype == torch.float16
    assert stored(torch.tensor([1.0, 1e6])).dtype == torch.bfloat16


# ------------------------------------------------------------------ GPTQ
@settings(max_examples=20)
@given(st.integers(0, 2**31), st.sampled_from(["activation", "natural"]), st.integers(0, 1))
def test_spared_weights_lose_less_than_codes_alone(seed, order, sweeps):
    w, _, hessian = layer(seed, 8, 48, 60)
    w[:, 7] *= 20
    grid = Grid(Codes.of(3), 16, torch.bfloat16)
    aside = choose(w, grid, 0.05)
    made = gptq_spared(w, hessian, grid, aside, 0.01, order, sweeps)
    got = torch.where(aside, stored(made.values).float(), decoded(made.rounded))
    alone = decoded(gptq(w, hessian, grid, 0.01, order, sweeps))
    assert float(loss(w, got, hessian).sum()) < float(loss(w, alone, hessian).sum())


def test_without_spared_weights_it_is_gptq():
    w, _, hessian = layer(3, 8, 48, 60)
    grid = Grid(Codes.of(3), 16, torch.bfloat16)
    none = torch.zeros(w.shape, dtype=torch.bool)
    for order in ("activation", "natural"):
        made = gptq_spared(w, hessian, grid, none, 0.01, order, 1).rounded
        want = gptq(w, hessian, grid, 0.01, order, 1)
        assert torch.equal(made[0], want[0]) and torch.equal(made[1], want[1])


# ------------------------------------------------------------------ passes
def spoilt_layers():
    program = two_layers()
    w = program.constants["first"].encoding.decode().clone()
    w.view(-1)[::400] *= 25
    program.constants["first"] = Constant("first", Dense(w))
    return program


def test_outliers_are_stored_around_the_codes_and_gain():
    program, data = spoilt_layers(), calls(8, 64, count=20)
    for name in ("quantize-weights", "gptq"):
        options = "bits=3,group=16"
        plain, _ = run(program, f"{name}{{{options}}}", data=data)
        after, record = run(program, f"{name}{{{options},outliers=0.01}}", data=data)
        e = after.constants["first"].encoding
        assert isinstance(e, Outliers) and isinstance(e.base, Affine)
        assert e.positions.numel() <= 0.01 * e.numel and record.notes == ()
        assert deviation(program, after, data) < 0.7 * deviation(program, plain, data)


def test_outliers_lie_under_a_mask():
    program, data = spoilt_layers(), calls(8, 64)
    mask = torch.tensor([True, False, False, True]).repeat(48, 16)
    dense = program.constants["first"].encoding
    program.constants["first"] = Constant("first", Sparse("two_four", mask, dense))
    for name in ("quantize-weights", "gptq"):
        after, _ = run(program, f"{name}{{bits=3,group=16,outliers=0.01}}", data=data)
        e = after.constants["first"].encoding
        assert isinstance(e, Sparse) and isinstance(e.values, Outliers)
        assert torch.equal(e.mask, mask)


def test_rows_that_are_looked_up_often_are_spared_first():
    program = tied_program()
    ids = [[torch.full((4, 5), 7)] for _ in range(4)]
    specs = "gptq{bits=2,group=16,outliers=0.01,include=[table]}"
    after, _ = parse_pipeline([specs]).run(program, calibration={"encode": ids})
    e = after.constants["table"].encoding
    assert isinstance(e, Outliers)
    assert float((e.positions // 64 == 7).float().mean()) > 0.8


def test_tables_are_rounded_for_what_they_do_to_outputs():
    program = tied_program()
    generator = torch.Generator().manual_seed(0)
    ids = [[torch.randint(0, 50, (4, 5), generator=generator)] for _ in range(40)]
    specs = "gptq{{bits=3,group=16,include=[table],tables={}}}"
    lost = []
    for tables in ("nearest", "outputs"):
        spec = specs.format(tables)
        after, (record,) = parse_pipeline([spec]).run(program, calibration={"encode": ids})
        assert record.notes == ()
        lost.append(deviation(program, after, ids, "encode"))
    assert lost[1] < 0.95 * lost[0]


def test_tables_of_halves_and_of_matrices_have_hessians():
    b = Builder.new("main", [("ids", TensorType(DType.I64, (BATCH, 3)))], None, RANGES)
    rows = [b.gather(b.constant(tensor(20, 4, 8).half(), n), b.input("ids")) for n in "ab"]
    program = program_of(b, b.mul(*rows))
    generator = torch.Generator().manual_seed(0)
    data = [[torch.randint(0, 9, (4, 3), generator=generator)] for _ in range(8)]
    found = hessians_of_outputs(program, Context({"main": data}), "test", {"a", "b"})
    assert {n: tuple(h.matrix.shape) for n, h in found.items()} == {"a": (32, 32), "b": (32, 32)}
    assert all(bool((h.matrix.diagonal() > 0).all()) for h in found.values())
    seen = counts(program, Context({"main": data}), "test", {"a"})["a"]
    assert float(seen.sum()) == 8 * 12 and not bool(seen[9:].any())


@pytest.mark.parametrize("op", ["linear", "conv", "gather"])
@pytest.mark.parametrize("bits", [4, 5, 8])
def test_onnx_has_the_outliers(op, bits, tmp_path: Path):
    if op == "gather":
        program, data, function = tied_program(), [[torch.tensor([[1, 7, 3, 49, 0]])]], "encode"
    else:
        (program, data), function = product(op), "main"
    spec = f"quantize-weights{{bits={bits},group=4,outliers=0.01,min_numel=0}}"
    after, _ = parse_pipeline([spec]).run(program)
    assert any(isinstance(c.encoding, Outliers) for c in after.constants.values())
    target = Onnx()
    target.emit(target.legalize(after), tmp_path)
    got = target.load(tmp_path).run(function, data[0])[0]
    torch.testing.assert_close(got, Interpreter(after).run(data[0], function)[0])


# ------------------------------------------------------------------ percentiles, mistakes
def test_percentiles_clip_and_the_whole_is_the_range():
    w = torch.cat([torch.linspace(-1, 1, 2001), torch.tensor([50.0])]).view(1, 1, -1)
    codes = Codes.of(8, narrow=True)
    scale, _ = percentile_scale(w, codes, torch.float32, True, 99.9)
    assert float(scale) * 127 == pytest.approx(1, rel=0.01)
    scale, _ = percentile_scale(w, codes, torch.float32, True, 100)
    assert float(scale) * 127 == pytest.approx(50)
    scale, zero = percentile_scale(w, Codes.of(8), torch.float32, False, 99.8)
    assert zero is not None and float(scale) * 255 == pytest.approx(2, rel=0.01)


def test_percentile_is_an_option_of_passes():
    program = spoilt_layers()
    _, record = run(program, "quantize-weights{bits=4,scales=percentile,percentile=95.0}")
    _, whole = run(program, "quantize-weights{bits=4,scales=percentile,percentile=100.0}")
    _, absmax = run(program, "quantize-weights{bits=4,scales=absmax}")
    assert whole.errors == absmax.errors and record.errors["second"] != absmax.errors["second"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quantize-weights{outliers=0.02}", "outliers=0.02, need 0 <= outliers <= 0.01"),
        ("gptq{outliers=-0.1}", "outliers=-0.1"),
        ("quantize-weights{percentile=0.0}", "percentile=0.0, need 0 < percentile <= 100"),
        ("quantize-weights{activations=dynamic,outliers=0.01}", "need outliers=0"),
        ("gptq{tables=all}", "tables=all, need nearest or outputs"),
    ],
)
def test_mistakes_are_told(text, message):
    with pytest.raises(PassError, match=message):
        parse_pass(text)
