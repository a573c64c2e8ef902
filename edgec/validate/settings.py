"""Sizes to validate a function at: smallest, typical, largest and odd.

`smallest` and `largest` are the ends of the declared ranges; but nothing is tried empty, except
states that grow, which start so. A function must stay quick to interpret: where all dimensions at
their greatest would cost more than the budget, each is tried alone, and what is still too much is
halved until it fits; the setting then says that it was reduced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sympy

from edgec.errors import ValidationError
from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.graph import Graph

FLOPS = 4e9  # of one interpreted call
ELEMENTS = 2**24  # of one value
EVIDENCE = 2**20  # of all inputs and outputs of one call, which a release keeps

_TYPICAL = (2, 12, 8, 16)
_ODD = (3, 7, 5, 13)
_UNBOUNDED = 1024  # where no range is declared, `largest` starts here


@dataclass(frozen=True)
class Setting:
    """Sizes of one function's named dimensions.

    label     typical, smallest, odd, largest or largest NAME; fixed: no named dimensions
    env       value of each named dimension
    reduced   whether `largest` is below the declared range
    note      why, where it is the graph itself that cannot take more
    """

    label: str
    env: Mapping[str, int]
    reduced: bool = False
    note: str = ""

    def halved(self, smallest: Mapping[str, int], note: str) -> Setting | None:
        """Every dimension above its smallest halved; None where there is nothing to halve."""
        env = {n: max(smallest[n], v // 2) for n, v in self.env.items()}
        if not self.label.startswith("largest") or env == dict(self.env):
            return None
        return Setting(self.label, env, True, note)


def settings(graph: Graph, given: Mapping[str, int] | None = None) -> list[Setting]:
    """What to validate `graph` at, the typical sizes first; `given` fixes values for these.

    Raises ValidationError for given values outside of the declared ranges.
    """
    names = sorted({n for v in graph.inputs for n in dims.names(v.type.shape)})
    if not names:
        return [Setting("fixed", {})]
    _check(graph, given or {})
    smallest = smallest_sizes(graph)
    typical = _pick(graph, names, _TYPICAL) | {n: v for n, v in (given or {}).items() if n in names}
    found = [
        Setting("typical", typical),
        Setting("smallest", smallest),
        Setting("odd", _pick(graph, names, _ODD)),
        *_largest(graph, smallest),
    ]
    return [s for i, s in enumerate(found) if s.env not in [t.env for t in found[:i]]]


def smallest_sizes(graph: Graph) -> dict[str, int]:
    """The least that is tried of each dimension: 0 only where a state starts empty."""
    growing = state_dims(graph)
    names = sorted({n for v in graph.inputs for n in dims.names(v.type.shape)})
    return {n: _clamp(graph, n, 0 if n in growing else 1) for n in names}


def state_dims(graph: Graph) -> set[str]:
    """Named dimensions in which a state grows from call to call."""
    outputs = dict(zip(graph.output_names, graph.output_types(), strict=True))
    inputs = {v.name: v.type for v in graph.inputs}
    grown: set[str] = set()
    for state in graph.states:
        for a, b in zip(inputs[state.input].shape, outputs[state.output].shape, strict=True):
            if not dims.same(a, b):
                grown |= dims.names([a])
    return grown


def _check(graph: Graph, given: Mapping[str, int]) -> None:
    problems = [
        f"{n} = {v}, need {graph.dims[n].min} <= {n} <= {graph.dims[n].max}"
        for n, v in given.items()
        if n in graph.dims and v not in graph.dims[n]
    ]
    if problems:
        raise ValidationError(f"dims of {graph.name}", "; ".join(problems))


def _clamp(graph: Graph, name: str, value: int) -> int:
    """`value`, or the nearest that the range of `name` has."""
    bounds = graph.dims[name]
    return min(max(value, bounds.min), bounds.max)


def _pick(graph: Graph, names: list[str], values: tuple[int, ...]) -> dict[str, int]:
    return {n: _clamp(graph, n, values[i % len(values)]) for i, n in enumerate(names)}


def _largest(graph: Graph, smallest: Mapping[str, int]) -> list[Setting]:
    """All dimensions at their greatest; where that is too much, one after the other."""
    top = {n: graph.dims[n].max for n in smallest}
    if fits(graph, top):
        return [Setting("largest", top)]
    found = []
    for name, low in smallest.items():
        env = {**smallest, name: min(top[name], max(_UNBOUNDED, low))}
        while not fits(graph, env) and env[name] > low:
            env[name] = max(low, env[name] // 2)
        found.append(Setting(f"largest {name}", env, env[name] < top[name]))
    return found


def fits(graph: Graph, env: Mapping[str, int]) -> bool:
    """Whether one call at these sizes is quick enough to interpret and small enough to keep."""
    inputs = sum(dims.evaluate(v.type.numel, env) for v in graph.inputs)
    outputs = sum(dims.evaluate(t.numel, env) for t in graph.output_types())
    if inputs + outputs > EVIDENCE:
        return False
    if any(dims.evaluate(v.type.numel, env) > ELEMENTS for n in graph.nodes for v in n.outputs):
        return False
    return flops(graph, env) <= FLOPS


def flops(graph: Graph, env: Mapping[str, int]) -> int:
    """Floating-point operations of one call at these sizes."""
    return dims.evaluate(flops_of(graph), env)


def flops_of(graph: Graph) -> Dim:
    """Floating-point operations of one call, over the named dimensions."""
    costs = []
    for node in graph.nodes:
        types = [None if n is None else graph.type(n) for n in node.inputs]
        costs.append(sympy.sympify(node.op.flops(types, [v.type for v in node.outputs])))
    return dims.normal(sympy.Add(*costs))
