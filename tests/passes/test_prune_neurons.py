"""prune-neurons: hidden units and channels that go, in all the forms that blocks have."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from edgec.errors import PassError
from edgec.interpreter import Interpreter, flatten
from edgec.ir import Constant
from edgec.passes import parse_pass
from edgec.passes.prune_neurons import PruneNeurons
from edgec.passes.structure.feed_forward import find_neurons
from edgec.passes.structure.removal import Removal, remove
from edgec.targets.onnx import Onnx
from edgec.transform import Pipeline
from tests.architectures import ZOO
from tests.passes.pruned import captured, exact, same, zeroed

E, F = 16, 48
BATCH = torch.export.Dim("batch", max=8)


class Gated(nn.Module):
    """down(silu(gate) * up), gate and up of one product or two."""

    def __init__(self, fused):
        super().__init__()
        self.fused = fused
        self.both, self.gate, self.up = nn.Linear(E, 2 * F), nn.Linear(E, F), nn.Linear(E, F)
        self.down = nn.Linear(F, E, bias=False)

    def forward(self, x):
        gate, up = self.both(x).chunk(2, -1) if self.fused else (self.gate(x), self.up(x))
        return x + self.down(nn.functional.silu(gate) * up)


def plain():
    return nn.Sequential(nn.Linear(E, F), nn.GELU(), nn.Linear(F, E))


def images():
    """1x1 convolutions around a depthwise one with norms, a global mean, a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, F, 1),
        nn.BatchNorm2d(F),
        nn.ReLU6(),
        nn.Conv2d(F, F, 3, padding=1, groups=F),
        nn.BatchNorm2d(F),
        nn.ReLU6(),
        nn.Conv2d(F, 32, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


FORMS = {
    "plain": (plain, (3, 7, E), [F]),
    "gated": (lambda: Gated(False), (3, 7, E), [F]),
    "fused": (lambda: Gated(True), (3, 7, E), [F]),
    "images": (images, (3, 3, 8, 8), [F, 32]),
}


def program_of(form):
    program, x, counts = made(form)
    return program.copy(), x, counts


@cache
def made(form):
    torch.manual_seed(0)
    make, shape, counts = FORMS[form]
    module, x = make(), torch.randn(shape)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.register_buffer("running_mean", torch.randn(F))
            part.register_buffer("running_var", torch.rand(F) + 0.5)
    return captured(module, (x,), ({0: BATCH},)), x, counts


def data(x, count=4):
    generator = torch.Generator().manual_seed(1)
    return {"main": [[torch.randn(x.shape, generator=generator)] for _ in range(count)]}


def pruned(program, x, **options):
    return Pipeline((PruneNeurons(**options),)).run(program, calibration=data(x))


@pytest.mark.parametrize("form", FORMS)
def test_removed_units_are_those_with_zero_columns(form):
    program, x, counts = program_of(form)
    found = find_neurons(program, 16).structures
    assert [s.count for s in found] == counts
    gone = {0, 3, 17}
    for structure in found:
        after = remove(program, [Removal(structure.trace, frozenset(gone))]).verify()
        assert after.nbytes < program.nbytes
        want = exact(zeroed(program, [structure], gone), [x])
        assert same(exact(after, [x])[0], want[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("refit", [False, True])
def test_onnx(form, refit, tmp_path):
    program, x, _ = program_of(form)
    after, _ = pruned(program, x, ratio=0.5, refit=refit)
    target = Onnx()
    target.emit(target.legalize(after), tmp_path)
    (got,) = Onnx.load(tmp_path).run("main", [x])
    torch.testing.assert_close(got, Interpreter(after).run([x])[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("ratio", "multiple", "left"), [(0.25, 8, 40), (0.5, 1, 24), (0.9, 8, 8)])
def test_a_multiple_stays(ratio, multiple, left):
    program, x, _ = program_of("plain")
    after, _ = pruned(program, x, ratio=ratio, multiple=multiple)
    shapes = [after.constants[n].type.shape for n in ("0.weight", "2.weight")]
    assert shapes == [(left, E), (E, left)]


@pytest.mark.parametrize("score", ["magnitude", "activation", "taylor", "elimination", "fisher"])
def test_units_that_give_nothing_go_first(score):
    program, x, _ = program_of("plain")
    w = program.constants["2.weight"].encoding
    silent = torch.arange(F) % 3 == 1
    program.constants["2.weight"] = Constant("2.weight", w.encode(w.decode() * ~silent))
    before = program.constants["0.weight"].encoding.decode()
    after, _ = pruned(program, x, ratio=1 / 3, score=score, refit=False)
    assert torch.equal(after.constants["0.weight"].encoding.decode(), before[~silent])
    assert same(exact(after, [x])[0], exact(program, [x])[0])


def test_fit_makes_up_for_units_that_repeat():
    """Two equal units and one that is constant: one of the two, and the bias, can do it all."""
    program, x, _ = program_of("plain")
    for name in ("0.weight", "0.bias"):
        encoding = program.constants[name].encoding
        t = encoding.decode().clone()
        t[1::2] = t[::2]
        program.constants[name] = Constant(name, encoding.encode(t))
    given = {"main": [[x]]}
    pipeline = Pipeline((PruneNeurons(ratio=0.5, damping=1e-6),))
    after, _ = pipeline.run(program, calibration=given)
    want = exact(program, [x])[0]
    assert float((exact(after, [x])[0] - want).abs().max()) < 1e-3 * float(want.abs().max())
    left = Pipeline((PruneNeurons(ratio=0.5, refit=False),)).run(program, calibration=given)[0]
    assert float((exact(left, [x])[0] - want).abs().max()) > 0.05 * float(want.abs().max())


def test_fit_is_to_what_was_before_all_layers():
    torch.manual_seed(0)
    x = torch.randn(64, E)
    program = captured(nn.Sequential(plain(), nn.ReLU(), plain()), (x,))
    want = Interpreter(program).run([x])[0]
    losses = {}
    for refit in (False, True):
        step = PruneNeurons(ratio=0.5, refit=refit)
        after, _ = Pipeline((step,)).run(program, calibration={"main": [[x]]})
        losses[refit] = float((Interpreter(after).run([x])[0] - want).square().mean())
    assert losses[True] < 0.7 * losses[False]


def test_streams_and_heads_are_no_hidden_units():
    module, inputs, shapes = ZOO["bert"]()
    program = captured(module, inputs, shapes)
    found = find_neurons(program, 2)
    assert [s.count for s in found.structures] == [64, 64]
    assert {why for _, why in found.refused} >= {
        "layer_norm over units",
        "a reshape spreads units over several axes",
    }


def test_shared_weights_lose_the_same_units():
    module, inputs, shapes = ZOO["albert"]()
    program = captured(module, inputs, shapes)
    (structure,) = find_neurons(program, 2).structures
    assert len(structure.where) == len(structure.trace.sinks) == 2
    flat = list(flatten(program.main, inputs))
    after, (record,) = Pipeline((PruneNeurons(),)).run(program, calibration={"main": [flat]})
    assert after.nbytes < program.nbytes
    assert any("a weight of several products; not fitted" in n for n in record.notes)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in ZOO])
def test_architecture(name):
    module, inputs, dynamic_shapes = ZOO[name]()
    program = captured(module, inputs, dynamic_shapes)
    flat = [torch.as_tensor(t) for t in flatten(program.main, inputs)]
    for structure in find_neurons(program, 2).structures:
        after = remove(program, [Removal(structure.trace, frozenset({1}))]).verify()
        wanted = exact(zeroed(program, [structure], {1}), flat)
        assert all(map(same, exact(after, flat), wanted))


# ------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prune-neurons{ratio=2.0}", "ratio=2.0"),
        ("prune-neurons{multiple=0,least=1}", "multiple=0, need multiple >= 1; least=1"),
        ("prune-neurons{grouped=queries}", "grouped"),
    ],
)
def test_wrong_options(text, problem):
    with pytest.raises(PassError, match=problem):
        parse_pass(text)


