"""What tests of structured pruning share: programs captured from torch, and what must come out.

The formula that pruned programs are held to removes nothing: the columns of the projection behind
the heads that go are zero, in the program as it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

import edgec
from edgec.interpreter import Interpreter
from edgec.ir import Constant, Dense, Program
from edgec.ir.graph import put_constant
from edgec.passes import CLEANUP, parse_pipeline
from edgec.passes.structure.heads import Structure

Gone = Mapping[str, Collection[int]]
"""Units that go, by the name of the weight that sums over them."""


def captured(module, inputs, dynamic_shapes=None) -> Program:
    module.eval()
    program, _ = parse_pipeline(CLEANUP).run(edgec.capture(module, inputs, dynamic_shapes))
    return program


def zeroed(program: Program, structures: Sequence[Structure], gone: Collection[int]) -> Program:
    """The program with zeros where each product sums over units that go.

    Which column belongs to which unit is what the finder says: were it wrong, the columns removed
    would not be those whose inputs are gone, and outputs would differ. A column that is no unit's
    (of a value that was concatenated to the units) stays.
    """
    after = program.copy()
    for structure in structures:
        for sink in structure.trace.sinks:
            node, nodes = sink.node, after.graphs[sink.function].nodes
            i = next(i for i, n in enumerate(nodes) if n.output.name == node.output.name)
            ref = nodes[i].inputs[1] or ""
            w = after.constants[ref[1:]].encoding.decode().clone()
            columns = w.movedim(1, 0) if node.op.name != "matmul" else w
            columns[torch.isin(torch.tensor(sink.labels.flat), torch.tensor(list(gone)))] = 0
            own = put_constant(after.constants, "zeroed", Dense(w)).ref
            operands = (nodes[i].inputs[0], own, *nodes[i].inputs[2:])
            nodes[i] = dataclasses.replace(nodes[i], inputs=operands)
    return after.verify()


def exact(program: Program, inputs: Sequence[Tensor], function: str | None = None) -> list[Tensor]:
    """Outputs in float64."""
    double = [t.double() if t.is_floating_point() else t for t in inputs]
    return list(
        Interpreter(program, compute=torch.float64).run(
            [t.float() if t.is_floating_point() else t for t in double], function
        )
    )


def same(got: Tensor, want: Tensor) -> bool:
    """Equal but for what float64 rounds."""
    scale = float(want.double().abs().max()) if want.numel() else 1.0
    return got.shape == want.shape and bool(
        ((got.double() - want.double()).abs() <= 1e-9 * max(scale, 1.0)).all()
    )


def without(x: Tensor, shape: Sequence[object], gone: Collection[int]) -> Tensor:
    """An input whose axis of heads has become smaller, without those that go."""
    for axis, size in enumerate(shape):
        if isinstance(size, int) and size != x.shape[axis]:
            left = [i for i in range(x.shape[axis]) if i not in gone]
            x = x.index_select(axis, torch.tensor(left))
    return x


def stored(program: Program, name: str) -> Constant:
    return program.constants[name]
