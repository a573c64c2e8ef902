"""Legalization: a target's verdicts applied to a program."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from edgec.errors import EdgecError, UnsupportedError
from edgec.ir import Builder, Encoding, Graph, Node, Op, Program, TensorType, Value
from edgec.target.contract import Support, Verdict

OpVerdict: TypeAlias = Callable[[Op, Sequence[TensorType | None]], Verdict]
EncodingVerdict: TypeAlias = Callable[[Encoding], Verdict]


def legalized(
    program: Program, where: str, judge: OpVerdict, judge_encoding: EncodingVerdict
) -> Program:
    """The program with every op that is not native decomposed, again and again; names are kept.

    Raises UnsupportedError, in the name of `where`, that lists every op and encoding that is left
    over, each with the target's reason and the source lines that ask for it.
    """
    program = program.copy()
    problems: Counter[str] = Counter()
    used = set().union(*(g.used_constants() for g in program.graphs.values()))
    for name, graph in program.graphs.items():
        program.graphs[name] = _Legalizer(graph, judge, problems).run()
    for name in (n for n in program.constants if n in used):
        encoding = program.constants[name].encoding
        verdict = judge_encoding(encoding)
        if verdict.support is Support.UNSUPPORTED:
            problems[f"@{name}: {encoding.describe()}: {verdict.reason}"] += 1
    if problems:
        lines = [f"{n} times {text}" if n > 1 else text for text, n in problems.items()]
        raise UnsupportedError(where, "\n  ".join(["the target cannot express", *lines]))
    return program


class _Legalizer:
    """One function."""

    def __init__(self, graph: Graph, judge: OpVerdict, problems: Counter[str]) -> None:
        self.graph, self.judge, self.problems = graph, judge, problems
        self.builder = Builder(graph)
        self.alias: dict[str, str] = {}

    def run(self) -> Graph:
        queue = deque(self.graph.nodes)
        done: list[Node] = []
        while queue:
            node = queue.popleft().renamed(self.alias)
            types = [None if n is None else self._value(n).type for n in node.inputs]
            verdict = self.judge(node.op, types)
            if verdict.support is Support.NATIVE:
                done.append(node)
                continue
            made = self._decomposed(node)
            if made is None:
                where = f" ({node.source})" if node.source else ""
                shown = ", ".join("_" if t is None else str(t) for t in types)
                self.problems[f"{node.op}({shown}): {verdict.reason}{where}"] += 1
            else:
                queue.extendleft(reversed(made))
        outputs = tuple(self.alias.get(o, o) for o in self.graph.outputs)
        return self.graph.replace(nodes=done, outputs=outputs)

    def _value(self, name: str) -> Value:
        value = self.builder.operand(name)
        assert value is not None
        return value

    def _decomposed(self, node: Node) -> list[Node] | None:
        """The nodes in place of `node`; None where its op has no decomposition for these types."""
        b = self.builder
        b.nodes, b.source = [], node.source
        try:
            made = node.op.decompose(b, *(b.operand(n) for n in node.inputs))
        except EdgecError:  # an operand of a type that the simpler ops do not take
            return None
        if made is None:
            return None
        results = made if isinstance(made, tuple) else (made,)
        renames: dict[str, str] = {}
        emitted = {v.name for n in b.nodes for v in n.outputs}
        for result, old in zip(results, node.outputs, strict=True):
            if result.name in emitted and result.name not in renames:
                renames[result.name] = old.name
            else:
                self.alias[old.name] = renames.get(result.name, result.name)
        return list(_renamed(b.nodes, renames))


def _renamed(nodes: Iterable[Node], renames: dict[str, str]) -> Iterable[Node]:
    """Nodes whose results take the names that are wanted."""
    for node in nodes:
        outputs = tuple(Value(renames.get(v.name, v.name), v.type) for v in node.outputs)
        yield dataclasses.replace(node.renamed(renames), outputs=outputs)
