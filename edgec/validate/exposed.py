"""A program that gives all of its values away: for artifacts that hold none but their outputs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

from edgec.ir.graph import Graph, fresh_name
from edgec.ir.program import Program
from edgec.target import Executable

Again: TypeAlias = Callable[[Program], AbstractContextManager[Executable]]
"""Emits a program as the artifact was, into a place of its own, and opens it."""


def exposed(program: Program, function: str) -> Program:
    """The program of one function, whose outputs are those it has and then every other value.

    States are plain inputs and outputs. Where an output is not what it was before, a target may
    compute it otherwise: an op that was fused into another one has a result of its own here.
    """
    graph = program.graphs[function]
    inner = inner_values(graph)
    taken = {*graph.output_names, *(v.name for v in graph.inputs)}
    names = []
    for name in inner:
        names.append(fresh_name(name, taken))
        taken.add(names[-1])
    outputs, output_names = (*graph.outputs, *inner), (*graph.output_names, *names)
    shown = graph.replace(outputs=outputs, output_names=output_names, states=(), output_tree="")
    return Program({function: shown}, program.constants, program.metadata).drop_unused_constants()


def inner_values(graph: Graph) -> tuple[str, ...]:
    """Names of what nodes compute and the function does not give, in the graph's order."""
    given = set(graph.outputs)
    return tuple(v.name for n in graph.nodes for v in n.outputs if v.name not in given)
