"""transformers models in a form that exports small: own attention and masks, for a while.

transformers lets a model's attention and its masks be replaced by name. Ours hand grouped heads and
additive biases straight to the fused operator, and build a mask as one boolean tensor that
broadcasts to [B, 1, T, S] instead of the 25 nodes of the stock one. The values are those of the
stock `sdpa` forms.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from edgec.errors import CaptureError

NAME = "edgec"
MaskFunction: TypeAlias = Callable[..., Any]

# A model whose own code asks whether the implementation is called "sdpa" must keep that name.
_ASKS_FOR_NAME = re.compile(r"_attn_implementation\s*(?:[!=]=|(?:not )?in\b)[^\n]*[\"']sdpa[\"']")
# Arguments that change the scores and that the fused operator does not have.
_CHANGE_SCORES = ("softcap", "s_aux", "sinks")


# ------------------------------------------------------------------ switching
@contextlib.contextmanager
def adapted(module: nn.Module) -> Iterator[None]:
    """Within the block, every transformers model inside `module` uses edgec's attention and masks.

    Only what runs transformers' `sdpa` implementation is switched: the two compute the same
    values. Models with attention code of their own, or set to another implementation, stay as they
    are. Modules without transformers models pass through untouched; transformers is never imported
    for them.
    """
    configs = _switchable(module) if "transformers" in sys.modules else []
    if configs:
        _register()
    for config in configs:
        config._attn_implementation_internal = NAME
    try:
        yield
    finally:
        for config in configs:
            config._attn_implementation_internal = "sdpa"


def _register() -> None:
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, mask)


def _switchable(module: nn.Module) -> list[Any]:
    """The configurations inside `module` that can name another attention implementation."""
    owners: dict[int, tuple[Any, list[Any]]] = {}
    _collect(module, None, owners)
    return [
        config
        for config, models in owners.values()
        if config._attn_implementation == "sdpa" and models and all(map(_takes_interface, models))
    ]


def _collect(module: nn.Module, owner: Any, owners: dict[int, tuple[Any, list[Any]]]) -> None:
    """Every configuration with the transformers models whose parts hold it."""
    from transformers import PreTrainedConfig, PreTrainedModel

    owner = module if isinstance(module, PreTrainedModel) else owner
    config = getattr(module, "config", None)
    if isinstance(config, PreTrainedConfig):
        models = owners.setdefault(id(config), (config, []))[1]
        if not any(owner is m for m in models):
            models.append(owner)
    for child in module.children():
        _collect(child, owner, owners)


def _takes_interface(model: Any) -> bool:
    """Whether the code of `model` calls attention by the interface and runs the stock `sdpa`."""
    if model is None or not model._supports_sdpa or not model._can_set_attn_implementation():
        return False
    home = sys.modules[type(model).__module__]
    interface = getattr(home, "ALL_ATTENTION_FUNCTIONS", None)
    if "sdpa" in getattr(interface, "_local_mapping", {}):
        return False
    with open(str(home.__file__), encoding="utf-8") as file:
        return _ASKS_FOR_NAME.search(file.read()) is None


# ------------------------------------------------------------------ attention
def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: q [B, H, T, D], k, v [B, Hk, S, D] -> [B, T, H, D].

    attention_mask   bool (True: visible) or float (added), broadcastable to [B, H, T, S]
    position_bias    float, added to the scores; hidden places get the least float, as in the stock
                     form
    Raises CaptureError for arguments that change the scores in a way the fused operator does not
    know.
    """
    given = [name for name in _CHANGE_SCORES if rest.get(name) is not None]
    if given:
        need = "attention that scaled dot products and a mask express"
        raise CaptureError(type(module).__name__, f"{', '.join(given)} in attention", need)
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    causal = bool(causal) and attention_mask is None and not _known(query.shape[2] == 1)
    if causal and (position_bias is not None or not _known(query.shape[2] == key.shape[2])):
        attention_mask, causal = _lower_triangle(query, key), False
    if position_bias is not None:
        attention_mask = _with_bias(position_bias, attention_mask)
    if query.shape[0] != key.shape[0]:
        query = query.expand(key.shape[0], -1, -1, -1)
    out = nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attention_mask,
        scale=scaling,
        is_causal=causal,
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return out.transpose(1, 2).contiguous(), None


def _lower_triangle(query: Tensor, key: Tensor) -> Tensor | None:
    """Causal mask [T, S], aligned at the top left; a single query sees everything."""
    if query.shape[2] == 1:
        return None
    q = torch.arange(query.shape[2], device=query.device)
    return q[:, None] >= torch.arange(key.shape[2], device=query.device)[None, :]


