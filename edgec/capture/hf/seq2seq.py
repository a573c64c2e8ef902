"""Sequence-to-sequence models as two functions: `encode` for a source, `step` for each token.

encode   input_ids i64[batch, src], attention_mask i64[batch, src]
         -> cross_key_0 f32[batch, H, src, D], cross_value_0, cross_key_1, ...
step     token i64[batch, 1], attention_mask i64[batch, src],
         self_key_0 f32[batch, H, past, D], self_value_0, ..., cross_key_0, cross_value_0, ...
         -> logits f32[batch, V], present_key_0 f32[batch, H, past + 1, D], present_value_0, ...

The encoder's states never leave `encode`. With a cache of constant size, `step` takes `position`
i64[] after the token and its self-attention caches keep max_length slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from edgec.capture import caches
from edgec.capture.functions import Function
from edgec.capture.hf import sizes
from edgec.capture.hf.cachenames import names, states
from edgec.capture.hf.equivalence import same_logits
from edgec.errors import CaptureError


class Encode(nn.Module):
    """Source tokens -> keys and values of every cross-attention.

    The decoder runs on one token and leaves its projections of the encoder's states in the cache;
    what else it computes has no user and is dropped on import. So no attention class needs to be
    known by name.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        encoder = self.model.get_encoder()
        states = encoder(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        cache = caches.encoder_decoder(caches.growing(), caches.growing())
        self.model(
            encoder_outputs=states,
            attention_mask=attention_mask,
            decoder_input_ids=input_ids.new_zeros(input_ids.shape[0], 1),
            past_key_values=cache,
            use_cache=True,
        )
        return caches.flat(cache.cross_attention_cache)


class Step(nn.Module):
    """One token of the decoder over growing caches.

    width   of the encoder's states, which the decoder wants to see although the caches hold all of
            them
    """

    def __init__(self, model: Any, layers: int, width: int) -> None:
        super().__init__()
        self.model = model
        self.layers, self.width = layers, width
        self.filler = 0.0  # in place of the encoder's states; NaN shows whether anything reads them

    def forward(self, token: Tensor, attention_mask: Tensor, *kv: Tensor) -> tuple[Tensor, ...]:
        return self.decode(token, attention_mask, kv, caches.growing(kv[: 2 * self.layers]))

    def decode(
        self, token: Tensor, attention_mask: Tensor, kv: tuple[Tensor, ...], own: Any
    ) -> tuple[Tensor, ...]:
        from transformers.modeling_outputs import BaseModelOutput

        cross = caches.growing(kv[2 * self.layers :])
        batch, source = attention_mask.shape
        states = kv[-1].new_full((batch, source, self.width), self.filler)
        out = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            attention_mask=attention_mask,
            decoder_input_ids=token,
            past_key_values=caches.encoder_decoder(own, cross),
            use_cache=True,
        )
        return (out.logits[:, -1], *caches.flat(own))


class FixedStep(Step):
    """One token of the decoder over caches of constant size; writes slot `position` i64[]."""

    def forward(  # type: ignore[override]
        self, token: Tensor, position: Tensor, attention_mask: Tensor, *kv: Tensor
    ) -> tuple[Tensor, ...]:
        own = caches.fixed(kv[: 2 * self.layers], position)
        return self.decode(token, attention_mask, kv, own)


@dataclass(frozen=True)
class _Shapes:
    """What one run shows: [H, D] of each cache of its own, cross caches, the encoder's width."""

    own: tuple[tuple[int, int], ...]
    cross: tuple[Tensor, ...]
    width: int


def functions(model: Any, source: int, target: int, fixed_cache: bool) -> dict[str, Function]:
    """`encode` and `step` of a model, for sources up to `source` and targets up to `target` tokens.

    Raises CaptureError for a decoder that keeps another state than keys and values.
    """
    length = sizes.example(sizes.LENGTH, source)
    ids = sizes.token_ids(model.config.get_text_config().vocab_size, sizes.BATCH, length)
    mask = sizes.padded(sizes.BATCH, length)
    shapes = _run_once(model, ids, mask)
    _check(model, shapes, ids, mask)
    batch, src = Dim("batch", min=1, max=sizes.MAX_BATCH), Dim("src", min=1, max=source)
    tokens, count = {0: batch, 1: src}, len(shapes.own)
    cross = tuple({0: batch, 2: src} for _ in range(count))
    encode = Function(
        Encode(model),
        (ids, mask),
        (tokens, tokens),
        ("input_ids", "attention_mask"),
        names("cross", count),
    )
    past = min(sizes.PAST, target - 1)
    own = _own_caches(shapes, sizes.BATCH, target if fixed_cache else past)
    inputs = ("attention_mask", *names("self", count), *names("cross", count))
    common = (mask, *own, *shapes.cross)
    outputs = ("logits", *names("present", count))
    if fixed_cache:
        step = Function(
            FixedStep(model, count // 2, shapes.width),
            (ids[:, :1], torch.tensor(past), *common),
            ({0: batch}, None, tokens, (*({0: batch} for _ in own), *cross)),
            ("token", "position", *inputs),
            outputs,
            states("self", count),
        )
    else:
        growing = {0: batch, 2: Dim("past", min=0, max=target - 1)}
        step = Function(
            Step(model, count // 2, shapes.width),
            (ids[:, :1], *common),
            ({0: batch}, tokens, (*(growing for _ in own), *cross)),
            ("token", *inputs),
            outputs,
            states("self", count),
        )
    return {"encode": encode, "step": step}


def _own_caches(shapes: _Shapes, batch: int, length: int) -> list[Tensor]:
    return [torch.zeros(batch, heads, length, width) for heads, width in shapes.own]


@torch.no_grad()
def _run_once(model: Any, ids: Tensor, mask: Tensor) -> _Shapes:
    encoder = model.get_encoder()
    states = encoder(input_ids=ids, attention_mask=mask, return_dict=True)
    own, cross = caches.growing(), caches.growing()
    cache = caches.encoder_decoder(own, cross)
    model(
        encoder_outputs=states,
        attention_mask=mask,
        decoder_input_ids=ids[:, :1],
        past_key_values=cache,
        use_cache=True,
    )
    if not own.layers or len(own.layers) != len(cross.layers):
        got = f"{len(own.layers)} self-attention and {len(cross.layers)} cross-attention caches"
        need = "a decoder whose state is keys and values"
        raise CaptureError(type(model).__name__, got, need)
    sizes_of = tuple((t.shape[1], t.shape[3]) for t in caches.flat(own))
    return _Shapes(sizes_of, caches.flat(cross), states.last_hidden_state.shape[-1])


@torch.no_grad()
def _check(model: Any, shapes: _Shapes, ids: Tensor, mask: Tensor) -> None:
    """Three steps must give the logits of the model's own forward, encoder states unread."""
    steps = min(3, ids.shape[1])
    whole = model(input_ids=ids, attention_mask=mask, decoder_input_ids=ids[:, :steps]).logits
    step = Step(model, len(shapes.own) // 2, shapes.width)
    step.filler = float("nan")
    cross = Encode(model)(ids, mask)
    own: tuple[Tensor, ...] = tuple(_own_caches(shapes, ids.shape[0], 0))
    for t in range(steps):
        logits, *rest = step(ids[:, t : t + 1], mask, *own, *cross)
        own = tuple(rest)
        same_logits(type(model).__name__, logits, whole[:, t])
