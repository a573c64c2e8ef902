"""Mixtures of experts of transformers models: few and many tokens, all layouts of weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import edgec
from tests.capture.harness import assert_equal, resized
from tests.capture.tiny_models import tf

BATCH, SEQ = Dim("batch", max=16), Dim("seq", max=32)
SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_experts_per_tok": 2,
}
EXPERTS = {
    "mixtral": lambda: tf.MixtralForCausalLM(tf.MixtralConfig(**SIZES, num_local_experts=4)),
    "qwen2_moe": lambda: tf.Qwen2MoeForCausalLM(
        tf.Qwen2MoeConfig(
            **SIZES, num_experts=4, moe_intermediate_size=8, shared_expert_intermediate_size=8
        )
    ),
    "gpt_oss": lambda: tf.GptOssForCausalLM(
        tf.GptOssConfig(**SIZES, num_local_experts=4, head_dim=8)
    ),
}


class Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, use_cache=False).logits
        return logits


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERTS)
@pytest.mark.parametrize("shape", [(3, 7), (2, 1)], ids=["masked", "gathered"])
def test_experts_equal_the_stock_ones(name: str, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = EXPERTS[name]().eval()
    before = model.config._experts_implementation
    module = Logits(model)
    inputs, shapes = (
        (torch.randint(3, 60, shape),),
        ({0: BATCH, 1: SEQ} if shape[1] > 1 else {0: BATCH},),
    )
    program = edgec.capture(module, inputs, shapes)
    assert model.config._experts_implementation == before
    gathers = [
        n for n in program.main.nodes if n.op.name == "gather" and len(n.output.type.shape) > 3
    ]
    assert bool(gathers) == (shape == (2, 1))
    assert_equal(program, module, inputs)
    assert_equal(program, module, resized(module, inputs, shapes))
