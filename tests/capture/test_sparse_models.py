"""Longformer, LED, BigBird and BigBirdPegasus: captured under patterns, equal to transformers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import edgec
from edgec.capture import hf
from edgec.capture.big_bird import _sparse
from edgec.errors import CaptureError
from edgec.ir import Program
from edgec.targets.onnx import Onnx
from tests.capture.harness import assert_equal
from tests.capture.tiny_models import TEXT, relative, saved, tf

LONG = {**TEXT, "max_position_embeddings": 600, "pad_token_id": 1, "initializer_range": 0.2}
BLOCK, RANDOM = 4, 2
DENSE_UP_TO = (5 + 2 * RANDOM) * BLOCK


def longformer(kind: str) -> Any:
    torch.manual_seed(0)
    return getattr(tf, kind)(tf.LongformerConfig(**LONG, attention_window=[8, 4])).eval()


def big_bird(kind: str = "BigBirdModel", **settings: Any) -> Any:
    torch.manual_seed(0)
    sparse = {"attention_type": "block_sparse", "block_size": BLOCK, "num_random_blocks": RANDOM}
    config = tf.BigBirdConfig(**{**LONG, "pad_token_id": 0}, **sparse, **settings)
    return getattr(tf, kind)(config).eval()


def tokens(length: int, pad: int) -> tuple[Tensor, Tensor]:
    """Ids and mask [2, n]; a quarter of the second row is padding."""
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(3, 99, (2, length), generator=generator)
    mask = torch.ones_like(ids)
    end = length - length // 4
    ids[1, end:], mask[1, end:] = pad, 0
    return ids, mask


def captured(model: nn.Module, inputs: tuple[Tensor, ...], least: int = 1, most: int = 512) -> Any:
    batch, length = Dim("batch", max=8), Dim("tokens", min=least, max=most)
    return edgec.capture(model, inputs, tuple({0: batch, 1: length} for _ in inputs))


def patterns(program: Program) -> list[str]:
    return [n.op.pattern for n in program.main.nodes if n.op.name == "attention"]  # type: ignore[attr-defined]


# ------------------------------------------------------------------ Longformer
@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("LongformerModel", ["window(4)", "window(2)"]),
        ("LongformerForMaskedLM", ["window(4)", "window(2)"]),
        ("LongformerForTokenClassification", ["window(4)", "window(2)"]),
        (
            "LongformerForSequenceClassification",
            ["window(4) + global(1)", "", "window(2) + global(1)", ""],
        ),
    ],
)
def test_longformer_at_any_length(kind: str, shown: list[str], tmp_path: Path) -> None:
    model = longformer(kind)
    program = captured(model, tokens(20, 1))
    assert patterns(program) == shown
    for length in (20, 3, 40, 133):
        assert_equal(program, model, tokens(length, 1))
    target = Onnx()
    target.emit(target.legalize(program), tmp_path)
    (got, *_) = target.load(tmp_path).run("main", list(tokens(77, 1)))
    with torch.no_grad():
        want = model(*tokens(77, 1))[0]
    assert relative(got, want) < 1e-5


def test_longformer_with_global_tokens_of_a_mask_at_run_time() -> None:
    model = longformer("LongformerModel")
    ids, mask = tokens(20, 1)
    chosen = torch.zeros_like(ids)
    chosen[:, [0, 3]] = 1
    program = captured(model, (ids, mask, chosen))
    for length in (20, 41):
        ids, mask = tokens(length, 1)
        chosen = torch.zeros_like(ids)
        chosen[0, [2, 7, 9]] = 1
        chosen[1, [1, length - 1]] = 1  # the second is padding
        assert_equal(program, model, (ids, mask, chosen))


def test_longformer_with_leading_global_tokens_that_the_model_is_told_of() -> None:
    class Asked(nn.Module):
        """The first four tokens, a question, are global."""

        def __init__(self) -> None:
            super().__init__()
            self.model = longformer("LongformerModel")
            self.model.leading_global = 4

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            chosen = torch.zeros_like(ids)
            chosen[:, :4] = 1
            made: Tensor = self.model(ids, mask, chosen)[0]
            return made

    model = Asked().eval()
    program = captured(model, tokens(20, 1), least=4)
    assert patterns(program)[::2] == ["window(4) + global(4)", "window(2) + global(4)"]
    for length in (20, 5, 90):
        assert_equal(program, model, tokens(length, 1))


def test_longformer_is_as_before_after_capture() -> None:
    model = longformer("LongformerForSequenceClassification")
    before = [set(vars(part)) for part in model.modules()]
    want = model(*tokens(20, 1))[0]
    captured(model, tokens(20, 1))
    assert [set(vars(part)) for part in model.modules()] == before
    assert torch.equal(model(*tokens(20, 1))[0], want)


def test_longformer_whose_weights_of_attention_are_asked_for() -> None:
    model = longformer("LongformerModel")
    model.config.output_attentions = True
    with pytest.raises(CaptureError, match="weights of attention stay inside"):
        captured(model, tokens(20, 1))


# ------------------------------------------------------------------ BigBird
@pytest.mark.parametrize("kind", ["BigBirdModel", "BigBirdForSequenceClassification"])
def test_big_bird_at_any_length(kind: str, tmp_path: Path) -> None:
    """Few tokens are dense in the stock form, for which a copy turns itself dense."""
    model = big_bird(kind)
    program = captured(model, tokens(20, 0))
    assert patterns(program) == ["", "block_local(4, 1) + global(4, 4)", "", ""] * 2
    for length in (20, 1, DENSE_UP_TO, DENSE_UP_TO + 1, 40, 133, 500):
        assert_equal(program, copy.deepcopy(model), tokens(length, 0), 2e-5)
    target = Onnx()
    target.emit(target.legalize(program), tmp_path)
    for length in (7, 77):
        (got, *_) = target.load(tmp_path).run("main", list(tokens(length, 0)))
        with torch.no_grad():
            want = copy.deepcopy(model)(*tokens(length, 0))[0]
        assert relative(got, want) < 2e-5


@pytest.mark.parametrize(
    ("example", "least", "most", "shown"),
    [
        (50, DENSE_UP_TO + 1, 512, ["block_local(4, 1) + global(4, 4)", "", ""] * 2),
        (20, 1, DENSE_UP_TO, ["", ""]),
    ],
)
def test_big_bird_of_lengths_on_one_side(
    example: int, least: int, most: int, shown: list[str]
) -> None:
    model = big_bird()
    program = captured(model, tokens(example, 0), least, most)
    assert patterns(program) == shown
    for length in (example, max(least, 2), most):
        assert_equal(program, copy.deepcopy(model), tokens(length, 0), 2e-5)


def test_big_bird_is_as_before_after_capture() -> None:
    model = big_bird()
    before = [set(vars(part)) for part in model.modules()]
    captured(model, tokens(20, 0))
    assert [set(vars(part)) for part in model.modules()] == before
    assert model.config.block_size == BLOCK
    assert model.attention_type == model.encoder.attention_type == "block_sparse"


def test_the_first_block_counts_once_more_for_each_random_block() -> None:
    """By the definition of the stock form in eval mode, in float64, against plain softmax."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 30, 8, generator=generator, dtype=torch.float64)
    real = torch.arange(30) < 27
    blocks, block = 8, torch.arange(30) // BLOCK
    near = (block[:, None] - block[None, :]).abs() <= 1
    ends = (block == 0) | (block == blocks - 1)
    seen = near | ends[None, :] | ends[:, None]
    times = torch.where((block == 0)[None, :] & ~ends[:, None], 1.0 + RANDOM, 1.0)
    weights = (q @ k.mT / 8**0.5).exp() * (seen & real) * times
    want = weights / weights.sum(-1, keepdim=True) @ v
    got = _sparse(q, k, v, real[None, None, None], BLOCK, RANDOM)
    torch.testing.assert_close(got[:, :, real], want[:, :, real])
    assert not got[:, :, ~real].any()


