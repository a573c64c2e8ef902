"""Key/value caches of transformers models as flat tensors: growing ones and ones of constant size.

A flat cache is the tuple (key_0, value_0, key_1, value_1, ...) of the layers, each [B, H, S, D].
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


@functools.cache
def _growing_layer() -> type[Any]:
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):
        """Appends keys and values.

        Unlike the stock layer it never joins an empty tensor, nor asks whether a symbolic
        number of elements is zero.
        """

        keys: Any
        values: Any

        def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
            self.dtype, self.device = key_states.dtype, key_states.device
            self.keys, self.values, self.is_initialized = key_states, value_states, True

        def update(
            self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
        ) -> tuple[Tensor, Tensor]:
            if self.is_initialized:
                key_states = torch.cat([self.keys, key_states], dim=-2)
                value_states = torch.cat([self.values, value_states], dim=-2)
            self.lazy_initialization(key_states, value_states)
            return key_states, value_states

        def get_seq_length(self) -> int:
            return self.keys.shape[-2] if self.is_initialized else 0

    return GrowingLayer


@functools.cache
def _fixed_layer() -> type[Any]:
    class FixedLayer(_growing_layer()):  # type: ignore[misc]
        """Of constant size; the one new key and value go into slot `position`."""

        keys: Any
        values: Any
        position: Tensor

        def update(
            self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
        ) -> tuple[Tensor, Tensor]:
            slots = torch.arange(self.keys.shape[-2], device=self.keys.device)
            here = (slots == self.position)[None, None, :, None]
            self.keys = torch.where(here, key_states, self.keys)
            self.values = torch.where(here, value_states, self.values)
            return self.keys, self.values

        def get_seq_length(self) -> Any:
            return self.position

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return self.keys.shape[-2], 0

    return FixedLayer


def _over(flat: Sequence[Tensor], kind: type[Any]) -> Any:
    """A cache with a layer of class `kind` for each pair of tensors (none: made on use)."""
    from transformers.cache_utils import DynamicCache

    cache = DynamicCache()
    cache.layer_class_to_replicate = kind
    for keys, values in zip(flat[0::2], flat[1::2], strict=True):
        layer = kind()
        layer.dtype, layer.device = keys.dtype, keys.device
        layer.keys, layer.values, layer.is_initialized = keys, values, True
        cache.layers.append(layer)
    return cache


def growing(flat: Sequence[Tensor] = ()) -> Any:
    """A transformers cache over given tensors (or none), which grows with each `update`."""
    return _over(flat, _growing_layer())


def fixed(flat: Sequence[Tensor], position: Tensor) -> Any:
    """A transformers cache of constant size over given tensors; writes slot `position` i64[]."""
    cache = _over(flat, _fixed_layer())
    for layer in cache.layers:
        layer.position = position
    return cache


def encoder_decoder(own: Any, cross: Any) -> Any:
    """A pair of caches. The decoder reads the layers of `cross` instead of the encoder's states."""
    from transformers.cache_utils import EncoderDecoderCache

    cache = EncoderDecoderCache(own, growing())
    # set afterwards: the constructor would compare the (symbolic) length of each layer with 0
    cache.cross_attention_cache = cross
    cache.is_updated = dict.fromkeys(range(len(cross.layers)), True)
    return cache


def flat(cache: Any) -> tuple[Tensor, ...]:
    """(key_0, value_0, key_1, ...) of a cache's layers."""
    return tuple(t for layer in cache.layers for t in (layer.keys, layer.values))
