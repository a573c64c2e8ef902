"""Finds the attention heads of a program, and with them all that shrinks when some go.

An attention is seen by its structure, in one of two forms:

    attention    %y = attention(%q, %k, %v, mask?): heads are axis 1. With grouped keys and values
                 a unit is a group of queries with its keys and values, or one query of a group
    softmax      %p = softmax(scores), a product of %p with the values, and later
                 `reshape [.., H, D] -> [.., H D]` in front of a linear layer: heads are axis H

The rest is `trace`: from the axis of heads back to the rows of the projections (through reshapes,
permutes, slices of one fused projection, rotary embeddings, caches) and on to the columns of the
projection behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgec.ir import Node, Program
from edgec.ir.graph import Graph
from edgec.passes.structure.labels import Blocked, Labels
from edgec.passes.structure.trace import Axis, Signature, Trace, View, trace

Grouped: TypeAlias = Literal["groups", "queries"]


@dataclass(frozen=True)
class Structure:
    """Units that can be removed.

    where    the nodes that it is of: `encode/attention_1`
    count    units; 0, 1, ...
    rows     units are to be left in equal numbers in each such run of units (queries of a group)
    """

    where: tuple[str, ...]
    count: int
    trace: Trace
    even: int = 1


@dataclass(frozen=True)
class Found:
    """What was found, in the order of execution, and what cannot be pruned: (where, why)."""

    structures: list[Structure]
    refused: list[tuple[str, str]]


def find_heads(
    program: Program, signature: Signature = "keep", grouped: Grouped = "groups"
) -> Found:
    """Attentions of more than one head; several that share weights are one structure."""
    view = View(program, signature)
    return collect(view, _seeds(program, grouped), "heads")


@dataclass(frozen=True)
class Seed:
    """An axis that may hold units: the trace begins there."""

    where: str
    axis: Axis
    labels: Labels
    count: int
    even: int = 1


def collect(view: View, seeds: Iterator[list[Seed]], what: str) -> Found:
    """One structure for each list of seeds, of which the first that can be followed counts."""
    made: list[Structure] = []
    owners: dict[Axis, int] = {}
    found = Found([], [])
    for candidates in seeds:
        problems = []
        for seed in candidates:
            if seed.axis in owners:
                i = owners[seed.axis]
                made[i] = Structure(
                    (*made[i].where, seed.where), made[i].count, made[i].trace, made[i].even
                )
                break
            try:
                traced = _checked(trace(view, {seed.axis: seed.labels}), owners)
            except Blocked as why:
                problems.append(str(why))
                continue
            owners |= dict.fromkeys(traced.axes, len(made))
            made.append(Structure((seed.where,), seed.count, traced, seed.even))
            break
        else:
            if candidates:
                found.refused.append((candidates[0].where, problems[0]))
    found.structures.extend(made)
    return found


def _checked(made: Trace, owners: dict[Axis, int]) -> Trace:
    if any(axis in owners for axis in made.axes):
        raise Blocked("tied to units of another layer in another order")
    if not made.sinks:
        raise Blocked("no projection sums over them")
    return made


def _seeds(program: Program, grouped: Grouped) -> Iterator[list[Seed]]:
    for function, graph in program.graphs.items():
        for node in graph.nodes:
            where = f"{function}/{node.output.name}"
            if node.op.name == "attention":
                yield _of_attention(function, where, graph, node, grouped)
            elif node.op.name == "softmax":
                yield list(_behind_softmax(function, where, graph, node))


def _of_attention(
    function: str, where: str, graph: Graph, node: Node, grouped: Grouped
) -> list[Seed]:
    q, k = (graph.type(n or "").shape[1] for n in node.inputs[:2])
    if not isinstance(q, int) or not isinstance(k, int) or q < 2:
        return []
    axis = (function, node.output.name, 1)
    size = q // k
    if grouped == "queries" and size > 1:
        return [Seed(where, axis, Labels.of(range(q)), q, size)]
    if k < 2:
        return []
    return [Seed(where, axis, Labels.of([h // size for h in range(q)]), k)]


def _behind_softmax(function: str, where: str, graph: Graph, node: Node) -> Iterator[Seed]:
    """The axis before the last where axes are merged on the way to a linear layer."""
    users = graph.users()
    waiting, seen, multiplied = [(node.output.name, False)], set(), False
    while waiting:
        name, multiplied = waiting.pop(0)
        for user in users.get(name, ()):
            if user.op.name == "linear" or (user.output.name, multiplied) in seen:
                continue
            seen.add((user.output.name, multiplied))
            x, y = graph.type(name).shape, user.output.type.shape
            if user.op.name == "reshape" and multiplied and len(y) < len(x) and y[-1] != x[-1]:
                heads = x[-2]
                if isinstance(heads, int) and heads > 1:
                    yield Seed(where, (function, name, len(x) - 2), Labels.of(range(heads)), heads)
            else:
                waiting.append((user.output.name, multiplied or user.op.name == "matmul"))
