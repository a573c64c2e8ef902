"""Directories that are no model, damaged or incomplete: one typed line each, before any capture."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgec.capture import hf
from edgec.capture.hf.checkpoint import load_model
from edgec.capture.hf.directory import read_config
from edgec.errors import CaptureError, EdgecError, FormatError
from tests.capture.tiny_models import TEXT, build, saved, tf

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    saved(build("bert"), folder)
    return folder


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    """A copy of an intact BERT that a test may damage."""
    copy = tmp_path / "model"
    shutil.copytree(intact, copy)
    return copy


def settings(folder: Path, **changes: Any) -> None:
    """Change keys of config.json; None removes a key."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def refused(folder: Path, error: type[EdgecError], *texts: str) -> None:
    """`load` raises `error` in one line that has all `texts`."""
    with pytest.raises(error) as caught:
        hf.load(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    for text in texts:
        assert text in message


# ------------------------------------------------------------------ directories
def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", CaptureError, "does not exist")


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    refused(tmp_path / "file", CaptureError, "a file", "a directory")


def test_a_hub_name_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CaptureError, match="HF_HUB_OFFLINE is set"):
        hf.load("hf:organisation/model")


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*arguments: object, **options: object) -> str:
        raise ConnectionError("no route\nand more lines")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    both = r"no such directory, and no such model from the hub \(no route\); need"
    for name in ("organisation/model", "model"):
        with pytest.raises(CaptureError, match=f"{name}: {both}"):
            hf.load(f"hf:{name}")


@pytest.mark.parametrize("name", ["./model", "../model", "/no/model", "~/no_model", "a/b/c", "a/"])
def test_what_looks_like_a_path_is_no_name_of_the_hub(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("asked"))
    with pytest.raises(CaptureError, match="which does not exist; need a directory"):
        hf.load(f"hf:{name}")


def test_a_relative_directory_begins_where_the_caller_says(tmp_path: Path) -> None:
    (tmp_path / "owner" / "model").mkdir(parents=True)
    with pytest.raises(FormatError, match=r"without config\.json"):
        hf.load("hf:owner/model", folder=tmp_path)


def test_no_name() -> None:
    with pytest.raises(CaptureError, match="no name"):
        hf.load("hf:")


def test_a_directory_without_config(tmp_path: Path) -> None:
    refused(tmp_path, FormatError, "config.json")


def test_a_directory_without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    refused(folder, FormatError, "without weights", WEIGHTS)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt"])
def test_pickled_weights_are_never_read(name: str, folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / name)
    refused(folder, CaptureError, name, "runs code", "save_pretrained")


def test_a_tokenizer_where_one_is_needed(folder: Path) -> None:
    with pytest.raises(FormatError, match="no tokenizer files"):
        hf.load(str(folder), need_tokenizer=True)


# ------------------------------------------------------------------ configurations
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not JSON"),
        (b'{"model_type": "bert"', "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "a list"),
    ],
)
def test_a_damaged_config(content: bytes, text: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    refused(folder, FormatError, "[config.json]", text)


@pytest.mark.parametrize("kind", [None, "brand_new", ["bert"], 7])
def test_an_unknown_model_type(kind: Any, folder: Path) -> None:
    settings(folder, model_type=kind)
    refused(folder, CaptureError, repr(kind))


def test_code_of_a_checkpoint_is_never_run(folder: Path) -> None:
    settings(folder, model_type="own", auto_map={"AutoModel": "modeling.Own"})
    (folder / "modeling.py").write_text("raise SystemExit('ran')")
    refused(folder, CaptureError, "code of its own")


@pytest.mark.parametrize(
    "name", ["BertForPreTraining", "BertForNothing", "BertForNextSentencePrediction"]
)
def test_an_architecture_without_a_use(name: str, folder: Path) -> None:
    settings(folder, architectures=[name])
    refused(folder, CaptureError, name, "text2text-generation")


@pytest.mark.parametrize("names", ["BertModel", [3], {"a": 1}])
def test_architectures_must_be_names(names: Any, folder: Path) -> None:
    settings(folder, architectures=names)
    refused(folder, FormatError, "architectures")


def test_an_encoder_and_decoder_without_an_output_layer(tmp_path: Path) -> None:
    saved(build("marian").model, tmp_path)
    refused(tmp_path, CaptureError, "MarianModel", "ForConditionalGeneration")


def test_weights_that_are_quantized_already(folder: Path) -> None:
    settings(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    refused(folder, CaptureError, "gptq", "quantize-weights")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"vocab_size": "many"}, "vocab_size"),
        ({"vocab_size": -3}, "-3"),
        ({"vocab_size": 10**12}, "word_embeddings"),
        ({"hidden_size": 64}, "[32], not [64]"),
        ({"hidden_act": "nothing"}, "nothing"),
        ({"num_hidden_layers": 3}, "16 missing"),
        ({"num_hidden_layers": 1}, "16 of layers that config.json does not count"),
    ],
)
def test_settings_that_do_not_fit_the_weights(
    change: dict[str, Any], text: str, folder: Path
) -> None:
    settings(folder, **change)
    refused(folder, FormatError, text)


def test_a_longer_sequence_than_the_model_has_positions(folder: Path) -> None:
    with pytest.raises(CaptureError, match="max_length=513"):
        hf.load(str(folder), max_length=513)


def test_a_cache_of_constant_size_needs_a_decoder(folder: Path) -> None:
    with pytest.raises(CaptureError, match="a decoder"):
        hf.load(str(folder), cache="fixed")


