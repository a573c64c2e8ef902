"""Where an artifact first computes something else than its graph."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING

import torch

from edgec.comparison import Comparison, compare
from edgec.errors import EdgecError
from edgec.interpreter import Interpreter
from edgec.ir.graph import Node
from edgec.ir.program import Program
from edgec.ir.text import show_node
from edgec.target import Executable
from edgec.validate.exposed import Again, exposed, inner_values
from edgec.validate.report import Difference
from edgec.validate.tolerance import bounds, own_error, tolerance

if TYPE_CHECKING:
    from edgec.validate.fidelity import Case


def first_difference(
    program: Program, executable: Executable, case: Case, again: Again | None = None
) -> Difference | None:
    """The first value that the artifact computes differently; None where it cannot tell.

    Values that the artifact has under the graph's names are compared in the graph's order. `local`
    then says whether the node's own result is wrong, given the artifact's operands, or an operand
    was already off by less than its tolerance.

    An artifact without inner values is emitted `again`, with all of them as outputs; where that
    fails, or is right everywhere (the mistake is in what was fused, or in where values lie), the
    first wrong output is named.
    """
    graph = program.graphs[case.function]
    got = dict(zip(graph.outputs, executable.run(case.function, list(case.inputs)), strict=True))
    got |= executable.values(case.function, list(case.inputs))
    if again is not None and not any(n in got for n in inner_values(graph)):
        found = _first(program, case, _all_values(program, case, again))
        if found is not None:
            return found
    return _first(program, case, got)


def _all_values(program: Program, case: Case, again: Again) -> dict[str, torch.Tensor]:
    """What the program computes on its way, emitted for that; nothing where it cannot be so."""
    shown = exposed(program, case.function)
    try:
        with again(shown) as executable:
            values = executable.run(case.function, list(case.inputs))
    except EdgecError:
        return {}
    return dict(zip(shown.graphs[case.function].outputs, values, strict=True))


def _first(program: Program, case: Case, got: dict[str, torch.Tensor]) -> Difference | None:
    """The first of the values `got` that is not what the graph has."""
    graph = program.graphs[case.function]
    got |= {v.name: t for v, t in zip(graph.inputs, case.inputs, strict=True)}
    interpreter = Interpreter(program, compute=torch.float64)
    wanted = _values(interpreter, case, got)
    single = _values(Interpreter(program), case, got)
    limits = bounds(graph, case.setting.env)
    for node in graph.nodes:
        for value in node.outputs:
            if value.name not in wanted:
                continue
            error = own_error(single[value.name], wanted[value.name])
            allowed = tolerance(limits[value.name], error)
            found = compare(value.name, got[value.name], wanted[value.name], allowed)
            if not found.passed:
                local = _is_local(interpreter, node, got, case.setting.env, found)
                return Difference(
                    case.function,
                    case.setting.label,
                    value.name,
                    show_node(node).partition("  # ")[0],
                    node.source,
                    found.max_ratio,
                    allowed,
                    local,
                )
    return None


def _values(
    interpreter: Interpreter, case: Case, wanted: Container[str]
) -> dict[str, torch.Tensor]:
    """Every value of one call whose name is in `wanted`, in the dtype of the graph."""
    found: dict[str, torch.Tensor] = {}

    def keep(node: Node, results: tuple[torch.Tensor, ...]) -> None:
        for value, result in zip(node.outputs, results, strict=True):
            if value.name in wanted:
                found[value.name] = result.to(value.type.dtype.torch_dtype)

    interpreter.run(case.inputs, case.function, trace=keep)
    return found


def _is_local(
    interpreter: Interpreter,
    node: Node,
    got: Mapping[str, torch.Tensor],
    env: Mapping[str, int],
    found: Comparison,
) -> bool | None:
    """Whether `node`, evaluated on the artifact's operands, differs from the artifact."""
    operands: list[torch.Tensor | None] = []
    for name in node.inputs:
        if name is None:
            operands.append(None)
        elif name.startswith("@"):
            operands.append(interpreter.constant(name[1:]))
        elif name in got:
            tensor = got[name]
            operands.append(tensor.double() if tensor.dtype == torch.float32 else tensor)
        else:
            return None
    made = node.op.bind(env).evaluate(*operands)
    results = made if isinstance(made, tuple) else (made,)
    index = [v.name for v in node.outputs].index(found.name)
    dtype = got[found.name].dtype
    again = compare(found.name, got[found.name], results[index].to(dtype), found.tolerance)
    return not again.passed