def test_nothing_to_do():
    torch.manual_seed(0)
    x = torch.randn(2, E)
    program = captured(nn.Linear(E, 4), (x,))
    after, (record,) = Pipeline((PruneNeurons(),)).run(program, calibration={"main": [[x]]})
    assert after is program
    assert record.notes == ("nothing to do: no hidden units were found",)


def test_too_few_for_a_multiple():
    program, x, _ = program_of("plain")
    after, (record,) = pruned(program, x, ratio=0.1, multiple=16)
    assert after is program
    assert "nothing to do: no hidden units to remove" in record.notes


def test_a_count_that_a_layer_cannot_lose_is_told():
    program, x, (count, *_) = program_of("plain")
    _, (record,) = pruned(program, x, count=count + 1)
    assert f"{count - 8} of {count} hidden units removed, which cannot lose" in record.notes[0]


@pytest.mark.parametrize("score", ["elimination", "activation", "taylor", "fisher"])
def test_inputs_beyond_measure_make_no_weights_that_are_not_finite(score):
    x = torch.randn(6, E)
    layers = nn.Sequential(nn.Linear(E, 32), nn.ReLU(), nn.Linear(32, E))
    program, calls = captured(layers, (x,)), {"main": [[x * 1e25]]}
    after, (record,) = Pipeline((PruneNeurons(score=score),)).run(program, calibration=calls)
    assert all(bool(c.encoding.decode().isfinite().all()) for c in after.constants.values())
    said = " ".join(record.notes)
    assert "hidden units stay, NaN or infinite scores" in said or "not fitted" in said


def test_layer_that_no_data_reach_is_scored_by_its_weights():
    program, x, _ = program_of("plain")
    program.graphs["other"] = program.main.replace(name="other")
    module = Pipeline((PruneNeurons(),))
    after, _ = module.run(program, calibration={"other": [[x]]})
    assert all(map(same, exact(after, [x], "main"), exact(after, [x], "other")))


def test_text_form():
    text = "prune-neurons{count=16,score=activation,multiple=4}"
    assert str(parse_pass(text)) == text
