"""How far an artifact may be from the graph that it came from: a bound that follows from the ops.

The rule. One ROUNDING op may deviate by `4 · eps · factor · √K` of the greatest value of its
result: eps of the result's dtype, `factor` declared by the op (functions that everybody
approximates, such as exp), K the length of its longest sum. An EXACT op deviates by nothing. Errors
of different ops are independent, so along a path they add as squares, and a value is held to the
worst path that leads to it:

    bound(y)² = own(op)² + max over operands x of bound(x)²

That supposes that no op makes the error of its operands greater in relation to its result. Where a
graph does (differences of almost equal numbers, a rounding of activations to codes), its own
interpretation in float32 shows it: with d the deviation of that from the interpretation in float64,
the tolerance is

    max(bound, 10 · d), at most 0.05

Both are relative to the greatest magnitude of the output. Integer and boolean results must be equal
where only EXACT ops lead to them; behind a rounded comparison or argmax at most one in a hundred
may differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from edgec.comparison import deviation
from edgec.ir import dims
from edgec.ir.graph import Graph, Node
from edgec.ir.op import Exactness

STANDARD = 4.0  # multiples of eps √K that one op may deviate by
OWN_ERROR = 10.0  # multiples of the interpreter's own float32 error
LIMIT = 0.05  # no tolerance is above this

RULE = (
    "max(sqrt(sum over the worst path of (4 eps factor sqrt(K))^2), 10 x own float32 error), "
    "at most 0.05, relative to the output's greatest magnitude"
)


def bounds(graph: Graph, env: Mapping[str, int]) -> dict[str, float]:
    """Relative bound of every value of `graph` (inputs and constants: 0), by name."""
    squares: dict[str, float] = {}
    for node in graph.nodes:
        incoming = max((squares.get(n, 0.0) for n in node.operands), default=0.0)
        own = own_bound(graph, node, env)
        for value in node.outputs:
            squares[value.name] = own * own + incoming
    return {name: math.sqrt(s) for name, s in squares.items()}


def own_bound(graph: Graph, node: Node, env: Mapping[str, int]) -> float:
    """Relative deviation that one node may add by itself."""
    floats = [v.type.dtype for v in node.outputs if v.type.dtype.is_float]
    if node.op.exactness is Exactness.EXACT or not floats:
        return 0.0
    types = [None if n is None else graph.type(n) for n in node.inputs]
    length = max(1, dims.evaluate(node.op.reduction(types), env))
    eps = max(torch.finfo(d.torch_dtype).eps for d in floats)
    return STANDARD * eps * node.op.factor * math.sqrt(length)


def tolerance(bound: float, own_error: float) -> float:
    """Allowed deviation of an output: see the module's docstring. Nothing for an exact output."""
    return min(LIMIT, max(bound, OWN_ERROR * own_error)) if bound > 0 else 0.0


def own_error(single: torch.Tensor, exact: torch.Tensor) -> float:
    """Relative deviation of a value interpreted in float32; 0 for one that is no float."""
    return deviation(single.to(exact.dtype), exact) if exact.is_floating_point() else 0.0
