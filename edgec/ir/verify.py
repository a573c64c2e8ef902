"""Verifier: every invariant of the IR, all breaches reported at once."""

from __future__ import annotations

from collections.abc import Iterator

from edgec.errors import EdgecError, VerifyError
from edgec.ir import dims
from edgec.ir.graph import Graph, Node
from edgec.ir.program import Program
from edgec.ir.types import TensorType


def verify(program: Program) -> None:
    """Raise VerifyError that lists all that is wrong with `program`; a well-formed one passes."""
    problems = [p for g in program.graphs.values() for p in problems_of(g)]
    for name, graph in program.graphs.items():
        if graph.name != name:
            problems.append(f"function {name} is called {graph.name}")
        if graph.constants is not program.constants:
            problems.append(f"function {name} has a constant pool of its own")
    for name, constant in program.constants.items():
        if constant.name != name:
            problems.append(f"@{name} is called @{constant.name}")
    if problems:
        raise VerifyError("verify", "\n  ".join(problems))


def problems_of(graph: Graph) -> Iterator[str]:
    """Breaches of one graph, one line each."""
    defined: dict[str, TensorType] = {}
    for value in graph.inputs:
        if value.name in defined:
            yield f"{graph.name}: input %{value.name} is defined twice"
        defined[value.name] = value.type
    unbound = {n for v in graph.inputs for n in dims.names(v.type.shape)} - graph.dims.keys()
    if unbound:
        yield f"{graph.name}: dimensions without a range: {', '.join(sorted(unbound))}"
    known = set(graph.dims)
    for node in graph.nodes:
        yield from _node_problems(graph, node, defined, known)
        for value in node.outputs:
            if value.name in defined:
                yield f"{graph.name}: %{value.name} is defined twice"
            defined[value.name] = value.type
    yield from _output_problems(graph, defined)


def _node_problems(
    graph: Graph, node: Node, defined: dict[str, TensorType], known: set[str]
) -> Iterator[str]:
    where = f"{graph.name}: %{node.outputs[0].name} = {node.op.name}"
    types: list[TensorType | None] = []
    for name in node.inputs:
        if name is None:
            types.append(None)
        elif name.startswith("@") and name[1:] in graph.constants:
            types.append(graph.constants[name[1:]].type)
        elif name in defined:
            types.append(defined[name])
        else:
            shown = name if name.startswith("@") else f"%{name}"
            yield f"{where}: operand {shown} is not defined before"
            return
    try:
        inferred = node.op.infer(*types)
    except EdgecError as error:
        yield f"{where}: {error}"
        return
    expected = inferred if isinstance(inferred, tuple) else (inferred,)
    actual = tuple(v.type for v in node.outputs)
    if len(actual) != len(expected) or not all(map(TensorType.same, actual, expected)):
        yield f"{where}: has type {_list(actual)}, its operands give {_list(expected)}"
    used = {n for t in actual for n in dims.names(t.shape)}
    if not used <= known:
        yield f"{where}: dimensions {', '.join(sorted(used - known))} are not of this function"


def _output_problems(graph: Graph, defined: dict[str, TensorType]) -> Iterator[str]:
    for name in graph.outputs:
        if name not in defined and not (name.startswith("@") and name[1:] in graph.constants):
            yield f"{graph.name}: output %{name} is not defined"
    if len(graph.outputs) != len(graph.output_names):
        yield f"{graph.name}: {len(graph.outputs)} outputs, {len(graph.output_names)} output names"
    elif len(set(graph.output_names)) != len(graph.output_names):
        yield f"{graph.name}: output names are not unique"
    inputs = {v.name for v in graph.inputs}
    for state in graph.states:
        if state.input not in inputs or state.output not in graph.output_names:
            yield f"{graph.name}: state {state.input} <- {state.output} names no input or output"


def _list(types: tuple[TensorType, ...]) -> str:
    return ", ".join(map(str, types))
