"""transformers' Longformer and LED's encoder with attention under a pattern, for a while, at any
length.

The stock form pads inputs to whole windows, asks whether any token is global, and gathers global
tokens by their number: none of that has static shapes. Ours computes the same values from

    local rows     attention under window(w / 2), or window(w / 2) + global(1)
    global rows    attention of the global projections over all tokens

Which tokens are global is known where a model says so itself: none without a mask, the first one
for classification of sequences, the first g where `leading_global = g` on the LongformerModel or
LEDEncoder promises that of every mask. Another mask may hold any tokens; then both are computed
over all pairs under masks, exactly and at quadratic cost.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgec.capture.sparse_models import Put, refuse_shown_attention, replacing
from edgec.nn import sparse_attention


@dataclass
class Globals:
    """Which tokens are global during a call: `leading` ones, or those of a mask."""

    leading: int = 0
    masked: bool = False


@contextlib.contextmanager
def sparse_longformer(module: nn.Module) -> Iterator[None]:
    """Within the block each LongformerModel inside of `module` computes in our form."""
    from transformers.models.longformer import modeling_longformer as stock

    with replacing() as put:
        for part in list(module.modules()):
            if isinstance(part, stock.LongformerForSequenceClassification):
                _first_token(part, put)
            elif isinstance(part, stock.LongformerModel):
                _model(part, put)
        yield


@contextlib.contextmanager
def sparse_led(module: nn.Module) -> Iterator[None]:
    """Within the block each LEDEncoder inside of `module` computes in our form."""
    from transformers.models.led import modeling_led as stock

    with replacing() as put:
        for part in list(module.modules()):
            if isinstance(part, stock.LEDEncoder):
                _led_encoder(part, put)
        yield


def _first_token(classifier: Any, put: Put) -> None:
    """A classifier without a mask makes one for the first token: its model is told the number."""
    forward = classifier.forward

    def told(*args: Any, **given: Any) -> Any:
        own = vars(classifier.longformer)
        said = own.get("leading_global")
        if len(args) < 3 and given.get("global_attention_mask") is None:
            own["leading_global"] = 1
        try:
            return forward(*args, **given)
        finally:
            own["leading_global"] = said
            if said is None:
                del own["leading_global"]

    put(classifier, "forward", told)


def _model(model: Any, put: Put) -> None:
    found = _noted(model, put)
    put(model, "_pad_to_window_size", _unpadded)
    put(model.encoder, "forward", functools.partial(_encoder, model.encoder, found))


def _led_encoder(encoder: Any, put: Put) -> None:
    found = _noted(encoder, put)
    put(encoder, "_pad_to_window_size", _led_unpadded)
    for layer in encoder.layers:
        own = layer.self_attn.longformer_self_attn
        put(own, "forward", functools.partial(_led_attention, own, found))


def _noted(model: Any, put: Put) -> Globals:
    """What holds during each call of a model whose third argument is the mask of global tokens."""
    refuse_shown_attention(model)
    found, forward = Globals(), model.forward

    def called(*args: Any, **given: Any) -> Any:
        leading = vars(model).get("leading_global")
        mask = args[2] if len(args) > 2 else given.get("global_attention_mask")
        found.leading = 0 if mask is None or leading is None else leading
        found.masked = leading is None and mask is not None
        return forward(*args, **given)

    put(model, "forward", called)
    return found


def _unpadded(
    input_ids: Any,
    attention_mask: Any,
    token_type_ids: Any,
    position_ids: Any,
    inputs_embeds: Any,
    pad_token_id: int,
) -> tuple[Any, ...]:
    """`_pad_to_window_size`: patterns hold at any length."""
    return 0, input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds


def _led_unpadded(
    input_ids: Any, attention_mask: Any, inputs_embeds: Any, pad_token_id: int
) -> tuple[Any, ...]:
    """LEDEncoder's `_pad_to_window_size`."""
    return 0, input_ids, attention_mask, inputs_embeds


def _led_attention(
    own: Any,
    found: Globals,
    hidden_states: Tensor,
    attention_mask: Any = None,
    is_index_masked: Any = None,
    is_index_global_attn: Any = None,
    is_global_attn: Any = None,
    output_attentions: bool = False,
) -> tuple[Tensor]:
    """LEDEncoderSelfAttention's forward; the two masks are bool [B, n]."""
    return (_attention(own, found, hidden_states, ~is_index_masked, is_index_global_attn),)


def _encoder(
    encoder: Any,
    found: Globals,
    hidden_states: Tensor,
    attention_mask: Tensor,
    padding_len: int = 0,
    output_attentions: bool = False,
    output_hidden_states: bool = False,
    return_dict: bool = True,
) -> Any:
    """LongformerEncoder's forward.

    attention_mask   [B, n]: below 0 for padding, above for global tokens
    """
    from transformers.models.longformer.modeling_longformer import LongformerBaseModelOutput

    real, chosen = attention_mask >= 0, attention_mask > 0
    states = [hidden_states]
    for layer in encoder.layer:
        x, attention = states[-1], layer.attention
        y = _attention(attention.self, found, x, real, chosen)
        states.append(layer.ff_chunk(attention.output(y, x)))
    shown = tuple(states) if output_hidden_states else None
    if not return_dict:
        return tuple(v for v in (states[-1], shown) if v is not None)
    return LongformerBaseModelOutput(last_hidden_state=states[-1], hidden_states=shown)


def _attention(own: Any, found: Globals, x: Tensor, real: Tensor, chosen: Tensor) -> Tensor:
    """What LongformerSelfAttention and LEDEncoderSelfAttention compute.

    x [B, n, E], real and chosen (global) bool [B, n] -> [B, n, E]
    """

    def heads(projection: Any, tokens: Tensor = x) -> Tensor:
        split: Tensor = projection(tokens).unflatten(-1, (own.num_heads, own.head_dim))
        return split.transpose(1, 2)

    q, k, v = heads(own.query), heads(own.key), heads(own.value)
    keys, count = real[:, None, None, :], found.leading
    window = f"window({own.one_sided_attn_window_size})"
    scale = 1 / math.sqrt(own.head_dim)
    if found.masked:
        near = _near(x.shape[1], own.one_sided_attn_window_size, x.device)
        y = _over_all(q, k, v, (near | chosen[:, None, None, :]) & keys, scale)
        seen = heads(own.key_global), heads(own.value_global)
        of_global = _over_all(heads(own.query_global), *seen, keys, scale)
        y = torch.where(chosen[:, None, :, None], of_global, y)
    elif count:
        y = sparse_attention(q, k, v, f"{window} + global({count})", keys, scale)
        first = heads(own.query_global, x[:, :count])
        first = _over_all(first, heads(own.key_global), heads(own.value_global), keys, scale)
        y = torch.cat([first, y[:, :, count:]], 2)
    else:
        y = sparse_attention(q, k, v, window, keys, scale)
    y = y.transpose(1, 2).flatten(2)
    return y * real[:, :, None].to(y.dtype)


def _over_all(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    return nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=scale)


def _near(length: int, radius: int, device: torch.device) -> Tensor:
    """bool [n, n]: at most `radius` tokens away."""
    i = torch.arange(length, device=device)
    return (i[:, None] - i[None, :]).abs() <= radius