def _with_bias(bias: Tensor, visible: Tensor | None) -> Tensor:
    if visible is None:
        return bias
    if visible.dtype != torch.bool:
        return bias + visible
    return torch.where(visible, bias, torch.finfo(bias.dtype).min)


def _known(condition: bool | torch.SymBool) -> bool:
    """Whether a comparison of sizes holds for all values of the named dimensions; adds no guard."""
    return statically_known_true(condition)


# ------------------------------------------------------------------ masks
def mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int | Tensor = 0,
    mask_function: MaskFunction | None = None,
    attention_mask: Tensor | None = None,
    allow_is_causal_skip: bool = True,
    allow_is_bidirectional_skip: bool = False,
    use_vmap: bool = False,
    device: torch.device | str = "cpu",
    **rest: Any,
) -> Tensor | None:
    """transformers' mask interface: bool, broadcastable to [B, 1, T, S]; None: nothing is hidden.

    attention_mask   bool [B, >= S], True for real tokens
    mask_function    (batch, head, query, key indices) -> visible; a conjunction is taken apart,
                     and its terms that always hold are dropped
    """
    from transformers import masking_utils

    function = mask_function or masking_utils.causal_mask_function
    if use_vmap:  # not written on index tensors: only the stock form evaluates it
        return masking_utils.sdpa_mask(
            batch_size,
            q_length,
            kv_length,
            cast(int, q_offset),
            cast(int, kv_offset),
            function,
            attention_mask,
            allow_is_causal_skip=False,
            use_vmap=True,
            device=device,
        )
    terms = _conjuncts(function)
    terms = [f for f in terms if f is not masking_utils.bidirectional_mask_function]
    if _known(q_length == 1) and _is_last(q_offset, kv_length, kv_offset):
        terms = [f for f in terms if f is not masking_utils.causal_mask_function]
    indices = _indices(batch_size, q_length, kv_length, q_offset, kv_offset, device)
    visible = [f(*indices) for f in terms]
    if attention_mask is not None:
        visible.append(_padding(attention_mask, kv_length, kv_offset)[:, None, None, :])
    made = _all_of(visible)
    if allow_is_causal_skip or allow_is_bidirectional_skip:
        return made
    if made is None:
        made = torch.ones((), dtype=torch.bool, device=device)
    return made.expand(batch_size, 1, q_length, kv_length)


def _conjuncts(function: MaskFunction) -> list[MaskFunction]:
    """The functions that `and_masks` joined, in order; a single one where it did not."""
    from transformers.masking_utils import and_masks

    joined = and_masks().__code__
    if getattr(function, "__code__", None) is not joined:
        return [function]
    parts = dict(zip(joined.co_freevars, function.__closure__ or (), strict=True))
    listed: Sequence[MaskFunction] = parts["mask_functions"].cell_contents
    return [term for part in listed for term in _conjuncts(part)]


def _is_last(q_offset: int | Tensor, kv_length: int, kv_offset: int | Tensor) -> bool:
    """Whether the only query stands at the last key, so that it sees every key."""
    if isinstance(q_offset, Tensor) or isinstance(kv_offset, Tensor):
        return False
    return _known(q_offset + 1 == kv_length + kv_offset)


def _indices(
    batch: int,
    queries: int,
    keys: int,
    q_offset: int | Tensor,
    kv_offset: int | Tensor,
    device: torch.device | str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Index tensors [B,1,1,1], [1,1,1,1], [1,1,T,1], [1,1,1,S]."""
    b = torch.arange(batch, device=device)[:, None, None, None]
    h = torch.zeros((1, 1, 1, 1), dtype=torch.long, device=device)
    q = (torch.arange(queries, device=device) + q_offset)[None, None, :, None]
    kv = (torch.arange(keys, device=device) + kv_offset)[None, None, None, :]
    return b, h, q, kv


def _padding(attention_mask: Tensor, keys: int, offset: int | Tensor) -> Tensor:
    """bool [B, S]: the part of the padding mask that the keys cover, hidden beyond its end."""
    from transformers.masking_utils import prepare_padding_mask

    padding = cast(Tensor, prepare_padding_mask(attention_mask, keys, cast(int, offset)))
    padding = padding.to(torch.bool)
    if isinstance(offset, Tensor):
        return padding[:, torch.arange(keys, device=padding.device) + offset]
    # A plain comparison, so that export learns that the two (symbolic) lengths are one.
    if offset == 0 and padding.shape[-1] == keys:
        return padding
    return padding[:, offset : offset + keys]


def _all_of(visible: list[Tensor]) -> Tensor | None:
    made: Tensor | None = None
    for term in visible:
        made = term if made is None else made & term
    return made
