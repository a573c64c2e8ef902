"""The encoder of long documents: what it computes, and that a native build computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgec import patterns
from edgec.capture import capture
from edgec.compiler.loading import load_model
from edgec.models.longdoc.nets import LONGEST, PATTERNS, LongDocument, example
from edgec.targets.native import Native
from edgec.validate.fidelity import Reference, check
from edgec.validate.settings import Setting

SMALL: dict[str, Any] = {
    "layers": 2,
    "width": 64,
    "heads": 4,
    "inner": 96,
    "vocabulary": 50,
    "longest": 700,
}


def tokens(net: LongDocument, length: int) -> Tensor:
    count = net.tokens.num_embeddings
    return torch.randint(0, count, (1, length), generator=torch.Generator().manual_seed(length))


def masked(pattern: str) -> Any:
    """Dense attention that hides what the pattern hides."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        i = torch.arange(q.shape[2]).numpy()
        seen = patterns.parse(pattern).visible(i[:, None], i[None], q.shape[2])
        return F.scaled_dot_product_attention(q, k, v, torch.from_numpy(seen))

    return attend


@pytest.mark.parametrize("name", PATTERNS)
def test_the_encoder_is_one_with_masked_dense_attention(name: str) -> None:
    net = LongDocument(PATTERNS[name], **SMALL).eval()
    ids = tokens(net, 650)
    with torch.no_grad():
        sparse, dense = net(ids), LongDocument(attend=masked(PATTERNS[name]), **SMALL).eval()(ids)
        torch.testing.assert_close(sparse, dense)
        assert not torch.allclose(sparse, LongDocument(attend=masked("causal()"), **SMALL)(ids))


def test_weights_are_the_same_at_every_call() -> None:
    torch.manual_seed(5)
    first, second = (LongDocument(**SMALL).state_dict() for _ in range(2))
    assert first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize("name", PATTERNS)
def test_native_equals_the_graph_at_any_length(name: str, tmp_path: Path) -> None:
    net, inputs, shapes = example(PATTERNS[name], **SMALL)
    compare(capture(net, inputs, shapes), net, tmp_path, (2, 131, 640, 699))


@pytest.mark.slow
@pytest.mark.parametrize("name", PATTERNS)
def test_native_equals_the_graph_at_full_size(name: str, tmp_path: Path) -> None:
    model = load_model(f"edgec.models.longdoc.nets:{name}")
    net, _, _ = example(PATTERNS[name])
    assert sum(p.numel() for p in net.parameters()) == 25_206_784
    compare(model.program, net, tmp_path, (1025, LONGEST))


def compare(program: Any, net: LongDocument, folder: Path, lengths: tuple[int, ...]) -> None:
    target = Native()
    target.emit(target.legalize(program), folder)
    executable, reference = target.load(folder), Reference(program)
    for length in lengths:
        setting = Setting("given", {"length": length})
        case = reference.case("main", setting, (tokens(net, length),))
        checked = check(executable, case)
        assert checked.passed, checked
