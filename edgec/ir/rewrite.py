"""Rewrite rules and their driver.

A rule is two plain functions over the same variables: a pattern (edgec.ir.pattern) and a
replacement, which emits nodes and returns the value that stands for the matched one, or None where
the rule does not apply:

    def square(p: Pattern, x: Var) -> Term:
        return p.pow(x, p.scalar(2.0))

    def product(b: Site, x: Value) -> Value:
        return b.mul(x, x)

    SQUARE = Rule("square", square, product)

The driver visits the nodes in order and tries the rules of each node's op. What a rule emits is
visited at once, so that chains collapse in one sweep; sweeps repeat until nothing fires. A sweep is
linear in the number of nodes: use counts tell in constant time whether an inner value of a match is
used elsewhere.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from edgec.errors import VerifyError
from edgec.ir.builder import Builder
from edgec.ir.encoding import Constant, Dense
from edgec.ir.graph import Graph, Node, Value, put_constant
from edgec.ir.pattern import Match, Matcher, Ref, Term, build, root_ops
from edgec.ir.program import Program

SWEEPS = 100  # far more than chains of rules that wait for each other need


@dataclass(frozen=True, eq=False)
class Rule:
    """Replace what `pattern` describes by what `replacement` emits.

    shared   inner values of the match may be used elsewhere: the rule saves only the last node.
             Without it such a match is passed over, since the inner nodes would stay.
    """

    name: str
    pattern: Callable[..., Term]
    replacement: Callable[..., Value | Constant | None]
    shared: bool = False
    term: Term = field(init=False)
    wanted: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        term, variables = build(self.pattern)
        wanted = tuple(inspect.signature(self.replacement).parameters)[1:]
        if not set(wanted) <= variables:
            unknown = ", ".join(sorted(set(wanted) - variables))
            raise VerifyError(
                f"rule {self.name}", f"variables {unknown}", f"some of {sorted(variables)}"
            )
        object.__setattr__(self, "term", term)
        object.__setattr__(self, "wanted", wanted)


class Site(Builder):
    """The place of one replacement: a builder that also knows what is already there.

    root   the node whose result is to be replaced
    """

    root: Node

    def __init__(self, graph: Graph, producers: dict[str, Node], pool: Pool) -> None:
        super().__init__(graph)
        self._producers, self._pool = producers, pool

    def start(self, root: Node) -> None:
        self.root, self.nodes, self.source = root, [], root.source
        self._pool_size = len(self.graph.constants)

    def cancel(self) -> None:
        """Forget everything that was emitted since `start`."""
        for node in self.nodes:
            for value in node.outputs:
                del self._types[value.name]
        while len(self.graph.constants) > self._pool_size:
            self._pool.forget(self.graph.constants.popitem()[0])

    def producer(self, value: Value | str | None) -> Node | None:
        """The node behind a local value; None for inputs and constants."""
        name = value.name if isinstance(value, Value) else value
        return None if name is None else self._producers.get(name)

    def scalar_of(self, value: Value | str) -> float | int | bool | None:
        """The number behind a one-element constant or a `full`."""
        name = value.name if isinstance(value, Value) else value
        return Matcher(self._producers, self.graph.constants).scalar(name)

    def uses(self, value: Value | Constant) -> int:
        """Readers of a value; of a constant in all functions of the program."""
        return self._pool.uses[value.ref if isinstance(value, Constant) else value.name]

    def only_used_as(self, constant: Constant, op: str, slot: int) -> bool:
        """Whether every reader of a constant, in all functions, is operand `slot` of an `op`."""
        return self._pool.roles.get(constant.ref) == {(op, slot)}

    def derive(
        self, old: Constant, how: str, compute: Callable[[torch.Tensor], torch.Tensor]
    ) -> Value:
        """`compute(old)`, made once per `how`. It takes the name of `old` where that goes."""
        known = self._pool.made.get((old.name, how))
        if known is not None:
            return Value(f"@{known}", self.graph.constants[known].type)
        values = compute(old.encoding.decode())
        made = put_constant(self.graph.constants, old.name, Dense(values.contiguous()))
        self._pool.made[old.name, how] = made.name
        return Value(made.ref, made.type)


class Pool:
    """What rules may know about the constants of a program while it is rewritten.

    uses    operand slots and outputs that read each constant, and each value of the current graph
    roles   (op, slot) pairs that read each constant in the program before
    made    (old constant, how) -> constant computed from it
    """

    def __init__(self, program: Program) -> None:
        self.uses: Counter[str] = Counter()
        self.roles: dict[str, set[tuple[str, int]]] = {}
        self.made: dict[tuple[str, str], str] = {}
        for graph in program.graphs.values():
            slots = [("output", i, name) for i, name in enumerate(graph.outputs)]
            for node in graph.nodes:
                slots += [(node.op.name, i, n) for i, n in enumerate(node.inputs) if n is not None]
            for op, slot, name in slots:
                if name.startswith("@"):
                    self.uses[name] += 1
                    self.roles.setdefault(name, set()).add((op, slot))

    def forget(self, name: str) -> None:
        """A constant that was made is gone again."""
        self.made = {key: made for key, made in self.made.items() if made != name}


# ------------------------------------------------------------------ the driver
@dataclass(frozen=True)
class Rewritten:
    """A new program, and how often each rule fired."""

    program: Program
    fired: Counter[str]


def rewrite(program: Program, rules: Sequence[Rule]) -> Rewritten:
    """Apply `rules` to every function until none fires; the argument is not changed.

    Names are kept: a replaced result keeps its name unless an older value stands for it. A result
    of the graph does not become a constant. Constants that fall out of use are dropped. Raises
    VerifyError for a rule whose replacement has another type than what it replaces, and for rules
    that never come to an end.
    """
    program = program.copy()
    pool = Pool(program)
    unused = program.constants.keys() - {n[1:] for n in pool.uses}
    index: dict[str, list[Rule]] = {}
    for rule in rules:
        for name in root_ops(rule.term):
            index.setdefault(name, []).append(rule)
    fired: Counter[str] = Counter()
    for name, graph in program.graphs.items():
        for _ in range(SWEEPS):
            sweep = _Sweep(graph, index, pool)
            graph = sweep.run()
            fired += sweep.fired
            if not sweep.fired:
                break
        else:
            raise _endless(sweep.fired)
        program.graphs[name] = graph
    for constant in [n for n in program.constants if not pool.uses[f"@{n}"] and n not in unused]:
        del program.constants[constant]
    derived = {new: old for (old, _), new in pool.made.items()}
    return Rewritten(take_names(program, derived), fired)


def _endless(fired: Counter[str]) -> VerifyError:
    often = ", ".join(n for n, _ in fired.most_common(3))
    return VerifyError("rewrite", f"rules without end: {often}", "rules that simplify")


def take_names(program: Program, derived: Mapping[str, str]) -> Program:
    """Give constants that were computed from one that is gone (new -> old) the name of that one."""
    renames: dict[str, str] = {}
    for new, old in derived.items():
        while old in derived and old not in program.constants:
            old = derived[old]
        if new in program.constants and old not in program.constants:
            if old not in renames.values():
                renames[new] = old
    return rename_constants(program, renames)


def rename_constants(program: Program, renames: Mapping[str, str]) -> Program:
    """The program with constants renamed; two names that become one have to be equal constants."""
    if not renames:
        return program
    refs = {f"@{a}": f"@{b}" for a, b in renames.items()}
    pool: dict[str, Constant] = {}
    for name, constant in program.constants.items():
        new = renames.get(name, name)
        same = constant if new == name else dataclasses.replace(constant, name=new)
        pool.setdefault(new, same)
    graphs = {
        name: g.replace(
            nodes=[n.renamed(refs) for n in g.nodes],
            outputs=tuple(refs.get(o, o) for o in g.outputs),
            constants=pool,
        )
        for name, g in program.graphs.items()
    }
    return Program(graphs, pool, program.metadata)


class _Sweep:
    """One visit of every node of a graph."""

    def __init__(self, graph: Graph, index: Mapping[str, list[Rule]], pool: Pool) -> None:
        self.graph, self.index, self.pool = graph, index, pool
        self.uses = pool.uses  # of constants, and of this graph's values while the sweep lasts
        names = (n for node in graph.nodes for n in node.operands)
        self.uses.update(n for n in (*names, *graph.outputs) if not n.startswith("@"))
        self.producers: dict[str, Node] = {}
        self.alias: dict[str, str] = {}
        self.fired: Counter[str] = Counter()
        self.site = Site(graph, self.producers, pool)
        self.matcher = Matcher(self.producers, graph.constants)

    def run(self) -> Graph:
        queue = deque(self.graph.nodes)
        visited: list[Node] = []
        budget = 20 * len(queue) + 1000
        while queue:
            node = queue.popleft().renamed(self.alias)
            made = self._replace(node)
            if made is None:
                self._define(node)
                visited.append(node)
                continue
            queue.extendleft(reversed(made))
            if self.fired.total() > budget:
                raise _endless(self.fired)
        outputs = tuple(self.alias.get(o, o) for o in self.graph.outputs)
        nodes = [n for n in visited if self.producers.get(n.outputs[0].name) is n]
        for name in [n for n in self.uses if not n.startswith("@")]:
            del self.uses[name]
        return self.graph.replace(nodes=nodes, outputs=outputs)

    def _define(self, node: Node) -> None:
        for value in node.outputs:
            self.producers[value.name] = node

    # -------------------------------------------------------------- one node
    def _replace(self, node: Node) -> list[Node] | None:
        """The nodes in place of `node`, None when no rule applies."""
        if len(node.outputs) != 1:
            return None
        for rule in self.index.get(node.op.name, ()):
            for match in self.matcher.matches(rule.term, node):
                if not rule.shared and not self._private(match):
                    continue
                made = self._emit(rule, match, node)
                if made is not None:
                    self.fired[rule.name] += 1
                    return made
        return None

    def _private(self, match: Match) -> bool:
        """Whether every inner value of the match is read by matched nodes only."""
        inner = {v.name for node in match.nodes[1:] for v in node.outputs}
        nodes = {id(n): n for n in match.nodes}.values()
        inside = Counter(name for node in nodes for name in node.operands if name in inner)
        return all(self.uses[name] == inside[name] for name in inner)

    def _emit(self, rule: Rule, match: Match, node: Node) -> list[Node] | None:
        site = self.site
        site.start(node)
        values = {k: self._argument(match.bound.get(k)) for k in rule.wanted}
        result = rule.replacement(site, **values)
        value = site.operand(result)
        if value is None or value.name == node.output.name or self._is_fixed(node, value):
            site.cancel()
            return None
        if not value.type.same(node.output.type):
            raise VerifyError(
                f"rule {rule.name}", f"{value.type} for {node.output.type}", "one type"
            )
        return self._splice(node, value)

    def _is_fixed(self, node: Node, value: Value) -> bool:
        """Whether a result of the graph would become a constant."""
        return value.is_constant and node.output.name in self.graph.outputs

    def _argument(self, bound: Any) -> Any:
        """Names of values become Values; everything else is passed on."""
        return self.site.operand(str(bound)) if isinstance(bound, Ref) else bound

    def _splice(self, old: Node, value: Value) -> list[Node]:
        """Count the new uses before the old ones are released, so that shared operands stay."""
        made = list(_reachable(self.site.nodes, value.name))
        if any(value.name == v.name for n in made for v in n.outputs):
            made = [_with_output(n, value.name, old.output) for n in made]
        else:
            self.alias[old.output.name] = value.name
            self.uses[value.name] += self.uses.pop(old.output.name, 0)
        self.uses.update(name for n in made for name in n.operands)
        self._release(old.operands)
        return made

    def _release(self, names: Iterable[str]) -> None:
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            self.uses[name] -= 1
            node = self.producers.get(name)
            if node is not None and not any(self.uses[v.name] for v in node.outputs):
                for value in node.outputs:
                    del self.producers[value.name]
                waiting += node.operands


def _reachable(nodes: list[Node], name: str) -> Iterator[Node]:
    """The nodes that the value `name` needs, in order."""
    needed = {name}
    kept = []
    for node in reversed(nodes):
        if any(v.name in needed for v in node.outputs):
            kept.append(node)
            needed.update(node.operands)
    return reversed(kept)


def _with_output(node: Node, name: str, value: Value) -> Node:
    """The node with its result `name` called `value`."""
    outputs = tuple(value if v.name == name else v for v in node.outputs)
    renamed = node.renamed({name: value.name})
    return renamed if outputs == node.outputs else dataclasses.replace(renamed, outputs=outputs)
