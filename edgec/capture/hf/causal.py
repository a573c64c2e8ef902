"""Causal language models as two functions: `prefill` for a prompt, `step` for each token after it.

prefill   input_ids i64[batch, seq], attention_mask i64[batch, seq]
          -> logits f32[batch, seq, V], key_0 f32[batch, Hk, seq, D], value_0, key_1, ...
step      input_ids i64[batch, 1], attention_mask i64[batch, past + 1], key_0 f32[batch, Hk, past,
          D], ...
          -> logits f32[batch, V], present_key_0 f32[batch, Hk, past + 1, D], present_value_0, ...

Positions count the visible tokens (as `generate` of transformers does), so prompts may be padded
on either side. With a cache of constant size, `step` takes `position` i64[] after the token, a
mask [batch, max_length], and caches of max_length slots, which `prefill` returns.
"""

from __future__ import annotations

import inspect
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


class Prefill(nn.Module):
    """A whole prompt; the caches are padded to `slots` positions where that is given."""

    def __init__(self, model: Any, slots: int | None = None) -> None:
        super().__init__()
        self.model, self.slots = model, slots
        self.counts = _takes_positions(model)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        cache = caches.growing()
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        logits = _call(self, input_ids, attention_mask, positions, cache)
        kv = caches.flat(cache)
        if self.slots is not None:
            free = self.slots - input_ids.shape[1]
            kv = tuple(nn.functional.pad(t, (0, 0, 0, free)) for t in kv)
        return (logits, *kv)


class Step(nn.Module):
    """One token over growing caches."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.counts = _takes_positions(model)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *kv: Tensor) -> tuple[Tensor, ...]:
        return self.decode(input_ids, attention_mask, caches.growing(kv))

    def decode(self, input_ids: Tensor, attention_mask: Tensor, cache: Any) -> tuple[Tensor, ...]:
        positions = attention_mask.sum(-1, keepdim=True) - 1
        logits = _call(self, input_ids, attention_mask, positions, cache)
        return (logits[:, -1], *caches.flat(cache))


class FixedStep(Step):
    """One token over caches of constant size; `position` i64[] is the slot to write."""

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, position: Tensor, attention_mask: Tensor, *kv: Tensor
    ) -> tuple[Tensor, ...]:
        return self.decode(input_ids, attention_mask, caches.fixed(kv, position))


def _takes_positions(model: Any) -> bool:
    return "position_ids" in inspect.signature(model.forward).parameters


def _call(step: Prefill | Step, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
    given = {"position_ids": positions} if step.counts else {}
    out = step.model(
        input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **given
    )
    logits: Tensor = out.logits
    return logits


def functions(model: Any, longest: int, fixed_cache: bool) -> dict[str, Function]:
    """`prefill` and `step` of a model, for sequences up to `longest` tokens.

    Raises CaptureError for a model that keeps another state than keys and values.
    """
    length = sizes.example(sizes.LENGTH, longest)
    ids = sizes.token_ids(model.config.get_text_config().vocab_size, sizes.BATCH, length)
    mask = sizes.padded(sizes.BATCH, length)
    kv = _check(model, ids)
    batch, seq = Dim("batch", min=1, max=sizes.MAX_BATCH), Dim("seq", min=1, max=longest)
    tokens, count = {0: batch, 1: seq}, len(kv)
    prefill = Function(
        Prefill(model, longest if fixed_cache else None),
        (ids, mask),
        (tokens, tokens),
        ("input_ids", "attention_mask"),
        ("logits", *names("", count)),
    )
    outputs = ("logits", *names("present", count))
    held = min(sizes.PAST, longest - 1)
    slots = longest if fixed_cache else held
    own = [t.new_zeros(sizes.BATCH, t.shape[1], slots, t.shape[3]) for t in kv]
    if fixed_cache:
        visible = (torch.arange(longest) <= held).long().expand(sizes.BATCH, -1).clone()
        step = Function(
            FixedStep(model),
            (ids[:, :1], torch.tensor(held), visible, *own),
            ({0: batch}, None, {0: batch}, tuple({0: batch} for _ in own)),
            ("input_ids", "position", "attention_mask", *names("", count)),
            outputs,
            states("", count),
        )
    else:
        past = Dim("past", min=0, max=longest - 1)
        step = Function(
            Step(model),
            (ids[:, :1], sizes.padded(sizes.BATCH, held + 1, left=True), *own),
            ({0: batch}, {0: batch, 1: past + 1}, tuple({0: batch, 2: past} for _ in own)),
            ("input_ids", "attention_mask", *names("", count)),
            outputs,
            states("", count),
        )
    return {"prefill": prefill, "step": step}


@torch.no_grad()
def _check(model: Any, ids: Tensor) -> tuple[Tensor, ...]:
    """The caches of a prefill. It and steps must give the logits of the model's own forward."""
    name, whole = type(model).__name__, model(input_ids=ids, use_cache=False).logits
    try:
        logits, *kv = Prefill(model)(ids, torch.ones_like(ids))
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        got = f"a state that is not keys and values ({type(error).__name__}: {error})"
        raise CaptureError(name, got, "attention in every layer that keeps a state") from error
    if not kv or any(t is None or t.dim() != 4 or t.shape[2] != ids.shape[1] for t in kv):
        raise CaptureError(name, "no key/value cache in some layer", "attention in every layer")
    same_logits(name, logits, whole)
    half = ids.shape[1] // 2
    cache: tuple[Tensor, ...] = tuple(t[:, :, :half] for t in kv)
    for t in range(half, ids.shape[1]):
        visible = torch.ones_like(ids[:, : t + 1])
        logits, *rest = Step(model)(ids[:, t : t + 1], visible, *cache)
        cache = tuple(rest)
        same_logits(name, logits, whole[:, t])
    return tuple(kv)