def test_a_model_of_other_inputs(tmp_path: Path) -> None:
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    layers = {"num_hidden_layers": 1}
    text = {**tower, **layers, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
    vision = {**tower, **layers, "image_size": 16, "patch_size": 8}
    saved(tf.CLIPModel(tf.CLIPConfig(text_config=text, vision_config=vision)), tmp_path)
    refused(tmp_path, CaptureError, "CLIPModel", "input_ids")


def test_a_decoder_whose_state_is_no_cache(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 1, "time_step_rank": 4}
    saved(tf.MambaForCausalLM(tf.MambaConfig(vocab_size=50, **sizes)), tmp_path)
    refused(tmp_path, CaptureError, "MambaForCausalLM", "attention in every layer")


# ------------------------------------------------------------------ weights
@pytest.mark.parametrize("kept", [0, 4, 8, 100, 2000, -1])
def test_truncated_weights(kept: int, folder: Path) -> None:
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw[:kept])
    refused(folder, FormatError, f"[{WEIGHTS}]", "damaged")


def test_bytes_after_the_end(folder: Path) -> None:
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw + b"\0" * 16)
    refused(folder, FormatError, f"[{WEIGHTS}]", "damaged")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers(value: float, folder: Path) -> None:
    def damage(tensors: dict[str, torch.Tensor]) -> None:
        tensors["embeddings.LayerNorm.weight"][3] = value

    weights(folder, damage)
    refused(folder, FormatError, f"[{WEIGHTS}]", "NaN or infinite", "embeddings.LayerNorm.weight")


def test_a_missing_weight_is_not_made_up(folder: Path) -> None:
    weights(folder, lambda tensors: tensors.pop("encoder.layer.1.output.dense.weight"))
    refused(folder, FormatError, "encoder.layer.1.output.dense.weight", "random numbers")


def test_half_a_pooler_is_damage(folder: Path) -> None:
    weights(folder, lambda tensors: tensors.pop("pooler.dense.bias"))
    refused(folder, FormatError, "pooler.dense.bias")


def test_a_tied_weight_may_be_stored_once_but_not_never(tmp_path: Path) -> None:
    saved(build("marian"), tmp_path)
    shared = [k for k in load_file(tmp_path / WEIGHTS) if k.endswith(("shared.weight",))]
    assert shared == ["model.shared.weight"]
    weights(tmp_path, lambda tensors: tensors.pop("model.shared.weight"))
    refused(tmp_path, FormatError, "missing")


def test_checksums_find_a_flipped_bit_that_nothing_else_shows(folder: Path) -> None:
    raw = bytearray((folder / WEIGHTS).read_bytes())
    digest = hashlib.sha256(raw).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  {WEIGHTS}\n")
    load_model(folder, read_config(folder), tf.BertModel)
    raw[-5] ^= 1
    (folder / WEIGHTS).write_bytes(raw)
    refused(folder, FormatError, f"[{WEIGHTS}]", "sha256")


def test_flipped_bits_in_a_header_change_nothing_or_are_refused(folder: Path) -> None:
    """Names, types, shapes and offsets: one bit each, at seeded places."""
    raw = (folder / WEIGHTS).read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    config = read_config(folder)
    want = load_model(folder, config, tf.BertModel).model.state_dict()
    choose, found = random.Random(0), 0
    for place in [*range(8), *choose.sample(range(8, end), 40)]:
        damaged = bytearray(raw)
        damaged[place] ^= 1 << choose.randrange(8)
        (folder / WEIGHTS).write_bytes(damaged)
        try:
            got = load_model(folder, config, tf.BertModel).model.state_dict()
        except FormatError:
            found += 1
        else:
            assert all(torch.equal(got[k], want[k]) for k in want)
    assert found >= 40


# ------------------------------------------------------------------ shards
@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    tf.BertModel(tf.BertConfig(**TEXT)).save_pretrained(tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    return tmp_path


def test_several_files_make_one_model(sharded: Path) -> None:
    loaded = load_model(sharded, read_config(sharded), tf.BertModel)
    torch.manual_seed(0)
    want = tf.BertModel(tf.BertConfig(**TEXT)).state_dict()
    assert all(torch.equal(v, want[k]) for k, v in loaded.model.state_dict().items())


def test_a_missing_file(sharded: Path) -> None:
    last = sorted(sharded.glob("*.safetensors"))[-1]
    last.unlink()
    refused(sharded, FormatError, "missing files", last.name)


def test_a_file_without_its_tensors(sharded: Path) -> None:
    first, second, *_ = sorted(sharded.glob("*.safetensors"))
    shutil.copy(first, second)
    refused(sharded, FormatError, f"[{second.name}]", "of the index missing")


@pytest.mark.parametrize(
    "table", [[], {}, {"weight_map": 3}, {"weight_map": {"a": 1}}, {"weight_map": {"a": "../x"}}]
)
def test_a_damaged_index(table: Any, sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").write_text(json.dumps(table))
    refused(sharded, FormatError, "[model.safetensors.index.json]")


# ------------------------------------------------------------------ other files
@pytest.mark.parametrize("name", ["tokenizer.json", "generation_config.json"])
def test_a_damaged_json_file_beside_the_model(name: str, tmp_path: Path) -> None:
    model = build("gpt2")
    saved(model, tmp_path)
    (tmp_path / name).write_text('{"cut')
    refused(tmp_path, FormatError, f"[{name}]", "not JSON")