# ------------------------------------------------------------------ encoders with decoders
class Translating(nn.Module):
    """Logits of a model with an encoder and a decoder; the `first` tokens are global."""

    def __init__(self, model: Any, first: int = 0) -> None:
        super().__init__()
        self.model, self.first = model, first

    def forward(self, ids: Tensor, mask: Tensor, decoder_ids: Tensor) -> Tensor:
        given: dict[str, Any] = {}
        if self.first:
            given["global_attention_mask"] = torch.zeros_like(ids)
            given["global_attention_mask"][:, : self.first] = 1
        made: Tensor = self.model(
            input_ids=ids,
            attention_mask=mask,
            decoder_input_ids=decoder_ids,
            use_cache=False,
            **given,
        ).logits
        return made


SEQ2SEQ = {
    "vocab_size": 99,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "init_std": 0.2,
}


def led() -> Any:
    torch.manual_seed(0)
    sizes = {"max_encoder_position_embeddings": 600, "max_decoder_position_embeddings": 64}
    config = tf.LEDConfig(**SEQ2SEQ, **sizes, attention_window=[8, 4])
    return tf.LEDForConditionalGeneration(config).eval()


def big_bird_pegasus() -> Any:
    torch.manual_seed(0)
    sparse = {"attention_type": "block_sparse", "block_size": BLOCK, "num_random_blocks": RANDOM}
    config = tf.BigBirdPegasusConfig(**SEQ2SEQ, **sparse, max_position_embeddings=600)
    return tf.BigBirdPegasusForConditionalGeneration(config).eval()


