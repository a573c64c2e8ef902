"""prune-heads: the heads that go are gone with all that belongs to them, and nothing else is."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from edgec.compiler.build import fitting
from edgec.errors import PassError
from edgec.interpreter import Interpreter, flatten
from edgec.ir import Builder, Constant, DType, Program, Range, State, TensorType, symbol
from edgec.passes import parse_pass, parse_pipeline
from edgec.passes.drop_layers import DropLayers
from edgec.passes.prune_heads import PruneHeads
from edgec.passes.structure.heads import find_heads
from edgec.passes.structure.removal import Removal, remove
from edgec.targets.onnx import Onnx
from edgec.transform import Pipeline
from tests.architectures import ZOO
from tests.passes.pruned import captured, exact, same, without, zeroed

BATCH, PAST, SRC = symbol("batch"), symbol("past"), symbol("src")
E, H, D = 32, 4, 8


class Block(nn.Module):
    """x + attention(x), the projections in one product or three, perhaps a bias per head."""

    def __init__(self, fused=False, biased=False, kv_heads=H):
        super().__init__()
        self.fused, self.kv_heads = fused, kv_heads
        width = E + 2 * kv_heads * D
        self.qkv = nn.Linear(E, width)
        self.parts = nn.ModuleList(nn.Linear(E, n * D) for n in (H, kv_heads, kv_heads))
        self.out = nn.Linear(E, E)
        self.bias = nn.Parameter(torch.randn(H, 6, 6)) if biased else None

    def forward(self, x):
        sizes = (E, self.kv_heads * D, self.kv_heads * D)
        made = self.qkv(x).split(sizes, -1) if self.fused else [p(x) for p in self.parts]
        q, k, v = (t.unflatten(-1, (-1, D)).transpose(1, 2) for t in made)
        y = nn.functional.scaled_dot_product_attention(
            q, k, v, self.bias, enable_gqa=self.kv_heads != H
        )
        return x + self.out(y.transpose(1, 2).flatten(2))


def block(layers=1, **options) -> tuple[Program, list[torch.Tensor]]:
    program, inputs = made(layers, tuple(sorted(options.items())))
    return program.copy(), inputs


@cache
def made(layers, options):
    torch.manual_seed(0)
    x = torch.randn(3, 6, E)
    module = nn.Sequential(*(Block(**dict(options)) for _ in range(layers)))
    return captured(module, (x,), ({0: torch.export.Dim("batch", max=8)},)), [x]


def data(x, count=4):
    generator = torch.Generator().manual_seed(1)
    return {"main": [[torch.randn(x.shape, generator=generator)] for _ in range(count)]}


def pruned(program, x, **options):
    return Pipeline((PruneHeads(**options),)).run(program, calibration=data(x))


# ------------------------------------------------------------------ what is removed
@pytest.mark.parametrize(
    "options",
    [{}, {"fused": True}, {"biased": True}, {"kv_heads": 2}, {"fused": True, "kv_heads": 2}],
)
def test_removed_heads_are_those_with_zero_columns(options):
    program, inputs = block(**options)
    (structure,) = find_heads(program).structures
    assert structure.count == options.get("kv_heads", H)
    after = remove(program, [Removal(structure.trace, frozenset({1}))]).verify()
    want = exact(zeroed(program, [structure], {1}), inputs)
    assert same(exact(after, inputs)[0], want[0])


def test_all_that_belongs_to_a_head_goes():
    program, _ = block(fused=True, biased=True)
    (structure,) = find_heads(program).structures
    after = remove(program, [Removal(structure.trace, frozenset({0, 2}))])
    shapes = sorted(tuple(c.type.shape) for c in after.constants.values() if c.type.rank)
    assert shapes == [(2, 6, 6), (32,), (32, 16), (48,), (48, 32)]
    (attention,) = (n for n in after.main.nodes if n.op.name == "attention")
    assert attention.output.type.shape[1] == 2
    assert after.constants.keys() <= program.constants.keys()


def test_kept_weights_are_the_same_bits():
    program, inputs = block()
    after, _ = pruned(program, inputs[0], score="magnitude", refit=False)
    name = next(n for n in program.constants if n.endswith("parts.0.weight"))
    before, left = (p.constants[name].encoding.decode() for p in (program, after))
    rows = {tuple(r) for r in before.tolist()}
    assert left.shape == (24, 32)
    assert all(tuple(r) in rows for r in left.tolist())


def test_queries_of_a_group_go_evenly():
    program, inputs = block(kv_heads=2)
    (structure,) = find_heads(program, grouped="queries").structures
    assert (structure.count, structure.even) == (4, 2)
    after, _ = pruned(program, inputs[0], grouped="queries", ratio=0.5, refit=False)
    (attention,) = (n for n in after.main.nodes if n.op.name == "attention")
    assert [after.main.type(n or "").shape[1] for n in attention.inputs[:3]] == [2, 2, 2]
    heads = kept_heads(program, after, "parts.0.weight")
    assert [h // 2 for h in heads] == [0, 1]
    want = exact(zeroed(program, [structure], set(range(4)) - set(heads)), inputs)
    assert same(exact(after, inputs)[0], want[0])


def kept_heads(program: Program, after: Program, suffix: str) -> list[int]:
    """Heads whose rows of a projection are left."""
    name = next(n for n in program.constants if n.endswith(suffix))
    before, left = (p.constants[name].encoding.decode() for p in (program, after))
    return [h for h in range(len(before) // D) if any(torch.equal(before[h * D], r) for r in left)]


def test_layers_may_have_different_numbers_of_heads():
    program, inputs = block(layers=2)
    first, second = find_heads(program).structures
    removals = [Removal(first.trace, frozenset({0, 1, 2})), Removal(second.trace, frozenset({3}))]
    after = remove(program, removals).verify()
    made = [n.output.type.shape[1] for n in after.main.nodes if n.op.name == "attention"]
    assert made == [1, 3]
    once = zeroed(program, [first], {0, 1, 2})
    want = exact(zeroed(once, [second], {3}), inputs)
    assert same(exact(after, inputs)[0], want[0])


def test_a_head_that_gives_nothing_goes_first_by_every_score():
    program, inputs = block()
    name = next(n for n in program.constants if n.endswith("out.weight"))
    w = program.constants[name].encoding.decode().clone()
    w[:, 2 * D : 3 * D] = 0
    program.constants[name] = Constant(name, program.constants[name].encoding.encode(w))
    for score in ("magnitude", "activation", "taylor", "relevance", "elimination"):
        for refit in (False, True):
            after, _ = pruned(program, inputs[0], score=score, refit=refit)
            assert kept_heads(program, after, "parts.0.weight") == [0, 1, 3], score
            before, left = (Interpreter(p).run(inputs)[0] for p in (program, after))
            # only the ridge of the fit and float32 are between them
            assert float((before - left).abs().max()) < 1e-4 * float(before.abs().max())


def test_fit_loses_less_than_zeros():
    program, inputs = block(layers=2)
    want = Interpreter(program).run(inputs)[0]
    losses = []
    for refit in (False, True):
        after, _ = Pipeline((PruneHeads(refit=refit, score="activation"),)).run(
            program, calibration={"main": [inputs]}
        )
        losses.append(float((Interpreter(after).run(inputs)[0] - want).square().mean()))
    assert losses[1] < losses[0]


def test_least_of_all_layers_together():
    program, inputs = block(layers=3)
    after, records = pruned(program, inputs[0], per_layer=False, score="taylor", ratio=0.5)
    left = [n.output.type.shape[1] for n in after.main.nodes if n.op.name == "attention"]
    assert sum(left) == 6
    assert min(left) >= 1
    assert any("heads removed" in n for n in records[0].notes)


# ------------------------------------------------------------------ functions and caches
def translator(fixed: bool = False) -> Program:
    """encode(x) -> cross keys and values; step(y, keys, values, cross) with caches as states."""
    generator = torch.Generator().manual_seed(0)
    pool: dict[str, Constant] = {}
    sizes = {"batch": Range(1, 8), "src": Range(1, 16), "past": Range(0, 15)}
    encode = Builder.new(
        "encode",
        [("x", TensorType(DType.F32, (BATCH, SRC, E)))],
        pool,
        {n: sizes[n] for n in ("batch", "src")},
    )

    def weight(b, name, rows=E):
        return b.constant(torch.randn(rows, E, generator=generator) / 6, name)

    def heads(b, x, name, length):
        y = b.linear(
            x,
            weight(b, f"{name}.weight"),
            b.constant(torch.randn(E, generator=generator), f"{name}.bias"),
        )
        return b.permute(b.reshape(y, shape=(BATCH, length, H, D)), order=(0, 2, 1, 3))

    def merged(b, y):
        shape = (BATCH, 1, E)
        return b.reshape(b.permute(y, order=(0, 2, 1, 3)), shape=shape)

    x = encode.input("x")
    encode.finish(
        [heads(encode, x, "ck", SRC), heads(encode, x, "cv", SRC)], ["cross_k", "cross_v"]
    )
    slots = 12 if fixed else PAST
    cache = TensorType(DType.F32, (BATCH, H, slots, D))
    cross = TensorType(DType.F32, (BATCH, H, SRC, D))
    inputs = [("y", TensorType(DType.F32, (BATCH, 1, E))), ("k", cache), ("v", cache)]
    step = Builder.new("step", [*inputs, ("cross_k", cross), ("cross_v", cross)], pool, dict(sizes))
    if fixed:
        del step.graph.dims["past"]
    y = step.input("y")
    grown = []
    for n in ("k", "v"):
        new = heads(step, y, n, 1)
        old = step.input(n)
        if fixed:
            old = step.slice(old, axis=2, start=1)
        grown.append(step.concat(old, new, axis=2))
    own = step.attention(heads(step, y, "q", 1), *grown, None)
    y = step.add(y, step.linear(merged(step, own), weight(step, "o"), None))
    seen = step.attention(heads(step, y, "cq", 1), "cross_k", "cross_v", None)
    y = step.add(y, step.linear(merged(step, seen), weight(step, "co"), None))
    step.finish([y, *grown], ["z", "k_next", "v_next"])
    step.graph.states = (State("k", "k_next"), State("v", "v_next"))
    return Program({"encode": encode.graph, "step": step.graph}, pool).verify()


@pytest.mark.parametrize("fixed", [False, True])
def test_caches_shrink_in_all_functions(fixed):
    program = translator(fixed)
    own, cross = find_heads(program).structures
    removals = [Removal(own.trace, frozenset({0})), Removal(cross.trace, frozenset({1, 3}))]
    after = remove(program, removals).verify()
    types = {v.name: v.type.shape[1] for v in after.graphs["step"].inputs}
    assert types == {"y": 1, "k": 3, "v": 3, "cross_k": 2, "cross_v": 2}
    assert [t.shape[1] for t in after.graphs["encode"].output_types()] == [2, 2]
    assert after.graphs["step"].states == program.graphs["step"].states
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(2, 5, E, generator=generator), torch.randn(2, 1, E, generator=generator)
    wanted = zeroed(zeroed(program, [own], {0}), [cross], {1, 3})
    assert all(map(same, two_steps(after, x, y, fixed), two_steps(wanted, x, y, fixed)))


def two_steps(program: Program, x, y, fixed):
    """Both functions, the caches of the first step in the second."""
    cross = exact(program, [x], "encode")
    shape = program.graphs["step"].inputs[1].type.shape
    empty = torch.zeros(2, shape[1], 12 if fixed else 0, D)
    z, k, v = exact(program, [y, empty, empty, *cross], "step")
    return [z, exact(program, [z.float(), k, v, *cross], "step")[0]]


def test_passes_behind_get_data_for_the_smaller_caches():
    program = translator()
    x, y = torch.randn(2, 5, E), torch.randn(2, 1, E)
    caches = [torch.randn(2, H, n, D) for n in (3, 3, 5, 5)]
    given = {"encode": [[x]], "step": [[y, *caches]]}
    steps = (PruneHeads(ratio=0.5), PruneHeads(ratio=0.5), DropLayers(layers=(0,), unit="block"))
    after, records = Pipeline((*steps, PruneHeads(ratio=0.5))).run(program, calibration=given)
    assert [r.modified for r in records] == [True, True, True, False]
    assert [v.name for v in after.graphs["step"].inputs] == ["y", "cross_k", "cross_v"]
    assert after.graphs["step"].inputs[1].type.shape[1] == 1


@pytest.mark.parametrize(("pattern", "found"), [("window(2)", 1), ("dilated(4, 2)", 0)])
def test_heads_whose_number_says_what_they_see_stay(pattern, found):
    program, _ = block()
    program, _ = parse_pipeline([f"sparsify-attention{{pattern='{pattern}'}}"]).run(program)
    heads = find_heads(program)
    assert len(heads.structures) == found
    why = "a pattern in which each head has tokens of its own"
    assert [reason for _, reason in heads.refused] == [why] * (1 - found)


def test_keys_that_are_inputs_of_no_state_stay():
    program = translator()
    program.graphs["step"].states = ()
    found = find_heads(program)
    assert [where for where, _ in found.refused] == ["step/attention"]
    assert found.refused[0][1] in ("k is an input of step", "k_next is an output of step")
    assert len(find_heads(program, signature="prune").structures) == 2


def test_onnx_of_pruned_functions(tmp_path):
    program = translator()
    x = torch.randn(2, 5, E, generator=torch.Generator().manual_seed(0))
    after, _ = Pipeline((PruneHeads(score="magnitude", refit=False),)).run(program)
    target = Onnx()
    target.emit(target.legalize(after), tmp_path)
    got = Onnx.load(tmp_path).run("encode", [x])
    for a, b in zip(got, Interpreter(after).run([x], "encode"), strict=True):
        assert a.shape[1] == 3
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_samples_of_functions_that_take_others_are_left_out_of_a_build():
    program = translator()
    after, _ = Pipeline((PruneHeads(score="magnitude", refit=False),)).run(program)
    samples = {"encode": [[torch.randn(2, 5, E)]], "step": [[torch.randn(2, 1, E)]]}
    assert fitting(samples, program, program) == samples
    assert fitting(samples, program, after) == {"encode": samples["encode"]}
    assert fitting(None, program, after) is None


# ------------------------------------------------------------------ architectures
NO_HEADS = {
    "convnext",
    "efficientnet",
    "fnet",
    "gru_keyword_spotter",
    "lstm_tagger",
    "mamba_prefill",
    "mobilenet_v2",
    "resnet",
    "unet",
}
DEFAULT = {"gpt2_step", "llama_step", "t5_decoder_step", "swin"}


@pytest.mark.parametrize("grouped", ["groups", "queries"])
@pytest.mark.parametrize(
    "name", [n if n in DEFAULT else pytest.param(n, marks=pytest.mark.slow) for n in ZOO]
)
def test_architecture(name, grouped):
    module, inputs, dynamic_shapes = ZOO[name]()
    program = captured(module, inputs, dynamic_shapes)
    found = find_heads(program, "prune", grouped)
    assert found.refused == []
    one_group = name == "gemma_step" and grouped == "groups"
    assert bool(found.structures) == (name not in NO_HEADS and not one_group)
    flat = [torch.as_tensor(t) for t in flatten(program.main, inputs)]
    for structure in found.structures:
        gone = set(range(1, structure.count, structure.even)) if structure.even > 1 else {1}
        after = remove(program, [Removal(structure.trace, frozenset(gone))]).verify()
        assert after.nbytes < program.nbytes
        shapes = [v.type.shape for v in after.main.inputs]
        less = [without(x, s, gone) for x, s in zip(flat, shapes, strict=True)]
        wanted = exact(zeroed(program, [structure], gone), flat)
        for got, want in zip(exact(after, less), wanted, strict=True):
            assert same(got, without(want, got.shape, gone))


# ------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prune-heads{ratio=1.0}", "ratio=1.0, need 0 <= ratio < 1"),
        ("prune-heads{ratio=-0.1,count=-1}", "ratio=-0.1.*; count=-1"),
        ("prune-heads{damping=0.0}", "damping=0.0"),
        ("prune-heads{layers=[-1]}", "layers"),
        ("prune-heads{layers=[0,0]}", "need different numbers"),
        ("prune-heads{ratio=0.5,count=1}", "ratio=0.5 and count=1, need one of them"),
        ("prune-heads{score=luck}", "score"),
    ],
)
def test_wrong_options(text, problem):
    with pytest.raises(PassError, match=problem):
        parse_pass(text)


def test_layers_that_are_not_there_are_listed():
    program, inputs = block(layers=2)
    with pytest.raises(
        PassError, match="layers 2, 5; need layers with heads: 0: main/attention; 1"
    ):
        pruned(program, inputs[0], layers=(1, 2, 5))


def test_only_the_layers_that_are_named():
    program, inputs = block(layers=3)
    after, _ = pruned(program, inputs[0], layers=(1,), count=3)
    left = [n.output.type.shape[1] for n in after.main.nodes if n.op.name == "attention"]
    assert left == [4, 1, 4]


def test_one_head_stays():
    program, inputs = block()
    after, _ = pruned(program, inputs[0], count=9)
    assert [n.output.type.shape[1] for n in after.main.nodes if n.op.name == "attention"] == [1]


def test_nothing_to_do_without_heads():
    torch.manual_seed(0)
    x = torch.randn(2, 16)
    program = captured(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), (x,))
    after, (record,) = Pipeline((PruneHeads(),)).run(program, calibration={"main": [[x]]})
    assert after is program
    assert "nothing to do: no heads were found" in record.notes
    program, inputs = block()
    _, (record,) = pruned(program, inputs[0], ratio=0.0)
    assert "nothing to do: no heads to remove" in record.notes


def test_compressed_weights_are_refused():
    program, inputs = block()
    program, _ = parse_pipeline(["quantize-weights{bits=8}"]).run(program)
    after, (record,) = pruned(program, inputs[0])
    assert after is program
    assert any("prune before it is compressed" in n for n in record.notes)


def test_data_are_asked_for():
    program, _ = block()
    with pytest.raises(PassError, match="calibration"):
        Pipeline((PruneHeads(),)).run(program)
    after, _ = Pipeline((PruneHeads(score="magnitude", refit=False),)).run(program)
    assert after.nbytes < program.nbytes


def test_text_form():
    text = "prune-heads{ratio=0.5,score=taylor,layers=[0,2],grouped=queries}"
    assert str(parse_pass(text)) == text
