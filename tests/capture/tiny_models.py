"""Tiny random models of transformers' families, for the tests of adapters and of the loader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

tf: Any = transformers  # its configurations take settings of many types from one dictionary

VOCABULARY = 99
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
DECODER = {**TEXT, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = {**DECODER, "num_key_value_heads": 2, "max_position_embeddings": 64}
PAIR = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
}
MIXED_LAYERS = ["sliding_attention", "full_attention"]


def marian() -> Any:
    last = VOCABULARY - 1
    tokens = {"pad_token_id": last, "eos_token_id": 0, "decoder_start_token_id": last}
    settings = {"scale_embedding": True, "activation_function": "swish", "forced_eos_token_id": 0}
    return tf.MarianMTModel(tf.MarianConfig(**PAIR, **tokens, **settings))


def t5() -> Any:
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    kind = {"feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0}
    return tf.T5ForConditionalGeneration(tf.T5Config(vocab_size=VOCABULARY, **sizes, **kind))


def gpt2() -> Any:
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    tokens = {"bos_token_id": 1, "eos_token_id": 2}
    return tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=VOCABULARY, **sizes, **tokens))


def opt() -> Any:
    sizes = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    limits = {"max_position_embeddings": 64, "word_embed_proj_dim": 16, "pad_token_id": 1}
    return tf.OPTForCausalLM(tf.OPTConfig(vocab_size=VOCABULARY, **sizes, **limits))


def gemma() -> Any:
    heads = {"num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64}
    return tf.GemmaForCausalLM(tf.GemmaConfig(**DECODER, **heads))


def gemma3() -> Any:
    window = {"head_dim": 8, "sliding_window": 4, "layer_types": MIXED_LAYERS}
    return tf.Gemma3ForCausalLM(tf.Gemma3TextConfig(**GROUPED, **window))


def modernbert() -> Any:
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1}
    window = {"global_attn_every_n_layers": 2, "local_attention": 8, "sep_token_id": 2}
    return tf.ModernBertModel(tf.ModernBertConfig(**TEXT, **tokens, **window))


def vit() -> Any:
    sizes = {k: v for k, v in TEXT.items() if k != "vocab_size"}
    image = {"image_size": 32, "patch_size": 8, "num_labels": 5}
    return tf.ViTForImageClassification(tf.ViTConfig(**sizes, **image))


def resnet() -> Any:
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    return tf.ResNetForImageClassification(tf.ResNetConfig(**sizes, layer_type="basic"))


def wav2vec2() -> Any:
    sizes = {k: v for k, v in TEXT.items() if k != "vocab_size"}
    conv = {"conv_dim": (16, 16), "conv_stride": (5, 2), "conv_kernel": (10, 3)}
    positions = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    return tf.Wav2Vec2ForCTC(tf.Wav2Vec2Config(vocab_size=32, **sizes, **conv, **positions))


MODELS: dict[str, Callable[[], Any]] = {
    "marian": marian,
    "t5": t5,
    "bart": lambda: tf.BartForConditionalGeneration(tf.BartConfig(**PAIR)),
    "m2m100": lambda: tf.M2M100ForConditionalGeneration(tf.M2M100Config(**PAIR)),
    "pegasus": lambda: tf.PegasusForConditionalGeneration(tf.PegasusConfig(**PAIR)),
    "gpt2": gpt2,
    "opt": opt,
    "gemma": gemma,
    "gemma3": gemma3,
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**GROUPED, tie_word_embeddings=True)),
    "qwen2": lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**GROUPED)),
    "mistral": lambda: tf.MistralForCausalLM(tf.MistralConfig(**GROUPED, sliding_window=4)),
    "bert": lambda: tf.BertModel(tf.BertConfig(**TEXT)),
    "mpnet": lambda: tf.MPNetModel(tf.MPNetConfig(**TEXT)),
    "modernbert": modernbert,
    "vit": vit,
    "resnet": resnet,
    "wav2vec2": wav2vec2,
}


def build(name: str) -> Any:
    """The model `name`, seeded, in eval mode."""
    torch.manual_seed(0)
    return MODELS[name]().eval()


def saved(model: Any, folder: Path) -> str:
    """The directory with the model in the transformers layout."""
    model.save_pretrained(folder)
    return str(folder)


def ids(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, VOCABULARY - 1, shape, generator=generator)


def mask(batch: int, length: int, left: bool = False) -> Tensor:
    """Ones; the first of several rows hides two places at the end, or at the start."""
    made = torch.ones(batch, length, dtype=torch.long)
    if batch > 1 and length > 3:
        hidden = slice(0, 2) if left else slice(-2, None)
        made[0, hidden] = 0
    return made


def relative(got: Tensor, want: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    got, want = got.detach(), want.detach()
    return float((got - want).abs().max()) / max(float(want.abs().max()), 1e-6)
