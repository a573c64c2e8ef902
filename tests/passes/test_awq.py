"""awq: the function stays, rounding loses less, and each scale is where it costs nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Builder, Constant, Dense, DType, Program, Range, TensorType, symbol
from edgec.passes import parse_pipeline
from edgec.passes.awq import Awq
from edgec.passes.numerics.affine import Codes
from edgec.passes.numerics.awq import search
from edgec.passes.numerics.descent import loss
from edgec.passes.numerics.gptq import Hessian
from edgec.passes.numerics.grid import Grid, decoded
from edgec.transform import differs

BATCH, K = symbol("batch"), 64
OPTIONS = "bits=3,group=16"


def tensor(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def calls(count=6):
    return [[tensor(8, K, seed=i)] for i in range(count)]


def gains():
    """Of a norm: a few inputs of its layers are 20 times as strong as the others."""
    return torch.where(torch.arange(K) % 16 == 3, 20.0, 1.0)


def block(norm="layer_norm", residual=False) -> Program:
    """norm -> two linear layers -> sum; with `residual` the sum reads the norm's output too."""
    typed = [("x", TensorType(DType.F32, (BATCH, K)))]
    b = Builder.new("main", typed, {}, {"batch": Range(1, 64)})
    x = b.input("x")
    gain, bias = b.constant(gains(), "gain"), b.constant(tensor(K, seed=7), "bias")
    if norm == "linear":
        h = b.linear(x, b.constant(tensor(K, K) / 8 * gains()[:, None], "before"), bias, _name="h")
    elif norm == "rms_norm":
        h = b.rms_norm(x, gain, _name="h")
    else:
        h = b.layer_norm(x, gain, bias, _name="h")
    q, k = (b.linear(h, b.constant(tensor(K, K, seed=s), n), None) for s, n in ((1, "q"), (2, "k")))
    y = b.add(q, b.gelu(k))
    graph = b.finish([b.add(y, h) if residual else y])
    return Program({"main": graph}, graph.constants).verify()


def run(program: Program, *specs, data=None):
    return parse_pipeline(specs).run(program, calibration={"main": data or calls()})


def outputs(program: Program):
    return torch.cat([Interpreter(program).run(call)[0] for call in calls(12)[6:]])


# ------------------------------------------------------------------ numerics
@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 8), st.sampled_from([0, 8]), st.booleans())
def test_the_loss_is_never_greater_than_without_scales(seed, bits, group, symmetric):
    x, w = tensor(30, 16, seed=seed) * tensor(16, seed=seed + 1).exp(), tensor(5, 16, seed=seed + 2)
    grid = Grid(Codes.of(bits), group, torch.bfloat16, symmetric, "absmax")
    hessian = Hessian(16)
    hessian.add(x)
    s, left = search([w], x.abs().mean(0), hessian.matrix, [grid])
    assert bool((s > 0).all()) and bool(s.isfinite().all()) and left <= 1
    found, plain = (
        float(loss(w, decoded(grid.nearest(w * t)) / t, hessian.matrix).sum())
        for t in (s, torch.ones(16))
    )
    assert found <= plain
    assert left == pytest.approx(found / plain) if plain else left == 1


def test_inputs_that_are_all_zero_need_no_scales():
    grid = Grid(Codes.of(4), 0, torch.bfloat16)
    s, left = search([tensor(4, 8)], torch.zeros(8), torch.zeros(8, 8).double(), [grid])
    assert torch.equal(s, torch.ones(8)) and left == 1


# ------------------------------------------------------------------ the pass
@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm", "linear"])
def test_scales_go_into_what_makes_the_value(norm):
    program = block(norm)
    after, (record,) = run(program, f"awq{{{OPTIONS},include=[q,k]}}")
    assert record.modified and record.notes == ()
    assert [n.op for n in after.main.nodes] == [n.op for n in program.main.nodes]
    assert program.nbytes == after.nbytes
    torch.testing.assert_close(outputs(after), outputs(program), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rounding", ["quantize-weights", "gptq"])
def test_rounding_loses_less_afterwards(rounding):
    program = block()
    spec = f"{rounding}{{{OPTIONS}}}"
    want = outputs(program)
    plain, scaled = (
        float((outputs(run(program, *specs)[0]) - want).square().sum())
        for specs in ([spec], [f"awq{{{OPTIONS}}}", spec])
    )
    assert scaled < (0.7 if rounding == "quantize-weights" else 1) * plain


def test_a_value_that_others_read_is_left_or_multiplied():
    program = block(residual=True)
    after, (record,) = run(program, f"awq{{{OPTIONS}}}")
    assert not differs(program, after)
    assert record.notes == (
        "%h: read by more than linear layers, or made by no norm; left",
        "nothing to do: no inputs were scaled",
    )
    after, (record,) = run(program, f"awq{{{OPTIONS},otherwise=multiply}}")
    assert record.notes == ()
    assert sum(n.op.name == "mul" for n in after.main.nodes) == 1
    assert after.nbytes == program.nbytes + 4 * K
    torch.testing.assert_close(outputs(after), outputs(program), rtol=1e-4, atol=1e-3)


def test_constants_with_other_readers_are_not_touched():
    """A norm's gain that two norms share, and a layer's weight that is used twice."""
    typed = [("x", TensorType(DType.F32, (BATCH, K)))]
    b = Builder.new("main", typed, {}, {"batch": Range(1, 64)})
    gain, w = b.constant(gains(), "gain"), b.constant(tensor(K, K), "w")
    h = b.layer_norm(b.input("x"), gain, None, _name="h")
    y = b.linear(h, b.constant(tensor(K, K, seed=3), "q"), None)
    y = b.linear(b.linear(b.layer_norm(y, gain, None), w, None), w, None)
    graph = b.finish([y])
    program = Program({"main": graph}, graph.constants).verify()
    after, (record,) = run(program, f"awq{{{OPTIONS}}}")
    assert not differs(program, after)
    assert record.notes[0].startswith("%h: read by more")


def test_weights_that_will_not_be_rounded_are_not_scaled():
    program = block()
    for options in ("bits=3,group=48", "bits=3,group=16,skip=['*']", "bits=3,min_numel=9999"):
        after, (record,) = run(program, f"awq{{{options}}}")
        assert not differs(program, after)
        assert record.notes[-1] == "nothing to do: no inputs were scaled"
    program.constants["q"] = Constant("q", Dense(tensor(K, K).half(), DType.F32))
    after, (record,) = run(program, f"awq{{{OPTIONS}}}")
    assert not differs(program, after) and len(record.notes) == 2


def test_activations_too_great_to_square_are_told():
    program = block("linear")
    after, (record,) = run(program, f"awq{{{OPTIONS}}}", data=[[torch.full((2, K), 1e25)]])
    assert "%h: infinite squares; left" in record.notes
    assert not differs(program, after)


def test_results_are_the_same_every_time_and_the_argument_stays():
    program = block()
    before = outputs(program)
    first, second = (run(program, f"awq{{{OPTIONS}}}")[0] for _ in range(2))
    assert not differs(first, second)
    assert torch.equal(outputs(program), before)


def test_data_is_needed():
    with pytest.raises(PassError, match="no data"):
        parse_pipeline(["awq"]).run(block())
    with pytest.raises(PassError, match="leave the pass out"):
        Awq().apply(block())
