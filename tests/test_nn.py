"""`edgec.nn.sparse_attention`: values, gradients, torch.export, capture, artifacts, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

import edgec
from edgec.errors import EdgecError, FormatError, TypeCheckError
from edgec.patterns import Causal, Global, Window, parse
from edgec.targets.onnx import Onnx
from tests.capture.harness import assert_equal

BIGBIRD = "window(20) + global(4) + random(2, 16, 7)"


def operands(length: int, heads: int = 4, key_heads: int = 2) -> Any:
    generator = torch.Generator().manual_seed(length)
    sizes = [(heads, 8), (key_heads, 8), (key_heads, 6)]
    made = [torch.randn(2, h, length, d, generator=generator).double() for h, d in sizes]
    return [t.requires_grad_() for t in made]


def shown(pattern: str, length: int) -> Tensor:
    i = torch.arange(length).numpy()
    return torch.from_numpy(parse(pattern).visible(i[:, None], i[None, :], length))


class Block(nn.Module):
    """One self-attention with padding, as a user writes it."""

    def __init__(self, pattern: Any) -> None:
        super().__init__()
        self.pattern = pattern
        self.project, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = self.project(x).reshape(batch, length, 3, 4, 8).permute(2, 0, 3, 1, 4)
        y = edgec.nn.sparse_attention(q, k, v, self.pattern, real[:, None, None, :])
        return self.out(y.transpose(1, 2).reshape(x.shape))


def padded(length: int) -> tuple[Tensor, Tensor]:
    real = torch.ones(2, length, dtype=torch.bool)
    real[1, length - length // 4 :] = False
    return torch.randn(2, length, 32, generator=torch.Generator().manual_seed(length)), real


@pytest.mark.parametrize("length", [50, 600])  # at once, and in blocks
@pytest.mark.parametrize("kind", ["none", "padding", "float"])
def test_values_and_gradients_are_those_of_dense_attention(length: int, kind: str) -> None:
    tensors = operands(length)
    mask, dense = None, shown(BIGBIRD, length)[None, None]
    if kind == "padding":
        mask = torch.ones(2, 1, 1, length, dtype=torch.bool)
        mask[0, ..., length - 9 :] = False
        dense = dense & mask
    elif kind == "float":
        mask = torch.randn(1, 4, length, length).double().requires_grad_()
        tensors.append(mask)
    bias = dense if kind != "float" else mask.where(dense, -torch.inf)  # type: ignore[union-attr]
    q, k, v = tensors[:3]
    want = F.scaled_dot_product_attention(q, k, v, bias, scale=0.3, enable_gqa=True)
    got = edgec.nn.sparse_attention(q, k, v, BIGBIRD, mask, scale=0.3)
    torch.testing.assert_close(got, want)
    weights = torch.randn_like(want)
    expected = torch.autograd.grad((want * weights).sum(), tensors)
    found = torch.autograd.grad((got * weights).sum(), tensors)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_pattern_may_be_an_object_and_causal() -> None:
    q, k, v = operands(40)
    made = edgec.nn.sparse_attention(q, k, v, (Window(3) + Global(1)) & Causal())
    text = edgec.nn.sparse_attention(q, k, v, "(window(3) + global(1)) & causal()")
    assert torch.equal(made, text)
    dense = shown("window(3) + global(1)", 40).tril()
    want = F.scaled_dot_product_attention(q, k, v, dense, enable_gqa=True)
    torch.testing.assert_close(made, want)


def test_torch_accepts_the_operator() -> None:
    q, k, v = operands(9)
    op: Any = torch.ops.edgec.sparse_attention.default
    torch.library.opcheck(op, (q, k, v, "window(2)", None, None))


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    model, (x, real) = Block("window(4) + global(1)"), padded(24)
    optimizer, losses = torch.optim.Adam(model.parameters(), 0.01), []
    for _ in range(30):
        loss = (model(x, real) - x.roll(1, 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def dynamic() -> tuple[Any, Any]:
    axes = {0: Dim("batch", max=8), 1: Dim("tokens", max=2048)}
    return axes, axes


def test_export_keeps_it_and_capture_makes_one_op_of_it() -> None:
    model = Block(f"({BIGBIRD}) & causal()").eval()
    exported = torch.export.export(model, padded(50), dynamic_shapes=dynamic())
    targets = [str(n.target) for n in exported.graph.nodes]
    assert targets.count("edgec.sparse_attention.default") == 1
    program = edgec.capture(model, padded(50), dynamic())
    (node,) = (n for n in program.main.nodes if n.op.name == "attention")
    assert str(node.op) == f"attention {{causal=True, pattern='{BIGBIRD}'}}"
    for length in (50, 3, 700):
        assert_equal(program, model, padded(max(length, 21)))


def test_the_artifact_computes_it_at_any_length(tmp_path: Path) -> None:
    model = Block(BIGBIRD).eval()
    program = edgec.capture(model, padded(50), dynamic())
    target = Onnx()
    target.emit(target.legalize(program), tmp_path)
    runner = target.load(tmp_path)
    for length in (1, 63, 64, 300):
        (want,) = program.run(*padded(length)).unsqueeze(0)
        (got,) = runner.run("main", list(padded(length)))
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("pattern", "error", "says"),
    [
        ("window(3", FormatError, "parts joined by +"),
        ("window(-3)", TypeCheckError, "[window] got radius=-3"),
        ("global(300)", TypeCheckError, "need a pattern that fits 50 tokens"),
        ("random(3)", TypeCheckError, "random(3) where there are 1 blocks"),
    ],
)
def test_patterns_that_are_none_or_do_not_fit(
    pattern: str, error: type[EdgecError], says: str
) -> None:
    q, k, v = operands(50)
    with pytest.raises(error) as caught:
        edgec.nn.sparse_attention(q, k, v, pattern)
    assert says in str(caught.value)


def test_operands_that_do_not_fit() -> None:
    (q, k, v), (_, other, _) = operands(50), operands(40)
    cases: tuple[tuple[tuple[Tensor, Tensor, Tensor], str], ...] = (
        ((q[0], k, v), "need [B, H, n, D]"),
        ((q, other, v), "as many keys and values as queries"),
        ((q, k, v.float()), "(C1)"),
        ((q[:, :3], k, v), "(C4)"),
    )
    for (a, b, c), says in cases:
        with pytest.raises(TypeCheckError) as caught:
            edgec.nn.sparse_attention(a, b, c, "window(3)")
        assert says in str(caught.value)


def test_capture_tells_of_a_pattern_without_room_at_the_greatest_length() -> None:
    model = Block("global(40)").eval()
    axes = {0: Dim("batch", max=8), 1: Dim("tokens", max=30)}
    with pytest.raises(EdgecError, match="need a pattern that fits 30 tokens"):
        edgec.capture(model, padded(20), (axes, axes))