def of_both(length: int, pad: int) -> tuple[Tensor, ...]:
    return *tokens(length, pad), tokens(7, pad)[0]


def captured_both(model: Translating, pad: int, least: int = 1) -> Program:
    batch, src = Dim("batch", max=8), Dim("src", min=least, max=512)
    sizes = {0: batch, 1: src}
    tgt = {0: batch, 1: Dim("tgt", min=1, max=64)}
    return edgec.capture(copy.deepcopy(model), of_both(20, pad), (sizes, sizes, tgt))


@pytest.mark.parametrize("first", [0, 2])
def test_led_at_any_length(first: int) -> None:
    model = Translating(led(), first)
    if first:
        model.model.led.encoder.leading_global = first
    program = captured_both(model, 1, max(first, 1))
    windows = [p for p in patterns(program) if p]
    more = f" + global({first})" if first else ""
    assert windows == [f"window(4){more}", f"window(2){more}"]
    for length in (20, 3, 40, 133):
        assert_equal(program, model, of_both(length, 1))


def test_led_with_global_tokens_of_a_mask() -> None:
    model = Translating(led(), 2)
    program = captured_both(model, 1, 2)
    assert not any(patterns(program))
    for length in (20, 41):
        assert_equal(program, model, of_both(length, 1))


def test_led_whose_weights_of_attention_are_asked_for() -> None:
    model = led()
    model.config.output_attentions = True
    with pytest.raises(CaptureError, match=r"\[LEDEncoder\] .*weights of attention stay inside"):
        captured_both(Translating(model), 1)


def test_big_bird_pegasus_at_any_length() -> None:
    model = Translating(big_bird_pegasus())
    program = captured_both(model, 0)
    assert [p for p in patterns(program) if p] == ["block_local(4, 1) + global(4, 4)"] * 2
    for length in (20, 1, DENSE_UP_TO, DENSE_UP_TO + 1, 133):
        assert_equal(program, copy.deepcopy(model), of_both(length, 0), 2e-5)


@pytest.mark.parametrize("make", [led, big_bird_pegasus])
def test_encoders_are_as_before_after_capture(make: Any) -> None:
    model = Translating(make())
    before = [set(vars(part)) for part in model.modules()]
    batch, src = Dim("batch", max=8), Dim("src", min=1, max=512)
    edgec.capture(model, of_both(20, 1), ({0: batch, 1: src}, {0: batch, 1: src}, {0: batch}))
    assert [set(vars(part)) for part in model.modules()] == before


# ------------------------------------------------------------------ from a directory
@pytest.mark.parametrize(
    "make",
    [lambda: longformer("LongformerForSequenceClassification"), big_bird],
    ids=["longformer", "big_bird"],
)
def test_a_saved_model_is_loaded_at_any_length(make: Any, tmp_path: Path) -> None:
    model = make()
    program = hf.load(f"hf:{saved(model, tmp_path)}")
    assert any(patterns(program))
    for length in (3, 90):
        ids, mask = tokens(length, model.config.pad_token_id)
        with torch.no_grad():
            want = copy.deepcopy(model)(ids, mask)
        got = program.run(ids, mask)
        for name, value in zip(program.main.output_names, got, strict=True):
            assert relative(value, want[name]) < 2e-5
