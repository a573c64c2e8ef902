"""drop-layers: what is left is the model without the layers, signature and all."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Builder, Constant, DType, Program, Range, State, TensorType, symbol
from edgec.passes import parse_pass
from edgec.passes.drop_layers import DropLayers
from edgec.passes.structure.residual import find_blocks, find_layers
from edgec.targets.onnx import Onnx
from edgec.transform import Pipeline
from tests.architectures import ZOO
from tests.passes.pruned import captured, exact, same

BATCH, PAST, SRC = symbol("batch"), symbol("past"), symbol("src")
E, H, D = 32, 4, 8


def encoder(layers: int, norm_first: bool) -> nn.Sequential:
    torch.manual_seed(0)
    made = [
        nn.TransformerEncoderLayer(E, H, 48, batch_first=True, norm_first=norm_first)
        for _ in range(layers)
    ]
    for parameter in nn.ModuleList(made).parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return nn.Sequential(nn.Linear(E, E), *made, nn.LayerNorm(E), nn.Linear(E, 5)).eval()


def program_of(module, x) -> Program:
    with torch.no_grad():
        return captured(module, (x,))


@cache
def encoder_program(layers: int, norm_first: bool) -> Program:
    return program_of(encoder(layers, norm_first), inputs())


def run(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """In float64."""
    with torch.no_grad():
        made: torch.Tensor = module.double()(x.double())
    return made


def scale(module: nn.Module, name: str, factor: float) -> None:
    part = module.get_submodule(name)
    assert isinstance(part, nn.Linear)
    part.weight.data *= factor
    part.bias.data *= factor


def inputs() -> torch.Tensor:
    return torch.randn(3, 6, E, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("dropped", [(0,), (1,), (3,), (1, 2), (0, 3)])
def test_is_the_module_without_the_layers(norm_first, dropped):
    module, x = encoder(4, norm_first), inputs()
    program = encoder_program(4, norm_first)
    after, _ = Pipeline((DropLayers(layers=dropped),)).run(program)
    left = nn.Sequential(*(m for i, m in enumerate(module) if i - 1 not in dropped))
    assert same(exact(after, [x])[0], run(left, x))
    assert sum(n.op.name == "attention" for n in after.main.nodes) == 4 - len(dropped)
    stored = 4 * sum(p.numel() for p in left.parameters())
    assert stored <= after.nbytes < stored + 64  # scalars


@pytest.mark.parametrize("norm_first", [False, True])
def test_one_block(norm_first):
    module, x = encoder(2, norm_first), inputs()
    program = encoder_program(2, norm_first)
    assert len(find_blocks(program.main)) == 4
    after, _ = Pipeline((DropLayers(unit="block", layers=(1,)),)).run(program)
    nodes = [n.op.name for n in after.main.nodes]
    assert nodes.count("attention") == 2
    assert nodes.count("relu") == 1
    if norm_first:  # a feed-forward that adds nothing
        scale(module[1], "linear2", 0)
        assert same(exact(after, [x])[0], run(module, x))


def test_the_layer_that_changes_least_goes():
    module, x = encoder(4, True), inputs()
    for name in ("self_attn.out_proj", "linear2"):
        scale(module[3], name, 0.01)
    given = {"main": [[x], [x + 1]]}
    after, (record,) = Pipeline((DropLayers(),)).run(program_of(module, x), calibration=given)
    assert [("dropped" in n) for n in record.notes] == [False, False, True, False]
    left = nn.Sequential(*(m for i, m in enumerate(module) if i != 3))
    assert same(exact(after, [x])[0], run(left, x))


def test_influence_is_the_formula():
    module, x = encoder(2, False), inputs()
    _, (record,) = Pipeline((DropLayers(),)).run(program_of(module, x), calibration={"main": [[x]]})
    with torch.no_grad():
        a = module[0](x)
        b = torch.nn.functional.cosine_similarity(a, module[1](a), dim=-1).mean()
    assert f"influence {1 - float(b):.4f}" in record.notes[0]


def test_onnx(tmp_path):
    x = inputs()
    after, _ = Pipeline((DropLayers(layers=(1,)),)).run(encoder_program(3, True))
    target = Onnx()
    target.emit(target.legalize(after), tmp_path)
    (got,) = Onnx.load(tmp_path).run("main", [x])
    torch.testing.assert_close(got, Interpreter(after).run([x])[0], rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------ functions and caches
def translator(layers: int) -> Program:
    """encode(x) -> cross keys of all layers; step(y, caches, cross keys): attentions as sums."""
    generator = torch.Generator().manual_seed(0)
    pool: dict[str, Constant] = {}
    sizes = {"batch": Range(1, 8), "src": Range(1, 16), "past": Range(0, 15)}
    source = TensorType(DType.F32, (BATCH, SRC, E))
    encode = Builder.new("encode", [("x", source)], pool, {n: sizes[n] for n in ("batch", "src")})

    def linear(b, x, name):
        return b.linear(x, b.constant(torch.randn(E, E, generator=generator) / 6, name), None)

    x = encode.input("x")
    cross = [linear(encode, x, f"cross{i}") for i in range(layers)]
    encode.finish(cross, [f"cross_{i}" for i in range(layers)])
    cache = TensorType(DType.F32, (BATCH, PAST, E))
    given = [(f"past_{i}", cache) for i in range(layers)]
    given += [(f"cross_{i}", source) for i in range(layers)]
    step = Builder.new("step", [("y", TensorType(DType.F32, (BATCH, 1, E))), *given], pool, sizes)
    y, grown = step.input("y"), []
    for i in range(layers):
        cache = step.concat(step.input(f"past_{i}"), linear(step, y, f"own{i}"), axis=1)
        grown.append(cache)
        y = step.add(y, linear(step, step.reduce_mean(cache, axes=(1,), keep=True), f"a{i}"))
        seen = step.softmax(
            step.matmul(linear(step, y, f"q{i}"), step.permute(f"cross_{i}", order=(0, 2, 1)))
        )
        y = step.add(y, step.matmul(seen, f"cross_{i}"))
        y = step.add(y, linear(step, step.relu(linear(step, y, f"up{i}")), f"down{i}"))
    step.finish([y, *grown], ["z", *(f"next_{i}" for i in range(layers))])
    step.graph.states = tuple(State(f"past_{i}", f"next_{i}") for i in range(layers))
    return Program({"encode": encode.graph, "step": step.graph}, pool).verify()


def test_caches_and_what_another_function_made_leave_the_signature():
    program = translator(3)
    assert [len(run) for layer in find_layers(program) for run in layer.runs] == [3, 3, 3]
    after, _ = Pipeline((DropLayers(layers=(1,)),)).run(program)
    step = after.graphs["step"]
    assert [v.name for v in step.inputs] == ["y", "past_0", "past_2", "cross_0", "cross_2"]
    assert step.output_names == ("z", "next_0", "next_2")
    assert [(s.input, s.output) for s in step.states] == [
        ("past_0", "next_0"),
        ("past_2", "next_2"),
    ]
    assert after.graphs["encode"].output_names == ("cross_0", "cross_2")
    assert "cross1" not in after.constants


def test_prefill_and_step_lose_the_same_layer():
    """Two functions with the same weights."""
    program = translator(3)
    twin = program.graphs["step"].replace(name="again", nodes=list(program.graphs["step"].nodes))
    program.graphs["again"] = twin
    layers = find_layers(program)
    assert [len(layer.runs) for layer in layers] == [2, 2, 2]
    after, _ = Pipeline((DropLayers(layers=(0,)),)).run(program)
    assert [len(after.graphs[f].states) for f in ("step", "again")] == [2, 2]


def test_an_output_from_within_a_layer_holds_it():
    program = translator(2)
    program.graphs["step"].states = ()
    given = {"step": [[torch.randn(*s) for s in [(2, 1, E), *[(2, 3, E)] * 4]]]}
    after, (record,) = Pipeline((DropLayers(),)).run(program, calibration=given)
    assert after is program
    assert any("stays: it computes next_0, an output of step" in n for n in record.notes)
    with pytest.raises(PassError, match=r"layers that cannot go: 1: .* it computes next_1"):
        Pipeline((DropLayers(layers=(1,)),)).run(program)
    after, _ = Pipeline((DropLayers(layers=(1,), signature="prune"),)).run(program)
    assert after.graphs["step"].output_names == ("z", "next_0")


class Nested(nn.Module):
    """Results in a dictionary, the state of each layer among them."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(E, E), nn.Linear(E, E)

    def forward(self, x):
        p = torch.relu(self.a(x))
        x = x + p
        q = torch.relu(self.b(x))
        return {"y": x + q, "states": [p, q]}


