"""transformers' BigBird and the encoder of its BigBirdPegasus with block_sparse attention under a
pattern, for a while, at any length.

The stock form works on whole blocks of B tokens. In blocks 1 .. last-1 a query sees its own block,
the blocks beside it, the first and the last block, and r random blocks; in the first and the last
it sees all. Outside of training all its "random" blocks are block 0 (`rand_attn` is zero), which
the softmax counts once more for each: the keys of block 0 have the weight 1 + r. Ours computes that
from

    rows in between      attention under block_local(B, 1) + global(B, B), with log(1 + r) added to
                         the scores of the first B keys
    first, last block    attention over all keys

on tokens that are padded to whole blocks inside of each attention. Up to (5 + 2 r) B tokens the
stock form turns itself dense (for good, after one such input). A program whose lengths lie on both
sides computes both and takes the one of its length, the dense one over at most so many tokens.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from edgec.capture.sparse_models import refuse_shown_attention, replacing
from edgec.errors import CaptureError
from edgec.nn import sparse_attention


@contextlib.contextmanager
def sparse_big_bird(module: nn.Module) -> Iterator[None]:
    """Within the block each BigBirdModel with block_sparse attention computes in our form."""
    from transformers.models.big_bird import modeling_big_bird as stock

    with contextlib.ExitStack() as stack:
        for model in _block_sparse(module, stock.BigBirdModel):
            layers = [layer.attention.self for layer in model.encoder.layer]
            stack.enter_context(_adapted(model, layers, _unpadded))
        yield


@contextlib.contextmanager
def sparse_big_bird_pegasus(module: nn.Module) -> Iterator[None]:
    """Within the block each BigBirdPegasusEncoder with block_sparse attention computes so."""
    from transformers.models.bigbird_pegasus import modeling_bigbird_pegasus as stock

    with contextlib.ExitStack() as stack:
        for encoder in _block_sparse(module, stock.BigBirdPegasusEncoder):
            layers = [layer.self_attn.self for layer in encoder.layers]
            stack.enter_context(_adapted(encoder, layers, _unpadded_states))
        yield


def _block_sparse(module: nn.Module, kind: type[nn.Module]) -> list[Any]:
    models: list[Any] = [m for m in module.modules() if isinstance(m, kind)]
    return [m for m in models if m.attention_type == "block_sparse"]


@contextlib.contextmanager
def _adapted(model: Any, layers: Sequence[Any], unpadded: Callable[..., Any]) -> Iterator[None]:
    """`model` makes the masks for `layers`, its attentions of blocks."""
    refuse_shown_attention(model)
    size = model.config.block_size
    with replacing() as put:
        put(model, "_pad_to_block_size", unpadded)
        put(model, "create_masks_for_block_sparse_attn", _masks)
        for own in layers:
            put(own, "forward", _forward(own))
        model.config.block_size = 0  # no input is too short for this
        try:
            yield
        finally:
            model.config.block_size = size


def _unpadded(
    input_ids: Any,
    attention_mask: Any,
    token_type_ids: Any,
    position_ids: Any,
    inputs_embeds: Any,
    pad_token_id: int,
) -> tuple[Any, ...]:
    """`_pad_to_block_size`: each attention pads for itself."""
    return 0, input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds


def _unpadded_states(hidden_states: Tensor, attention_mask: Tensor) -> tuple[int, Tensor, Tensor]:
    """`_pad_to_block_size` of BigBirdPegasusEncoder, which pads embedded tokens."""
    return 0, hidden_states, attention_mask


def _masks(attention_mask: Tensor, block_size: int) -> tuple[Any, ...]:
    """`create_masks_for_block_sparse_attn`: of the four only what ours reads, [B, 1, 1, n]."""
    batch, length = attention_mask.shape
    return None, None, None, attention_mask.view(batch, 1, 1, length)


def _forward(own: Any) -> Callable[..., tuple[Tensor, None]]:
    """BigBirdBlockSparseAttention's forward: x [B, n, E] -> [B, n, E]."""

    def forward(
        x: Tensor, band_mask: Any = None, from_mask: Any = None, to_mask: Any = None, *_: Any,
        **rest: Any,
    ) -> tuple[Tensor, None]:  # fmt: skip
        def heads(projection: Any) -> Tensor:
            split: Tensor = projection(x).unflatten(-1, (own.num_attention_heads, -1))
            return split.transpose(1, 2)

        # a plain comparison, so that export learns that the two (symbolic) lengths are one
        if to_mask.shape[-1] != x.shape[1]:
            got = f"a mask of {to_mask.shape[-1]} tokens for {x.shape[1]}"
            raise CaptureError(type(own).__name__, got, "one for each token")
        q, k, v = heads(own.query), heads(own.key), heads(own.value)
        y = attention(q, k, v, to_mask != 0, own.block_size, own.num_random_blocks)
        return y.transpose(1, 2).flatten(2), None

    return forward


def attention(q: Tensor, k: Tensor, v: Tensor, real: Tensor, block: int, random: int) -> Tensor:
    """q, k, v [B, H, n, D], real bool [B, 1, 1, n] -> [B, H, n, D]."""
    length: Any = q.shape[2]
    limit = (5 + 2 * random) * block
    if statically_known_true(length > limit):
        return _sparse(q, k, v, real, block, random)
    if statically_known_true(length <= limit):
        return F.scaled_dot_product_attention(q, k, v, real)
    few = torch.sym_min(length, limit)
    first_q, first_k, first_v = (t[:, :, :few] for t in (q, k, v))
    dense = F.scaled_dot_product_attention(first_q, first_k, first_v, real[..., :few])
    dense = F.pad(dense, (0, 0, 0, length - few))
    long = torch.scalar_tensor(length, dtype=torch.long, device=q.device) > limit
    return torch.where(long, _sparse(q, k, v, real, block, random), dense)


def _sparse(q: Tensor, k: Tensor, v: Tensor, real: Tensor, block: int, random: int) -> Tensor:
    """`attention` of many tokens; rows of padding are zero."""
    length: Any = q.shape[2]
    blocks = torch.sym_max((length + block - 1) // block, 2)
    more = blocks * block - length
    q, k, v = (F.pad(t, (0, 0, 0, more)) for t in (q, k, v))
    real = F.pad(real, (0, more))
    bias = torch.zeros(real.shape, dtype=q.dtype, device=q.device)
    bias = bias.masked_fill(~real, -math.inf)
    counted = torch.arange(bias.shape[-1], device=q.device) < block
    bias = bias + counted.to(q.dtype) * math.log(1 + random)
    between = sparse_attention(q, k, v, f"block_local({block}, 1) + global({block}, {block})", bias)
    ends = [
        F.scaled_dot_product_attention(rows, k, v, real)
        for rows in (q[:, :, :block], q[:, :, (blocks - 1) * block :])
    ]
    middle = between[:, :, block : (blocks - 1) * block]
    y = torch.cat([ends[0], middle, ends[1]], 2) * real.transpose(2, 3).to(q.dtype)
    return y[:, :, :length]
