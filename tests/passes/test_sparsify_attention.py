"""sparsify-attention: which attentions become sparse, what they compute, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

import edgec
from edgec.errors import PassError
from edgec.ir import Builder, Program, TensorType
from edgec.ops.attention import Attention
from edgec.passes import CLEANUP, parse_pass, parse_pipeline
from edgec.passes.structure.relevance import relevance_op
from edgec.targets.onnx import Onnx
from edgec.transform import PassRecord

PATTERN = "window(3) + global(1)"


class Layer(nn.Module):
    """Attention of x over a memory, or over itself; `shown` replaces what may be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Tensor, memory: Tensor, shown: Tensor | None, causal: bool) -> Tensor:
        def heads(projected: Tensor) -> Tensor:
            return projected.unflatten(-1, (2, 8)).transpose(1, 2)

        q, k, v = heads(self.q(x)), heads(self.k(memory)), heads(self.v(memory))
        y = F.scaled_dot_product_attention(q, k, v, shown, is_causal=causal and shown is None)
        return x + y.transpose(1, 2).flatten(2)


class Stack(nn.Module):
    """Self, causal self and cross attention: numbers 0, 1 and 2; `window` as the pass makes it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(Layer() for _ in range(3))

    def forward(self, x: Tensor, memory: Tensor, sparse: Any = ((), None)) -> Tensor:
        numbers, shown = sparse
        for i, layer in enumerate(self.layers):
            seen = shown if i in numbers else None
            seen = seen.tril() if i == 1 and seen is not None else seen
            x = layer(x, memory if i == 2 else x, seen, causal=i == 1)
        return x


def inputs(length: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    return tuple(torch.randn(2, length, 16, generator=generator) for _ in range(2))  # type: ignore[return-value]


def captured() -> tuple[Stack, Program]:
    model = Stack().eval()
    axes = {1: Dim("tokens", max=512)}
    program = edgec.capture(model, inputs(20), (axes, axes))
    return model, parse_pipeline(CLEANUP).run(program)[0]


def sparse(spec: str) -> tuple[Stack, Program, PassRecord]:
    model, program = captured()
    made, (record,) = parse_pipeline([spec]).run(program)
    return model, made, record


def shown(length: int) -> Tensor:
    i = torch.arange(length)
    return ((i[:, None] - i).abs() <= 3) | (i[:, None] == 0) | (i == 0)


def patterns(program: Program) -> list[str]:
    return [n.op.pattern for n in program.main.nodes if n.op.name == "attention"]  # type: ignore[attr-defined]


def test_self_attentions_see_the_pattern_and_others_are_left(tmp_path: Path) -> None:
    model, made, record = sparse(f'sparsify-attention{{pattern="{PATTERN}"}}')
    assert patterns(made) == [PATTERN, PATTERN, ""]
    assert record.notes[0] == "0: main/attention sees 1.75 % of its pairs at 512 tokens"
    assert record.notes[1] == "1: main/attention_1 sees 1.94 % of its pairs at 512 tokens"
    left = "2: main/attention_2 left as it is: its keys are not the tokens of its queries"
    assert record.notes[2] == left
    target = Onnx()
    target.emit(target.legalize(made), tmp_path)
    runner = target.load(tmp_path)
    for length in (20, 3, 150):
        x, memory = inputs(length)
        with torch.no_grad():
            want = model(x, memory, ((0, 1), shown(length)))
        torch.testing.assert_close(made.run(x, memory), want, rtol=1e-5, atol=1e-5)
        (got,) = runner.run("main", [x, memory])
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layers", ["[1]", '"1:2"'])
def test_only_the_layers_that_are_asked_for(layers: str) -> None:
    model, made, record = sparse(f'sparsify-attention{{pattern="{PATTERN}",layers={layers}}}')
    assert patterns(made) == ["", PATTERN, ""]
    assert record.notes[0] == "0: main/attention not asked for"
    x, memory = inputs(40)
    with torch.no_grad():
        want = model(x, memory, ((1,), shown(40)))
    torch.testing.assert_close(made.run(x, memory), want, rtol=1e-5, atol=1e-5)


def test_a_causal_pattern_makes_an_attention_causal() -> None:
    _, made, _ = sparse('sparsify-attention{pattern="window(3) & causal()",layers=[0]}')
    first = next(n.op for n in made.main.nodes if n.op.name == "attention")
    assert str(first) == "attention {causal=True, pattern='window(3)'}"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ('pattern="window(3"', "[pattern] got 'window(3'"),
        ('pattern="window(-3)"', "[window] got radius=-3"),
        ("layers=[0,0]", "layers=[0, 0]; need different numbers from 0"),
        ('layers="1-2"', "layers='1-2'; need numbers, as [0,2], or a range"),
    ],
)
def test_options_that_are_wrong(options: str, says: str) -> None:
    with pytest.raises(PassError) as caught:
        parse_pass(f"sparsify-attention{{{options}}}")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("layers=[3]", "layers 3; need some of 0: main/attention; 1: main/attention_1; 2:"),
        ("layers=[0,2]", "2: main/attention_2: its keys are not the tokens of its queries"),
        ('pattern="global(600)",layers=[0]', "need a pattern that fits 512 tokens"),
    ],
)
def test_layers_that_cannot_be_sparse(options: str, says: str) -> None:
    with pytest.raises(PassError) as caught:
        sparse(f"sparsify-attention{{{options}}}")
    assert says in str(caught.value)


def test_a_pattern_that_hides_nothing_is_no_change() -> None:
    _, made, record = sparse('sparsify-attention{pattern="window(511)"}')
    assert not record.modified and patterns(made) == ["", "", ""]
    assert "window(511) hides nothing of 512 tokens" in record.notes[0]
    assert record.notes[-1] == "nothing to do: no attention can be sparse"


def test_a_second_pattern_is_not_put_on_top() -> None:
    _, program = captured()
    specs = ["sparsify-attention{pattern='window(9)'}", "sparsify-attention{pattern='window(3)'}"]
    made, records = parse_pipeline(specs).run(program)
    assert patterns(made) == ["window(9)", "window(9)", ""]
    assert not records[1].modified and "it sees window(9) already" in records[1].notes[0]


def test_the_pattern_has_one_spelling() -> None:
    step = parse_pass("sparsify-attention{pattern='window( 3 )+global(1,0)',layers='2:'}")
    assert str(step) == f"sparsify-attention{{pattern='{PATTERN}',layers='2:'}}"
    assert parse_pass(str(step)) == step


# ------------------------------------------------------------------ with other passes
@pytest.mark.parametrize("causal", [False, True])
def test_relevance_is_that_of_what_is_seen(causal: bool) -> None:
    op = Attention(pattern="dilated(4, 2) + window(1)", causal=causal)
    x = TensorType.parse("f64[1, 4, 9, 8]")
    b = Builder.new("main", [("x", x)])
    b.finish([b.emit(op, "x", "x", "x")])
    q, k, v = torch.randn(3, 1, 4, 9, 8, generator=torch.Generator().manual_seed(0)).double()
    relevant = relevance_op(b.nodes[0]).op
    torch.testing.assert_close(relevant.evaluate(q, k, v), op.evaluate(q, k, v))
