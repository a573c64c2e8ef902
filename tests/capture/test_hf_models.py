"""The loader's models of one function, and sentence embedders, against the models themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgec.capture import hf
from edgec.errors import CaptureError
from edgec.ir.program import Program
from tests.capture.tiny_models import TEXT, VOCABULARY, build, ids, mask, relative, saved, tf

TOLERANCE = 1e-5
SIZES = ((3, 10), (1, 1), (2, 17))


def check_text(program: Program, model: Any, outputs: tuple[str, ...]) -> None:
    """Every output at several sizes, padding included."""
    assert program.main.output_names == outputs
    for batch, length in SIZES:
        inputs = {"input_ids": ids(batch, length), "attention_mask": mask(batch, length)}
        if "token_type_ids" in {v.name for v in program.main.inputs}:
            inputs["token_type_ids"] = ids(batch, length, seed=1) % 2
        with torch.no_grad():
            want = model(**inputs)
        got = program.run(*inputs.values())
        for name, value in zip(outputs, got, strict=True):
            assert relative(value, want[name]) < TOLERANCE


# ------------------------------------------------------------------ text
def test_an_encoder_gives_its_states_and_its_pooled_state(tmp_path: Path) -> None:
    model = build("bert")
    program = hf.load(f"hf:{saved(model, tmp_path)}")
    check_text(program, model, ("last_hidden_state", "pooler_output"))
    assert [v.name for v in program.main.inputs] == ["input_ids", "attention_mask"]
    assert program.metadata["task"] == "none"
    assert program.metadata["kind"] == "feature-extraction"
    assert (program.main.dims["seq"].min, program.main.dims["seq"].max) == (1, 512)


@pytest.mark.slow
def test_an_encoder_without_pooler_weights_gives_its_states_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tf.BertModel(tf.BertConfig(**TEXT), add_pooling_layer=False).eval()
    program = hf.load(saved(model, tmp_path))
    check_text(program, model, ("last_hidden_state",))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mpnet", "modernbert"])
def test_encoders_of_other_families(name: str, tmp_path: Path) -> None:
    """MPNet counts positions after the padding index; ModernBERT has windows of 4 to each side."""
    model = build(name)
    program = hf.load(saved(model, tmp_path))
    outputs = ("last_hidden_state", "pooler_output") if name == "mpnet" else ("last_hidden_state",)
    check_text(program, model, outputs)
    if name == "mpnet":
        assert program.main.dims["seq"].max == 512 - 2
        program.run(ids(1, 510), mask(1, 510))


HEADS = {
    "BertForSequenceClassification": ("classify", ("logits",), ["A", "B", "C"]),
    "BertForTokenClassification": ("none", ("logits",), ["A", "B", "C"]),
    "BertForQuestionAnswering": ("none", ("start_logits", "end_logits"), None),
    "BertForMaskedLM": ("none", ("logits",), None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_heads(name: str, tmp_path: Path) -> None:
    task, outputs, labels = HEADS[name]
    torch.manual_seed(0)
    config = tf.BertConfig(**TEXT, id2label={0: "A", 1: "B", 2: "C"})
    if name == "BertForQuestionAnswering":
        config.num_labels = 2
    model = getattr(tf, name)(config).eval()
    program = hf.load(saved(model, tmp_path))
    check_text(program, model, outputs)
    assert program.metadata["task"] == task
    assert program.metadata.get("labels") == labels
    pairs = "token_type_ids" in {v.name for v in program.main.inputs}
    assert pairs == (name == "BertForQuestionAnswering")


@pytest.mark.slow
def test_token_types_on_request(tmp_path: Path) -> None:
    model = build("bert")
    program = hf.load(saved(model, tmp_path), token_types=True)
    check_text(program, model, ("last_hidden_state", "pooler_output"))
    folder = tmp_path / "distilbert"
    sizes = {"dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 64}
    saved(tf.DistilBertModel(tf.DistilBertConfig(vocab_size=VOCABULARY, **sizes)), folder)
    with pytest.raises(CaptureError, match="tells two sentences apart"):
        hf.load(str(folder), token_types=True)


# ------------------------------------------------------------------ images and speech
def test_an_image_classifier_has_the_size_of_its_configuration(tmp_path: Path) -> None:
    model = build("vit")
    program = hf.load(saved(model, tmp_path))
    assert program.main.signature() == (
        "main(pixel_values: f32[batch, 3, 32, 32]) -> (logits: f32[batch, 5])"
    )
    assert program.metadata["task"] == "classify"
    for batch in (1, 4):
        images = torch.randn(batch, 3, 32, 32)
        (got,) = program.run(images)
        assert relative(got, model(images).logits) < TOLERANCE


@pytest.mark.slow
def test_a_convolutional_classifier_has_the_size_of_its_preprocessor(tmp_path: Path) -> None:
    model = build("resnet")
    settings = {"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 36}}
    folder = saved(model, tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    program = hf.load(folder)
    assert str(program.main.inputs[0].type) == "f32[batch, 3, 40, 36]"
    images = torch.randn(2, 3, 40, 36)
    assert relative(program.run(images)[0], model(images).logits) < TOLERANCE
    assert program.metadata["preprocessor"] == settings


@pytest.mark.slow
def test_a_speech_recognizer_takes_any_number_of_samples(tmp_path: Path) -> None:
    model = build("wav2vec2")
    program = hf.load(saved(model, tmp_path))
    for batch, samples in ((1, 400), (2, 1003)):
        wave = torch.randn(batch, samples)
        assert relative(program.run(wave)[0], model(wave).logits) < TOLERANCE


# ------------------------------------------------------------------ sentence embedders
def sentence_folder(folder: Path, encoder: Any, pooling: dict[str, Any], dense: bool) -> str:
    """A directory in the layout of sentence-transformers."""
    saved(encoder, folder)
    kinds = ["Transformer", "Pooling", *(["Dense"] if dense else []), "Normalize"]
    paths = ["" if i == 0 else f"{i}_{kind}" for i, kind in enumerate(kinds)]
    listed = [
        {"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{k}"}
        for i, (k, p) in enumerate(zip(kinds, paths, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    if dense:
        home = folder / "2_Dense"
        home.mkdir()
        layer = nn.Linear(32, 16)
        weights = {f"linear.{k}": v.detach() for k, v in layer.state_dict().items()}
        save_file(weights, home / "model.safetensors")
        activation = "torch.nn.modules.activation.Tanh"
        settings = {"in_features": 32, "out_features": 16, "activation_function": activation}
        (home / "config.json").write_text(json.dumps(settings))
    return str(folder)


def states(model: Any, batch: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    tokens, visible = ids(batch, length), mask(batch, length)
    with torch.no_grad():
        hidden = model(input_ids=tokens, attention_mask=visible).last_hidden_state
    return tokens, visible, hidden


def test_a_sentence_embedder_averages_the_visible_tokens(tmp_path: Path) -> None:
    model = build("bert")
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    program = hf.load(sentence_folder(tmp_path, model, pooling, dense=False))
    assert program.main.output_names == ("embedding",)
    assert program.metadata["task"] == "embed"
    assert program.metadata["max_tokens"] == 256
    for batch, length in SIZES:
        tokens, visible, hidden = states(model, batch, length)
        rows = [h[v.bool()].mean(0) for h, v in zip(hidden, visible, strict=True)]
        want = torch.stack([r / r.norm() for r in rows])
        assert relative(program.run(tokens, visible), want) < TOLERANCE


@pytest.mark.slow
def test_other_poolings_and_a_dense_layer(tmp_path: Path) -> None:
    model = build("bert")
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    folder = sentence_folder(tmp_path, model, pooling, dense=True)
    program = hf.load(folder)
    weights = torch.nn.Linear(32, 16)
    with torch.no_grad():
        from safetensors.torch import load_file

        raw = load_file(tmp_path / "2_Dense" / "model.safetensors")
        weights.weight.copy_(raw["linear.weight"])
        weights.bias.copy_(raw["linear.bias"])
        for batch, length in SIZES:
            tokens, visible, hidden = states(model, batch, length)
            want = nn.functional.normalize(torch.tanh(weights(hidden[:, 0])), dim=1)
            assert relative(program.run(tokens, visible), want) < TOLERANCE


@pytest.mark.parametrize(
    ("pooling", "match"),
    [
        ({"pooling_mode_lasttoken": True}, "pooling_mode_lasttoken"),
        ({"pooling_mode": "weirdmean"}, "weirdmean"),
        ({}, "of no kind"),
    ],
)
def test_an_unknown_pooling_is_named(pooling: dict[str, Any], match: str, tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, build("bert"), pooling, dense=False)
    with pytest.raises(CaptureError, match=match):
        hf.load(folder)


def test_an_unknown_part_of_an_embedder_is_named(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, build("bert"), {"pooling_mode": "cls"}, dense=False)
    listed = json.loads((tmp_path / "modules.json").read_text())
    listed[2]["type"] = "sentence_transformers.models.LSTM"
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(CaptureError, match="LSTM"):
        hf.load(folder)
