"""Attention under patterns: the blocked form against dense attention, its cost, what is refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgec.interpreter import Interpreter
from edgec.ir import Builder, Graph, Program, Range, TensorType, dims
from edgec.ops import attention
from edgec.ops.attention import Attention
from edgec.patterns import parse

few = st.integers(1, 5)
PART = st.one_of(
    st.builds("block_local({}, {})".format, few, st.integers(0, 2)),
    st.builds("window({}, causal={})".format, st.integers(0, 9), st.booleans()),
    st.builds("strided({}, {})".format, few, few),
    st.builds(lambda rate, times: f"dilated({rate * times}, {rate})", few, few),
    st.builds("global({}, {})".format, st.integers(0, 3), few),
    st.builds("random({}, {}, {})".format, few, few, st.integers(0, 99)),
    st.just("causal()"),
)
MASKS = (
    "",
    "bool[b, 1, 1, n]",
    "bool[b, 1, n, n]",
    "f64[b, 1, 1, n]",
    "f64[1, 4, n, n]",
    "bool[n]",
)
FILLERS = (-float("inf"), torch.finfo(torch.float32).min)


@dataclass(frozen=True)
class Example:
    """One attention: what it sees, its heads, a mask by its type, and its length."""

    pattern: str
    causal: bool
    key_heads: int
    mask: str
    filler: float
    length: int
    static: bool

    @property
    def op(self) -> Attention:
        pattern = str(parse(self.pattern)) if self.pattern else ""
        return Attention(causal=self.causal, pattern=pattern)

    def types(self) -> list[TensorType]:
        rows = str(self.length) if self.static else "n"
        heads = (4, self.key_heads, self.key_heads)
        made = [f"f64[b, {h}, {rows}, {w}]" for h, w in zip(heads, (4, 4, 3), strict=True)]
        mask = [self.mask.replace("n", rows)] if self.mask else []
        return [TensorType.parse(t) for t in made + mask]

    def graph(self) -> Graph:
        """The decomposition."""
        inputs = [(f"x{i}", t) for i, t in enumerate(self.types())]
        b = Builder.new("main", inputs, {}, {"b": Range(1, 8), "n": Range(1, 4096)})
        return b.finish([self.op.decompose(b, *(b.input(name) for name, _ in inputs))])

    def samples(self) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(self.length)
        shapes = [t.bind({"b": 2, "n": self.length}) for t in self.types()]
        made = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
        if self.mask:
            shown = torch.rand(shapes[3], generator=generator) > 0.3
            floats = made[3].masked_fill(~shown, self.filler)
            made[3] = shown if self.mask.startswith("bool") else floats
        return made


EXAMPLES = st.builds(
    Example,
    st.lists(PART, min_size=1, max_size=3).map(" + ".join),
    st.booleans(),
    st.sampled_from((1, 2, 4)),
    st.sampled_from(MASKS),
    st.sampled_from(FILLERS),
    st.integers(15, 60),
    st.sampled_from((False, False, True)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(EXAMPLES, st.integers(1, 20))
def test_blocks_compute_what_dense_attention_under_the_mask_does(example, short) -> None:
    graph = example.graph()
    program = Program({"main": graph}, graph.constants).verify()
    for length in (example.length, *([] if example.static else [short])):
        samples = Example(**{**vars(example), "length": length}).samples()
        expected = example.op.evaluate(*samples)
        (actual,) = Interpreter(program).run(samples)
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def elements(graph: Graph, length: int) -> int:
    """Elements of all results of a graph at b = 1."""
    env = {"b": 1, "n": length}
    return sum(dims.evaluate(v.type.numel, env) for node in graph.nodes for v in node.outputs)


def example(pattern: str, mask: str = "", static: bool = False, length: int = 64) -> Example:
    return Example(pattern, False, 4, mask, FILLERS[0], length, static)


@pytest.mark.parametrize(
    "pattern",
    [
        "block_local(64)",
        "window(256)",
        "window(100) + global(64)",
        "window(96) + global(64) + random(3)",
        "dilated(512, 4) + dilated(2048, 16)",
        "random(2, 32) + block_local(100, 1)",
    ],
)
def test_cost_is_linear_in_the_length(pattern: str) -> None:
    graph = example(pattern, "bool[b, 1, 1, n]").graph()
    growth = elements(graph, 65536) / elements(graph, 16384)
    assert growth < 4.4  # the choice of random blocks is over pairs of blocks
    dense = example("", "bool[b, 1, 1, n]").graph()
    assert elements(graph, 16384) < 0.1 * elements(dense, 16384)


def test_strided_blocks_cost_their_share_of_all_pairs() -> None:
    dense = elements(example("").graph(), 16384)
    assert elements(example("strided(8)").graph(), 16384) < 0.25 * dense


@pytest.mark.parametrize(("length", "ops"), [(64, {"attention"}), (4096, set())])
def test_few_tokens_are_computed_densely(length: int, ops: set[str]) -> None:
    graph = example("window(40)", static=True, length=length).graph()
    assert {n.op.name for n in graph.nodes} & {"attention"} == ops


def test_flops_count_what_is_seen() -> None:
    x = TensorType.parse("f32[1, 8, n, 64]")

    def flops(length: int, **attributes: object) -> int:
        cost = Attention(**attributes).flops([x, x, x], [x])  # type: ignore[arg-type]
        return dims.evaluate(cost, {"n": length})

    assert flops(4096, pattern="window(256)") == flops(4096) * 513 // 4096
    assert flops(4096, pattern="window(256)", causal=True) == flops(4096) * 257 // 4096
    assert flops(100, pattern="window(256)") == flops(100)
    for pattern in ("block_local(64, 1)", "strided(4, 8)", "dilated(64, 4)", "random(2, 16)"):
        seen = sum(
            Attention(pattern=pattern).visible(512, 4)[h % 4 if "dilated" in pattern else 0].sum()
            for h in range(4)
        )
        assert float(seen) / 4 <= flops(512, pattern=pattern) / (8 * (4 * 64 + 5)) <= 1.1 * seen / 4


@pytest.mark.parametrize("mask", MASKS)
def test_long_inputs_are_evaluated_some_rows_at_a_time(
    mask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Example("dilated(6, 3) + window(2)", True, 2, mask, FILLERS[0], 37, False)
    samples = case.samples()
    at_once = case.op.evaluate(*samples)
    monkeypatch.setattr(attention, "PAIRS", 37 * 5)
    torch.testing.assert_close(case.op.evaluate(*samples), at_once)
