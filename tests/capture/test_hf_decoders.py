"""The loader's decoders: encode and step, prefill and step, against the models' own computation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgec.capture import hf
from edgec.errors import ValidationError
from edgec.interpreter import Interpreter
from edgec.ir.graph import Graph, State
from edgec.ir.program import Program
from tests.capture.tiny_models import build, ids, mask, relative, saved

TOLERANCE = 1e-5
STEPS = 5
SLOTS = 24


def empty_caches(graph: Graph, batch: int, slots: int) -> list[Tensor]:
    """Zeros for the states of `step`: [batch, H, slots, D] each."""
    states = {s.input for s in graph.states}
    shapes = [v.type.shape for v in graph.inputs if v.name in states]
    return [torch.zeros(batch, int(s[1]), slots, int(s[3])) for s in shapes]


# ------------------------------------------------------------------ sequence to sequence
def translation_error(program: Program, model: Any, batch: int, source: int, fixed: bool) -> float:
    """Greedy decoding by the interpreter against a full recomputation by the model."""
    run, step = Interpreter(program).run, program.graphs["step"]
    tokens, visible = ids(batch, source), mask(batch, source)
    cross = list(run([tokens, visible], "encode"))
    own = empty_caches(step, batch, SLOTS if fixed else 0)
    token = sequence = torch.full((batch, 1), model.config.decoder_start_token_id)
    worst = 0.0
    for position in range(STEPS):
        slot = [torch.tensor(position)] if fixed else []
        logits, *own = run([token, *slot, visible, *own, *cross], "step")
        with torch.no_grad():
            want = model(
                input_ids=tokens,
                attention_mask=visible,
                decoder_input_ids=sequence,
                use_cache=False,
            ).logits[:, -1]
        worst = max(worst, relative(logits, want))
        assert torch.equal(logits.argmax(-1), want.argmax(-1))
        token = logits.argmax(-1, keepdim=True)
        sequence = torch.cat([sequence, token], 1)
    return worst


def check_translator(name: str, folder: Path, fixed: bool) -> Program:
    model = build(name)
    program = hf.load(saved(model, folder), cache="fixed" if fixed else "growing", max_length=SLOTS)
    for batch, source in ((3, 10), (1, 1), (2, 17)):
        assert translation_error(program, model, batch, source, fixed) < TOLERANCE
    return program


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return check_translator("marian", tmp_path_factory.mktemp("marian"), fixed=False)


def test_marian_encodes_once_and_steps_with_a_growing_cache(marian: Program) -> None:
    program = marian
    encode, step = program.graphs["encode"], program.graphs["step"]
    assert encode.signature() == (
        "encode(input_ids: i64[batch, src], attention_mask: i64[batch, src]) -> "
        "(cross_key_0: f32[batch, 4, src, 8], cross_value_0: f32[batch, 4, src, 8], "
        "cross_key_1: f32[batch, 4, src, 8], cross_value_1: f32[batch, 4, src, 8])"
    )
    assert [v.name for v in step.inputs[:4]] == [
        "token", "attention_mask", "self_key_0", "self_value_0",
    ]  # fmt: skip
    assert step.output_names[:3] == ("logits", "present_key_0", "present_value_0")
    assert str(step.output_types()[1]) == "f32[batch, 4, past + 1, 8]"
    assert step.states[0] == State("self_key_0", "present_key_0")
    assert len(step.states) == 4
    ranges = {n: (r.min, r.max) for n, r in {**encode.dims, **step.dims}.items()}
    assert ranges == {"batch": (1, 64), "src": (1, 64), "past": (0, SLOTS - 1)}
    assert program.metadata["task"] == "translate"
    assert program.metadata["generation"] == {
        "eos": 0, "pad": 98, "forced_eos": 0, "decoder_start": 98, "max_length": 24,
    }  # fmt: skip
    with pytest.raises(ValidationError, match="src = 65"):
        program.run(ids(1, 65), mask(1, 65), function="encode")


def test_functions_share_one_pool_and_the_tied_embedding_is_stored_once(marian: Program) -> None:
    model, program = build("marian"), marian
    shape = tuple(model.lm_head.weight.shape)
    tables = [c for c in program.constants.values() if c.type.shape == shape]
    assert len(tables) == 1
    assert all(tables[0].name in g.used_constants() for g in program.graphs.values())
    floats = [p for p in model.state_dict().values() if p.is_floating_point()]
    distinct = {(t.shape, t.numpy().tobytes()) for t in floats}
    weights = sum(len(raw) for _, raw in distinct)
    assert program.nbytes <= weights + 1024  # beside the weights, small constants of the graphs


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [False, True], ids=["growing", "fixed"])
@pytest.mark.parametrize("name", ["t5", "bart", "m2m100", "pegasus"])
def test_translators_of_other_families(name: str, fixed: bool, tmp_path: Path) -> None:
    check_translator(name, tmp_path, fixed)


@pytest.mark.slow
def test_marian_with_a_cache_of_constant_size(tmp_path: Path) -> None:
    program = check_translator("marian", tmp_path, fixed=True)
    step = program.graphs["step"]
    assert [v.name for v in step.inputs[:3]] == ["token", "position", "attention_mask"]
    types = {v.name: v.type for v in step.inputs}
    outputs = dict(zip(step.output_names, step.output_types(), strict=True))
    assert all(types[s.input].same(outputs[s.output]) for s in step.states)


# ------------------------------------------------------------------ causal language models
def generation_error(program: Program, model: Any, batch: int, prompt: int, fixed: bool) -> float:
    """Prefill and greedy steps, prompts padded on the left, against a full recomputation."""
    run = Interpreter(program).run
    tokens, visible = ids(batch, prompt), mask(batch, prompt, left=True)

    def whole() -> Tensor:
        positions = (visible.cumsum(-1) - 1).clamp(min=0)
        with torch.no_grad():
            logits: Tensor = model(
                input_ids=tokens,
                attention_mask=visible,
                position_ids=positions,
                use_cache=False,
            ).logits
        return logits

    logits, *own = run([tokens, visible], "prefill")
    shown = visible.bool()
    worst = relative(logits[shown], whole()[shown])
    token = logits[:, -1].argmax(-1, keepdim=True)
    for position in range(prompt, prompt + STEPS):
        tokens = torch.cat([tokens, token], 1)
        visible = torch.cat([visible, torch.ones_like(token)], 1)
        slot, seen = [], visible
        if fixed:
            slot = [torch.tensor(position)]
            seen = torch.nn.functional.pad(visible, (0, SLOTS - visible.shape[1]))
        logits, *own = run([token, *slot, seen, *own], "step")
        want = whole()[:, -1]
        worst = max(worst, relative(logits, want))
        assert torch.equal(logits.argmax(-1), want.argmax(-1))
        token = logits.argmax(-1, keepdim=True)
    return worst


def check_generator(name: str, folder: Path, fixed: bool) -> Program:
    model = build(name)
    program = hf.load(saved(model, folder), cache="fixed" if fixed else "growing", max_length=SLOTS)
    for batch, prompt in ((3, 10), (1, 1), (2, 13)):
        assert generation_error(program, model, batch, prompt, fixed) < TOLERANCE
    return program


def test_llama_prefills_and_steps_with_grouped_heads(tmp_path: Path) -> None:
    program = check_generator("llama", tmp_path, fixed=False)
    prefill, step = program.graphs["prefill"], program.graphs["step"]
    assert str(prefill.output_types()[0]) == "f32[batch, seq, 99]"
    assert str(prefill.output_types()[1]) == "f32[batch, 2, seq, 8]"
    assert prefill.output_names[1:3] == ("key_0", "value_0")
    assert [v.name for v in step.inputs[:3]] == ["input_ids", "attention_mask", "key_0"]
    assert str(step.inputs[1].type) == "i64[batch, past + 1]"
    assert str(step.output_types()[0]) == "f32[batch, 99]"
    assert step.states[0] == State("key_0", "present_key_0")
    assert program.metadata["task"] == "causal-lm"
    assert program.metadata["generation"]["eos"] == 2
    heads = [
        tuple(step.type(str(name)).shape[1] for name in node.inputs[:2])
        for node in step.nodes
        if node.op.name == "attention"
    ]
    assert heads == [(4, 2), (4, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "opt", "gemma", "gemma3", "qwen2", "mistral"])
def test_generators_of_other_families(name: str, tmp_path: Path) -> None:
    """gemma3 and mistral look at a window of 4 tokens, which the 18 tokens here exceed."""
    check_generator(name, tmp_path, fixed=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "mistral"])
def test_generators_with_a_cache_of_constant_size(name: str, tmp_path: Path) -> None:
    check_generator(name, tmp_path, fixed=True)