def test_nested_results():
    torch.manual_seed(0)
    module, x = Nested(), inputs()
    program = program_of(module, x)
    after, _ = Pipeline((DropLayers(layers=(0,), signature="prune"),)).run(program)
    made = after.run(x)
    with torch.no_grad():
        q = torch.relu(module.b(x))
    torch.testing.assert_close(made["y"], x + q)
    assert len(made["states"]) == 2
    torch.testing.assert_close(made["states"][1], q)


# ------------------------------------------------------------------ architectures
LAYERS = {
    "bert": 2,
    "gpt2_step": 2,
    "llama_step": 2,
    "t5_encoder": 2,
    "vit": 2,
    "swin": 4,
    "clip": 4,
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in LAYERS])
def test_layers_of_architectures(name):
    module, inputs, dynamic_shapes = ZOO[name]()
    program = captured(module, inputs, dynamic_shapes)
    layers = find_layers(program)
    assert len(layers) == LAYERS[name]
    for i in range(len(layers)):
        after, _ = Pipeline((DropLayers(layers=(i,), signature="prune"),)).run(program)
        attentions = [sum(n.op.name == "attention" for n in p.main.nodes) for p in (program, after)]
        assert attentions[0] - attentions[1] == 1


# ------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("drop-layers{count=0}", "count=0, need count >= 1"),
        ("drop-layers{layers=[1,1]}", "need different numbers"),
        ("drop-layers{layers=[1],count=2}", r"count=2 and layers=\[1\], need one of them"),
        ("drop-layers{unit=half}", "unit"),
    ],
)
def test_wrong_options(text, problem):
    with pytest.raises(PassError, match=problem):
        parse_pass(text)


def test_layers_that_are_not_there_are_listed():
    program = encoder_program(2, True)
    with pytest.raises(PassError, match=r"layers 2, 7; need some of 0: main/"):
        Pipeline((DropLayers(layers=(0, 2, 7)),)).run(program)


def test_the_last_layer_stays():
    x = inputs()
    given = {"main": [[x]]}
    after, (record,) = Pipeline((DropLayers(count=5),)).run(
        encoder_program(3, True), calibration=given
    )
    assert "2 of 5 layers go, no more can" in record.notes
    assert sum(n.op.name == "attention" for n in after.main.nodes) == 1


def test_nothing_to_do():
    torch.manual_seed(0)
    x = torch.randn(2, 16)
    program = captured(nn.Linear(16, 4), (x,))
    after, (record,) = Pipeline((DropLayers(),)).run(program, calibration={"main": [[x]]})
    assert after is program
    assert record.notes == ("nothing to do: no residual blocks were found",)


def test_data_are_asked_for():
    program = encoder_program(2, True)
    with pytest.raises(PassError, match="calibration"):
        Pipeline((DropLayers(),)).run(program)


def test_text_form():
    text = "drop-layers{count=2,unit=block}"
    assert str(parse_pass(text)) == text
