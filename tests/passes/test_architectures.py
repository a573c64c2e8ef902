"""The clean-up pipeline on the public architectures: smaller, the same, and done after one run."""

from __future__ import annotations

import pytest
import torch

import edgec
from edgec.comparison import compare
from edgec.interpreter import flatten
from edgec.ir import Graph
from edgec.ir.text import parse_program
from edgec.passes import CLEANUP, parse_pipeline
from tests.architectures import ZOO
from tests.capture.harness import resized
from tests.passes.contiguous import Contiguous

# One of each kind of attention, mask and norm; the others run with `-m slow`.
DEFAULT = {"deberta_v2", "detr", "llama_step", "mobilenet_v2", "t5_encoder"}
NAMES = [n if n in DEFAULT else pytest.param(n, marks=pytest.mark.slow) for n in ZOO]

# float64: what is left is the rounding of folded constants to float32, amplified by the depth
TOLERANCE = 2e-6


@pytest.mark.parametrize("name", NAMES)
def test_architecture(name):
    module, inputs, dynamic_shapes = ZOO[name]()
    check(edgec.capture(module, inputs, dynamic_shapes), module, inputs, dynamic_shapes)


# Nodes that the masks, positions and formulas of the stock models leave at most.
STOCK = {
    "bert": 56,
    "clip": 122,
    "detr": 206,
    "gpt2_step": 68,
    "llama_step": 86,
    "marian_decoder_step": 64,
    "t5_decoder_step": 86,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STOCK)
def test_stock_attention_and_masks(name):
    module, inputs, dynamic_shapes = ZOO[name]()
    program = edgec.capture(module, inputs, dynamic_shapes, adapt=False)
    after = check(program, module, inputs, dynamic_shapes)
    assert len(after.main.nodes) <= STOCK[name]
    assert "softmax" not in {n.op.name for n in after.main.nodes}
    assert "gather_nd" not in ops_behind_masks(after.main)


def ops_behind_masks(graph: Graph) -> set[str]:
    """Names of all ops that the masks of the attentions are computed by."""
    attentions = (n for n in graph.nodes if n.op.name == "attention")
    wanted = {mask for n in attentions for mask in n.inputs[3:] if mask is not None}
    found = set()
    for node in reversed(graph.nodes):
        if wanted & {v.name for v in node.outputs}:
            found.add(node.op.name)
            wanted.update(node.operands)
    return found


def check(program, module, inputs, dynamic_shapes):
    after, records = parse_pipeline(CLEANUP).run(program)
    assert records[-1].nodes_after <= records[0].nodes_before
    # a table that is folded may be stored beside what it is computed from, up to the limit
    assert records[-1].bytes_after <= 1.02 * records[0].bytes_before
    again, repeated = parse_pipeline(CLEANUP).run(after)
    assert [r.spec for r in repeated if r.modified] == []
    text = after.text()
    assert parse_program(text, after.constants).text() == text
    trials = [inputs]
    if dynamic_shapes is not None:
        trials.append(resized(module, inputs, dynamic_shapes))
    for trial in trials:
        flat = [torch.as_tensor(x) for x in flatten(program.main, trial)]
        want = Contiguous(program, compute=torch.float64).run(flat)
        got = Contiguous(again, compute=torch.float64).run(flat)
        for g, w in zip(got, want, strict=True):
            found = compare("output", g, w, TOLERANCE if w.is_floating_point() else 0.0)
            assert found.passed, found
    return after
