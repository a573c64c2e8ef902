"""sparsify-attention: dense self-attention sees only the keys of a pattern."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from edgec.context import NOTHING, Context
from edgec.errors import EdgecError, PassError
from edgec.ir import Exactness, Graph, Node, Program, dims
from edgec.ops.attention import Attention
from edgec.patterns import Pattern, Union, density, parse
from edgec.transform import Pass, PassResult

COUNTED = 4096  # tokens: longer inputs leave a smaller part of the pairs than is reported
PROJECTIONS = frozenset({"linear", "conv", "matmul"})


@dataclass(frozen=True)
class SparsifyAttention(Pass):
    """Let self-attentions see the keys of a pattern only, besides what masks and causal hide.

    Given    %y = attention(%q, %k, %v, mask?)
    Result   %y = attention(%q, %k, %v, mask?) {pattern='window(256) + global(1)'}

    pattern   in the text of `edgec.patterns`; "& causal()" at its end makes attentions causal too
    layers    numbers of the attentions, in the order of the notes, or a range of them as in
              Python, "2:" or "0:6"; (): all

    Keeps    every weight, all names and types. Left as they are, and reported: attention over other
             tokens than the queries' (memories, caches), with a pattern already, or too short for
             the pattern to hide anything. Reported: what part of the pairs stays.
    Effect   LOSSY
    Source   Beltagy et al. 2020, arXiv:2004.05150, section 5: a pretrained dense model whose
             attention is windowed; Zaheer et al. 2020, arXiv:2007.14062.
    Differs  No training here: `distill` afterwards takes back part of what is lost.
    """

    name: ClassVar[str] = "sparsify-attention"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    pattern: str = "window(256)"
    layers: tuple[int, ...] | str = ()

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "pattern", str(parse(self.pattern)))
        except EdgecError as error:
            raise PassError(self.name, f"pattern={self.pattern!r}: {error}") from error
        numbers = self.layers if isinstance(self.layers, tuple) else ()
        if any(i < 0 for i in numbers) or len(set(numbers)) < len(numbers):
            raise PassError(self.name, f"layers={list(numbers)}", "different numbers from 0")
        if isinstance(self.layers, str):
            _range(self.layers, 0)

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        found = [(g, node) for g in program.graphs.values() for node in _attentions(g)]
        if not found:
            return PassResult(program, False, ("nothing to do: there is no attention",))
        problems = [_problem(graph, node, parse(self.pattern)) for graph, node in found]
        wanted = self._wanted(found, problems)
        after, notes = program.copy(), []
        for i, (graph, node) in enumerate(found):
            where = f"{i}: {graph.name}/{node.output.name}"
            if i not in wanted:
                notes.append(f"{where} not asked for")
            elif problems[i]:
                notes.append(f"{where} left as it is: {problems[i]}")
            else:
                sparse, part = self._sparse(graph, node)
                _replace(after.graphs[graph.name], node, sparse)
                notes.append(f"{where} sees {part}")
        if all(problems[i] for i in wanted):
            return PassResult(program, False, (*notes, "nothing to do: no attention can be sparse"))
        return PassResult(after, True, tuple(notes))

    def _wanted(self, found: Sequence[tuple[Graph, Node]], problems: Sequence[str]) -> set[int]:
        """Numbers of the attentions that are asked for.

        Raises PassError for unknown ones, and for those named one by one that cannot be sparse.
        """
        names = [f"{i}: {graph.name}/{node.output.name}" for i, (graph, node) in enumerate(found)]
        if isinstance(self.layers, str):
            return set(_range(self.layers, len(found)))
        unknown = [str(i) for i in self.layers if i >= len(found)]
        if unknown:
            raise PassError(
                self.name, f"layers {', '.join(unknown)}", f"some of {'; '.join(names)}"
            )
        refused = [f"{names[i]}: {problems[i]}" for i in self.layers if problems[i]]
        if refused:
            got = f"attentions that cannot be sparse: {'; '.join(refused)}"
            raise PassError(self.name, got)
        return set(self.layers or range(len(found)))

    def _sparse(self, graph: Graph, node: Node) -> tuple[Node, str]:
        """The node under the pattern, and what part of its pairs stays."""
        op, pattern = node.op, parse(self.pattern)
        assert isinstance(op, Attention)
        causal = op.causal or pattern.past_only
        text = str(Union(pattern.parts))
        length = min(_longest(graph, node), COUNTED)
        heads = node.output.type.shape[1]
        part = density(pattern, length, op.causal, heads if isinstance(heads, int) else None)
        said = f"{100 * part:.3g} % of its pairs at {length} tokens"
        return replace(node, op=replace(op, pattern=text, causal=causal)), said


def _range(text: str, count: int) -> range:
    """The numbers that a Python slice `start:stop` takes of `count`."""
    try:
        start, stop = (int(part) if part.strip() else None for part in text.split(":"))
    except ValueError as error:
        need = 'numbers, as [0,2], or a range, as "0:6"'
        raise PassError("sparsify-attention", f"layers={text!r}", need) from error
    return range(count)[start:stop]


def _attentions(graph: Graph) -> Iterator[Node]:
    return (node for node in graph.nodes if isinstance(node.op, Attention))


def _replace(graph: Graph, old: Node, new: Node) -> None:
    graph.nodes[graph.nodes.index(old)] = new


def _longest(graph: Graph, node: Node) -> int:
    """The greatest number of queries of an attention."""
    bounds = {name: r.max for name, r in graph.dims.items()}
    return dims.evaluate(node.output.type.shape[2], bounds)


# ------------------------------------------------------------------ what cannot be sparse
def _problem(graph: Graph, node: Node, pattern: Pattern) -> str:
    """Why an attention stays as it is, "" where it need not."""
    assert isinstance(node.op, Attention)
    q, k = (graph.type(name or "").shape[2] for name in node.inputs[:2])
    if node.op.pattern:
        return f"it sees {node.op.pattern} already"
    if not dims.same(q, k) or not _same_tokens(graph, node):
        return "its keys are not the tokens of its queries"
    longest = _longest(graph, node)
    try:
        pattern.check(longest)
    except EdgecError as error:
        return str(error)
    if longest <= COUNTED and density(pattern, longest, node.op.causal) == 1.0:
        return f"{pattern} hides nothing of {longest} tokens"
    return ""


def _same_tokens(graph: Graph, node: Node) -> bool:
    """Whether queries and keys are projections of the same values; True where that is unknown."""
    queries, keys = (_projected(graph, name or "") for name in node.inputs[:2])
    return not queries or not keys or bool(queries & keys)


def _projected(graph: Graph, name: str) -> set[str]:
    """The values whose projections a value is made of."""
    producers, found = graph.producers(), set()
    waiting, seen = [name], {name}
    while waiting:
        node = producers.get(waiting.pop())
        if node is None:
            continue
        if node.op.name in PROJECTIONS and (node.inputs[1] or "").startswith("@"):
            found.add(node.inputs[0] or "")
            continue
        for operand in node.operands:
            if operand not in seen:
                seen.add(operand)
                waiting.append(operand)
    return found
