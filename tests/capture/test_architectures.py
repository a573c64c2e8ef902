"""Every architecture of the public list is captured, printed, read back and equals eager."""

from __future__ import annotations

import pytest
from torch.utils import _pytree as pytree

import edgec
from edgec.ir.text import parse_program
from tests.architectures import ZOO
from tests.capture.harness import assert_equal, resized

# One of each kind; the others run with `-m slow`.
DEFAULT = {
    "bert",
    "fnet",
    "gpt2_step",
    "gru_keyword_spotter",
    "llama_step",
    "lstm_tagger",
    "marian_decoder_step",
    "mobilenet_v2",
    "nn_transformer",
    "t5_encoder",
    "unet",
    "wav2vec2_ctc",
}
NAMES = [n if n in DEFAULT else pytest.param(n, marks=pytest.mark.slow) for n in ZOO]


@pytest.mark.parametrize("name", NAMES)
def test_architecture(name: str) -> None:
    module, inputs, dynamic_shapes = ZOO[name]()
    program = edgec.capture(module, inputs, dynamic_shapes)
    program.verify()
    text = program.text()
    assert parse_program(text, program.constants).text() == text
    assert all(node.source for node in program.main.nodes)
    assert len(program.main.inputs) == len(pytree.tree_leaves(inputs))
    assert_equal(program, module, inputs)
    if dynamic_shapes is not None:
        assert_equal(program, module, resized(module, inputs, dynamic_shapes))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "swin", "t5_decoder_step", "llama_prefill", "clip"])
def test_stock_attention_and_masks_are_captured_too(name: str) -> None:
    module, inputs, dynamic_shapes = ZOO[name]()
    program = edgec.capture(module, inputs, dynamic_shapes, adapt=False)
    assert_equal(program, module, inputs)
    assert_equal(program, module, resized(module, inputs, dynamic_shapes))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "gpt2_step", "marian_decoder_step", "resnet"])
def test_smallest_and_largest_sizes(name: str) -> None:
    module, inputs, dynamic_shapes = ZOO[name]()
    program = edgec.capture(module, inputs, dynamic_shapes)
    for choose in (lambda _, low, high: max(low, 1), lambda _, low, high: min(high, 40)):
        assert_equal(program, module, resized(module, inputs, dynamic_shapes, choose))


def test_text_names_the_users_dimensions_weights_and_lines() -> None:
    module, inputs, dynamic_shapes = ZOO["unet"]()
    program = edgec.capture(module, inputs, dynamic_shapes)
    text = program.text()
    assert "func @main(%x: f32[batch, 3, 32, 32]) dims(batch: 0..64) {" in text
    assert "@d1.0.weight = const f32[8, 3, 3, 3] dense sha256:" in text
    assert "# architectures.py:" in text and "/architectures.py" not in text


def test_a_shared_embedding_is_stored_once() -> None:
    module, inputs, dynamic_shapes = ZOO["marian_decoder_step"]()
    program = edgec.capture(module, inputs, dynamic_shapes)
    (table,) = [c for c in program.constants.values() if c.type.shape == (99, 32)]
    users = {n.op.name for n in program.main.users()[table.ref]}
    assert users == {"gather", "linear"}
