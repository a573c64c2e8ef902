"""Weights of the products that lose units, fitted to what they gave before: layer by layer.

All calls go through the program node by node, twice: as it was, and with what was fitted already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from edgec.context import Calibration, Steps
from edgec.ir import Constant, Dense, Program
from edgec.ir.graph import put_constant
from edgec.passes.inputs import inputs
from edgec.passes.numerics.units import Products, refit
from edgec.passes.stream import Visit, visits
from edgec.passes.structure.removal import Removal
from edgec.passes.structure.trace import Sink
from edgec.passes.structure.weights import rows_of, stored, units_of, weight_of


def fit(
    program: Program, removals: Sequence[Removal], calls: Calibration, damping: float, steps: Steps
) -> list[str]:
    """Replace the weights, and biases, of all products that sum over removed units; notes.

    The columns of units that go become zero. A weight with several products, and one that no data
    reach, stays as it is but for that.
    """
    sinks = {s.key: (s, r.units) for r in removals for s in r.trace.sinks}
    uses = Counter(weight_of(s).name for s, _ in sinks.values())
    original, notes = program.copy(), []
    missing = dict.fromkeys(sinks)
    for sink, units in sinks.values():
        _zero(program, sink, units)
    for function, given in calls.items():
        before_all = visits(original, function, given)
        for now, before in zip(visits(program, function, given, steps), before_all, strict=False):
            key = function, now.node.output.name
            if key in sinks and uses[weight_of(sinks[key][0]).name] == 1:
                missing.pop(key)
                if not _fit(program, original, *sinks[key], now, before, damping):
                    notes.append(f"{function}/{key[1]}: infinite squares of inputs; not fitted")
    for function, value in missing:
        several = uses[weight_of(sinks[function, value][0]).name] > 1
        why = "a weight of several products" if several else "no calibration data"
        notes.append(f"{function}/{value}: {why}; not fitted")
    return notes


def _zero(program: Program, sink: Sink, gone: frozenset[int]) -> None:
    name = weight_of(sink).name
    encoding = program.constants[name].encoding
    assert isinstance(encoding, Dense)
    w = encoding.decode()
    rows = rows_of(sink, w).clone()
    for i, unit in enumerate(units_of(sink, rows.shape[1]).tolist()):
        if unit in gone:
            rows[:, i] = 0
    program.constants[name] = Constant(name, encoding.encode(stored(sink, rows, w)))


def _fit(
    program: Program,
    original: Program,
    sink: Sink,
    gone: frozenset[int],
    now: Visit,
    before: Visit,
    damping: float,
) -> bool:
    """Whether the inputs could be squared: the weight was fitted."""
    weight = weight_of(sink)
    encoding = original.constants[weight.name].encoding
    assert isinstance(encoding, Dense)
    w = encoding.decode()
    rows = rows_of(sink, w)
    products = Products(rows.shape[1])
    for x, x0 in zip(inputs(now, weight), inputs(before, weight), strict=True):
        products.add(x, x0)
    units = units_of(sink, rows.shape[1]).tolist()
    kept = [i for i, u in enumerate(units) if u not in gone]
    ref = sink.node.inputs[2] if len(sink.node.inputs) > 2 else None
    bias = None if ref is None else original.constants[ref[1:]].encoding.decode()
    made, shifted = refit(rows, bias, products, torch.tensor(kept), damping)
    if not all(bool(t.isfinite().all()) for t in (made, shifted) if t is not None):
        return False
    program.constants[weight.name] = Constant(weight.name, encoding.encode(stored(sink, made, w)))
    if ref is not None and shifted is not None:
        _set_bias(program, sink, ref[1:], shifted)
    return True


def _set_bias(program: Program, sink: Sink, name: str, values: Tensor) -> None:
    """A bias of the node's own, under the same name where nothing else reads it."""
    before = program.constants[name].encoding
    assert isinstance(before, Dense)
    graphs = program.graphs.values()
    reads = sum(n == f"@{name}" for g in graphs for node in g.nodes for n in node.inputs)
    if reads == 1 and not any(f"@{name}" in g.outputs for g in graphs):
        program.constants[name] = Constant(name, before.encode(values))
        return
    ref = put_constant(program.constants, name, before.encode(values)).ref
    nodes = program.graphs[sink.function].nodes
    i = next(i for i, n in enumerate(nodes) if n.output.name == sink.node.output.name)
    nodes[i] = replace(nodes[i], inputs=(*nodes[i].inputs[:2], ref))
