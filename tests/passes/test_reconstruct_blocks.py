"""reconstruct-blocks: blocks come nearer to the original's, by either way of rounding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.context import Context
from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Affine, Program
from edgec.passes import parse_pass, parse_pipeline
from edgec.passes.blocks import Passage, blocks, side_by_side
from edgec.passes.numerics import adaround
from edgec.passes.reconstruct_blocks import ReconstructBlocks
from edgec.passes.trainable import trainable
from edgec.passes.trainable.form import Start
from edgec.targets.onnx import Onnx
from edgec.transform import differs
from tests.programs import classifier, decoder, residual

K = 32  # width of `residual`
INT3 = "quantize-weights{bits=3,group=16,min_numel=0}"


def tensor(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def calls(count=20):
    return {"main": [[tensor(8, 6, K, seed=i)] for i in range(count)]}


def lost(program: Program, original: Program) -> float:
    """Mean square error on inputs that nothing was fitted to."""
    x = [tensor(16, 6, K, seed=99)]
    got, want = (Interpreter(p).run(x)[0] for p in (program, original))
    return float((got - want).square().mean())


# ------------------------------------------------------------------ numerics
def test_the_rectified_sigmoid_reaches_both_ends() -> None:
    """Equation 23 with zeta = 1.1, gamma = -0.1."""
    v = torch.tensor([-50.0, -2.3979, 0.0, 1.0, 2.3979, 50.0])
    wanted = (1.2 / (1 + torch.exp(-v)) - 0.1).clip(0, 1)
    torch.testing.assert_close(adaround.rectified(v), wanted)
    h = torch.linspace(0, 1, 11)
    torch.testing.assert_close(adaround.rectified(adaround.unrectified(h)), h, atol=1e-6, rtol=0)


def test_the_penalty_is_nothing_only_where_all_is_rounded() -> None:
    assert float(adaround.penalty(torch.tensor([0.0, 1.0]), 2.0)) == 0
    assert float(adaround.penalty(torch.tensor([0.5, 0.25]), 2.0)) == pytest.approx(1.75)
    betas = [adaround.annealed(i / 20) for i in range(21)]
    assert betas[:4] == [0.0] * 4 and betas[4] == 20 and betas[-1] == pytest.approx(2)
    assert betas[4:] == sorted(betas[4:], reverse=True)


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.floats(0, 3))
def test_a_split_rounds_to_the_codes_given(seed, spread) -> None:
    u = tensor(64, seed=seed) * 4
    codes = (u + spread * tensor(64, seed=seed + 1)).round().clamp(-8, 7)
    floor, h = adaround.split(u, codes)
    assert torch.equal(floor + (h > 0.5), codes)
    assert bool(((h >= 0) & (h <= 1)).all())
    same = u.round() == codes
    near = same & ((u - floor - 0.5).abs() > 0.02)
    torch.testing.assert_close((floor + h)[near], u[near])


@pytest.mark.parametrize("zero", [None, 1])
def test_a_learned_rounding_starts_as_the_codes_and_stays_next_to_the_weights(zero) -> None:
    w = tensor(8, 32)
    zeros = None if zero is None else torch.ones(8, 4, dtype=torch.int8)
    like = Affine(torch.zeros(8, 32, dtype=torch.int8), torch.full((8, 4), 0.25), zeros, 4, 0, 8)
    encoding = like.encode(w)
    form = trainable(encoding, Start(w, learned=True))
    assert torch.equal(form.value(), encoding.decode())
    assert form.encoding().digest == encoding.digest
    (parameter,) = form.parameters.values()
    with torch.no_grad():
        parameter.tensor.copy_(-parameter.tensor)
    turned = form.encoding()
    assert isinstance(turned, Affine)
    inside = (encoding.codes > -8) & (encoding.codes < 7)
    assert bool(((turned.decode() - w).abs() < 0.26)[inside].all())
    assert torch.equal(form.value(), turned.decode())
    form.soften(True)
    assert not torch.equal(form.value(), turned.decode())
    assert form.encoding().digest == turned.digest
    penalty = form.penalty(2.0)
    assert penalty is not None and float(penalty.detach()) > 0


# ------------------------------------------------------------------ blocks
def test_blocks_end_at_residual_sums_or_layers() -> None:
    graph = residual().main
    found = blocks(graph, "residual")
    assert [b.nodes[-1].op.name for b in found] == ["add", "add"]
    assert sum(len(b.nodes) for b in found) == len(graph.nodes)
    assert found[1].inputs == found[0].outputs
    layers = blocks(graph, "layer")
    assert [b.nodes[-1].op.name for b in layers] == ["linear"] * 4 + ["add"]
    assert blocks(classifier().main, "residual") == blocks(classifier().main, "layer")


@pytest.mark.parametrize("kind", ["residual", "layer"])
def test_what_passes_all_blocks_is_what_the_program_gives(kind) -> None:
    program, original = parse_pipeline([INT3]).run(residual())[0], residual()
    given = calls(2)["main"]
    last: list = []
    for block, passage, wanted in side_by_side(program, original, "main", given, kind):
        assert isinstance(passage, Passage)
        last = [passage.made(block), wanted]
    for made, one in zip(last, (program, original), strict=True):
        for values, inputs in zip(made, given, strict=True):
            assert torch.equal(values[one.main.outputs[0]], Interpreter(one).run(inputs)[0])


# ------------------------------------------------------------------ the pass
@pytest.mark.parametrize("kind", ["residual", "layer"])
@pytest.mark.parametrize("rounding", ["straight", "adaround"])
def test_less_is_lost_in_the_same_bytes(rounding, kind, tmp_path) -> None:
    program = residual()
    rounded, _ = parse_pipeline([INT3]).run(program)
    spec = f"reconstruct-blocks{{rounding={rounding},blocks={kind},steps=80,lr=0.003}}"
    made, records = parse_pipeline([INT3, spec]).run(program, calibration=calls())
    assert lost(made, program) < 0.85 * lost(rounded, program)
    assert made.nbytes == rounded.nbytes
    for name, constant in rounded.constants.items():
        assert made.constants[name].encoding.describe() == constant.encoding.describe()
    assert any("blocks are nearer" in n for n in records[-1].notes)
    target = Onnx()
    target.emit(target.legalize(made), tmp_path)
    x = calls()["main"][0]
    (got,) = Onnx.load(tmp_path).run("main", x)
    torch.testing.assert_close(got, Interpreter(made).run(x)[0], rtol=1e-4, atol=1e-4)


def test_it_goes_on_from_the_codes_of_another_pass() -> None:
    gptq = "gptq{bits=3,group=16,min_numel=0}"
    before, _ = parse_pipeline([gptq]).run(residual(), calibration=calls())
    spec = "reconstruct-blocks{steps=60,lr=0.003}"
    made, _ = parse_pipeline([gptq, spec]).run(residual(), calibration=calls())
    assert lost(made, residual()) < lost(before, residual())


def test_what_several_functions_use_stays() -> None:
    given = {
        "encode": [[torch.arange(10).view(2, 5)]],
        "step": [[torch.zeros(2, 1, dtype=torch.int64), tensor(2, 5, 32), tensor(2, 1, 32)]],
    }
    specs = ["quantize-weights{bits=3,min_numel=0}", "reconstruct-blocks{steps=4}"]
    _, records = parse_pipeline(specs).run(decoder(), calibration=given)
    assert not records[-1].modified
    assert "nothing to do: no block gains on the calls held out" in records[-1].notes


def test_steps_that_gain_nothing_leave_the_block() -> None:
    rounded, _ = parse_pipeline([INT3]).run(residual())
    options = ReconstructBlocks(steps=1, lr=0.99, warmup=0.0)
    found = options.apply(rounded, Context(calls(), residual()))
    assert found.modified or not differs(found.program, rounded)
    assert lost(found.program, residual()) <= 1.02 * lost(rounded, residual())


def test_it_is_the_same_when_it_is_done_again() -> None:
    specs = [INT3, "reconstruct-blocks{steps=8,rounding=adaround}"]
    first, second = (
        parse_pipeline(specs).run(residual(), calibration=calls())[0] for _ in range(2)
    )
    assert not differs(first, second)


def test_another_graph_than_the_original_is_left() -> None:
    rounded, _ = parse_pipeline([INT3]).run(residual())
    found = ReconstructBlocks(steps=1).apply(rounded, Context(calls(), residual(3)))
    assert not found.modified
    assert "main: its nodes are not the original's; left as it is" in found.notes


def test_wrong_options_and_missing_data_are_told() -> None:
    with pytest.raises(PassError, match=r"steps=0, need steps >= 1; batch=0, .*; lr=3.0, need"):
        ReconstructBlocks(steps=0, batch=0, lr=3.0)
    with pytest.raises(PassError, match="no original program; need one to compare with"):
        ReconstructBlocks().apply(residual(), Context(calls()))
    with pytest.raises(PassError, match="no calibration data"):
        ReconstructBlocks().apply(residual(), Context({}, residual()))


def test_text_form() -> None:
    text = "reconstruct-blocks{rounding=adaround,blocks=layer,steps=10}"
    assert str(parse_pass(text)) == text
