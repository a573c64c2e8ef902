"""edgec's attention and masks inside of transformers models, against the stock implementations."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from transformers import masking_utils
from transformers.integrations.sdpa_attention import sdpa_attention_forward

import edgec
from edgec.capture import caches
from edgec.capture.transformers import adapted, attention, mask
from edgec.errors import CaptureError
from tests.capture.tiny_models import DECODER, TEXT, build, ids, relative, tf
from tests.capture.tiny_models import mask as padding_mask

BATCH = 3
stock: Any = masking_utils  # its types name ints where tensors are meant


# ------------------------------------------------------------------ masks
def blocks(length: int) -> Tensor:
    """A group number for each token of each row, -1 for none."""
    return torch.tensor([[-1, *[i // 3 for i in range(length - 1)]]] * BATCH) + torch.arange(
        BATCH
    ).reshape(-1, 1).clamp(max=1)


def packed(length: int) -> Any:
    positions = torch.stack([torch.arange(length) % (n + 3) for n in range(BATCH)])
    sequences = (positions == 0).long().cumsum(-1)
    causal = stock.causal_mask_function
    return stock.packed_sequence_compatibility_function(causal, positions, sequences)


FUNCTIONS: dict[str, Callable[[int], Any]] = {
    "causal": lambda n: stock.causal_mask_function,
    "bidirectional": lambda n: stock.bidirectional_mask_function,
    "sliding": lambda n: stock.sliding_window_causal_mask_function(4),
    "sliding_bidirectional": lambda n: stock.sliding_window_bidirectional_mask_function(2),
    "chunked": lambda n: stock.chunked_causal_mask_function(3, torch.tensor([0, 2, 1])),
    "blockwise": lambda n: stock.or_masks(
        stock.causal_mask_function, stock.blockwise_overlay(blocks(n))
    ),
    "packed": packed,
    "nested": lambda n: stock.and_masks(
        stock.and_masks(stock.bidirectional_mask_function, stock.sliding_window_overlay(3)),
        stock.causal_mask_function,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_masks_hide_what_the_stock_masks_hide(name: str) -> None:
    """Whole sequences, with a past, with and without padding; values, not shapes, must agree."""
    cases = itertools.product((1, 4, 9), (0, 5), (False, True), (False, True))
    for queries, past, padded, whole in cases:
        keys = queries + past
        padding = padding_mask(BATCH, keys, left=True).bool() if padded else None
        sizes = (BATCH, queries, keys, past, 0, FUNCTIONS[name](keys), padding)
        got = mask(*sizes, allow_is_causal_skip=not whole)
        want = stock.sdpa_mask(*sizes, allow_is_causal_skip=False)
        assert want is not None
        shape = (BATCH, 1, queries, keys)
        if got is None:
            assert bool(want.all()) and not whole
        else:
            assert torch.equal(got.expand(shape), want.expand(shape))
            assert not whole or got.shape == shape


def test_masks_over_a_part_of_the_keys() -> None:
    """A window of the cache (an offset), and a padding mask that is too short or too long."""
    causal = stock.causal_mask_function
    for length, offset in ((12, 4), (9, 4), (12, torch.tensor(4)), (6, 4)):
        padding = padding_mask(BATCH, length, left=True).bool()
        sizes = (BATCH, 3, 8, 9, offset, causal, padding)
        got, want = mask(*sizes), stock.sdpa_mask(*sizes, allow_is_causal_skip=False)
        assert got is not None and torch.equal(got.expand(BATCH, 1, 3, 8), want)


def test_a_mask_function_that_is_not_written_on_index_tensors() -> None:
    table = torch.rand(BATCH, 6) > 0.3

    def chosen(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        return table[b, kv] & (q >= kv)

    sizes = (BATCH, 6, 6, 0, 0, chosen, None)
    want = stock.sdpa_mask(*sizes, allow_is_causal_skip=False, use_vmap=True)
    got = mask(*sizes, use_vmap=True)
    assert got is not None and torch.equal(got, want)


# ------------------------------------------------------------------ attention
class Layer(nn.Module):
    """What the interface reads of an attention module."""

    def __init__(self, groups: int, is_causal: bool) -> None:
        super().__init__()
        self.num_key_value_groups, self.is_causal = groups, is_causal
        self.eval()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("masking", ["none", "bool", "float", "bias", "bias+bool", "bias+float"])
def test_attention_gives_what_the_stock_one_gives(masking: str, groups: int, causal: bool) -> None:
    torch.manual_seed(0)
    layer, heads = Layer(groups, causal), 4
    for queries, keys in ((7, 7), (1, 7), (3, 7)):
        q = torch.randn(BATCH, heads, queries, 8)
        k, v = torch.randn(2, BATCH, heads // groups, keys, 8)
        visible = torch.rand(BATCH, 1, queries, keys) > 0.3
        visible[..., 0] = True
        given: dict[str, Any] = {"attention_mask": None}
        if "bool" in masking:
            given["attention_mask"] = visible
        elif "float" in masking:
            given["attention_mask"] = torch.where(visible, torch.randn(()), -3e38)
        if "bias" in masking:
            given["position_bias"] = torch.randn(1, heads, queries, keys)
        got, _ = attention(layer, q, k, v, scaling=0.3, **given)
        want, _ = sdpa_attention_forward(layer, q, k, v, scaling=0.3, **given)
        assert got.shape == want.shape == (BATCH, queries, heads, 8)
        assert relative(got, want) < 1e-6


def test_one_row_of_learned_queries_meets_a_batch_of_keys() -> None:
    q, (k, v) = torch.randn(1, 4, 5, 8), torch.randn(2, BATCH, 4, 7, 8)
    got, _ = attention(Layer(1, False), q, k, v, None)
    want, _ = sdpa_attention_forward(Layer(1, False), q, k, v, None)
    assert relative(got, want) < 1e-6


def test_attention_refuses_what_the_operator_cannot_express() -> None:
    q, k, v = torch.randn(3, 1, 4, 5, 8)
    with pytest.raises(CaptureError, match="softcap"):
        attention(Layer(1, True), q, k, v, None, softcap=50.0)


# ------------------------------------------------------------------ switching
def implementations(model: Any) -> set[str]:
    return {m.config._attn_implementation for m in model.modules() if hasattr(m, "config")}


def test_models_are_switched_for_a_while_and_restored_even_after_a_failure() -> None:
    model = build("t5")  # its stacks hold copies of the configuration
    assert implementations(model) == {"sdpa"}
    with pytest.raises(RuntimeError), adapted(model):
        assert implementations(model) == {"edgec"}
        raise RuntimeError
    assert implementations(model) == {"sdpa"}


def test_models_that_cannot_be_switched_stay_as_they_are() -> None:
    gemma2 = tf.Gemma2Config(**DECODER, num_key_value_heads=2, head_dim=8)  # caps its scores
    falcon = tf.FalconConfig(**DECODER)  # asks for the name of the implementation
    own = tf.MPNetConfig(**TEXT)  # attention code of its own
    for model in (
        tf.Gemma2ForCausalLM(gemma2),
        tf.FalconForCausalLM(falcon),
        tf.MPNetModel(own),
        tf.BertModel._from_config(tf.BertConfig(**TEXT), attn_implementation="eager"),
    ):
        before = implementations(model)
        with adapted(nn.Sequential(model)):
            assert implementations(model) == before
        assert "edgec" not in before


def test_a_part_that_cannot_be_switched_does_not_hold_back_the_others() -> None:
    bert, own = build("bert"), build("mpnet")
    with adapted(nn.ModuleList([bert, own, nn.Linear(2, 2)])):
        assert implementations(bert) == {"edgec"}
        assert "edgec" not in implementations(own)


@pytest.mark.parametrize("name", ["bert", "modernbert", "llama", "mistral", "gemma3", "gpt2", "t5"])
def test_adapted_models_compute_what_eager_models_compute(name: str) -> None:
    """Whole sequences with padding: the same hidden states wherever a token is visible."""
    model = build(name)
    for batch, length in ((3, 11), (1, 1), (2, 5)):
        tokens, visible = ids(batch, length), padding_mask(batch, length)
        given: dict[str, Any] = {"input_ids": tokens, "attention_mask": visible}
        if model.config.is_encoder_decoder:
            given["decoder_input_ids"] = tokens
        else:
            given["use_cache"] = False
        with torch.no_grad():
            stock_values = model(**given)[0]
            with adapted(model):
                got = model(**given)[0]
            model.set_attn_implementation("eager")
            eager = model(**given)[0]
            model.set_attn_implementation("sdpa")
        shown = visible.bool() if not model.config.is_encoder_decoder else slice(None)
        assert relative(got, stock_values) < 1e-6
        assert relative(got[shown], eager[shown]) < 2e-6


# ------------------------------------------------------------------ caches
@pytest.mark.parametrize("name", ["llama", "gemma3", "marian"])
def test_caches_of_constant_size_hold_what_growing_ones_hold(name: str) -> None:
    model, slots = build(name), 12
    layers = model.config.get_text_config().num_hidden_layers
    growing = caches.growing()
    shape = (BATCH, 2 if name != "marian" else 4, slots, 8)
    fixed = tuple(torch.zeros(shape) for _ in range(2 * layers))
    decoder = model.get_decoder()
    tokens = ids(BATCH, 6)
    with torch.no_grad(), adapted(model):
        for t in range(6):
            token = tokens[:, t : t + 1]
            want = decoder(token, past_key_values=growing, use_cache=True).last_hidden_state
            cache = caches.fixed(fixed, torch.tensor(t))
            got = decoder(token, past_key_values=cache, use_cache=True).last_hidden_state
            fixed = caches.flat(cache)
            assert relative(got, want) < 1e-6
    for slot_values, grown in zip(fixed, caches.flat(growing), strict=True):
        assert relative(slot_values[:, :, :6], grown) < 1e-6
        assert not slot_values[:, :, 6:].any()


# ------------------------------------------------------------------ size of the graphs
def test_an_adapted_encoder_has_a_smaller_graph_with_the_same_results() -> None:
    model = build("bert")

    class States(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            states: Tensor = self.model(input_ids, attention_mask).last_hidden_state
            return states

    batch, seq = Dim("batch", min=1, max=64), Dim("seq", min=1, max=64)
    shapes = ({0: batch, 1: seq}, {0: batch, 1: seq})
    inputs = (ids(BATCH, 11), padding_mask(BATCH, 11))
    program = edgec.capture(States(), inputs, shapes)
    assert relative(program.run(*inputs), States()(*inputs)) < 1e-6
    nodes = program.main.nodes
    masks = [n.inputs[3] for n in nodes if n.op.name == "attention"]
    assert len(masks) == 2 and len(set(masks)) == 1
    assert str(program.main.type(str(masks[0]))) == "bool[batch, 1, 1, seq]"
    assert not {"ge", "logical_and", "gather_nd"} & {n.op.name for n in nodes}
