"""Random graphs over the whole op set with two named dims: for targets, which fuse and plan memory.

They go on where the programs for passes end (tests/passes/random_programs.py): norms, recurrent
layers, convolutions, pools, sampling and indexing, over sequences and images of any length.
"""

from __future__ import annotations

import random

import torch

from edgec.ir import Builder, Program, TensorType
from tests.cases import random_steps, random_windows
from tests.cases.random_operands import BOOL, DIMS, F32, I64
from tests.passes.random_programs import STEPS as PLAIN
from tests.passes.random_programs import Writer

STEPS = (*random_steps.STEPS, *random_windows.STEPS)
INPUTS = {
    "x": "f32[batch, 4]",
    "y": "f32[batch, 4]",
    "z": "f32[batch, 2, 4]",
    "ids": "i64[batch, 4]",
    "mask": "bool[batch, 4]",
    "sequence": "f32[batch, length, 8]",
    "other": "f32[batch, length, 8]",
    "image": "f32[batch, 4, 6, length]",
    "seen": "bool[batch, 1, length]",
}


def random_graph(seed: int, steps: int) -> Program:
    """A program over INPUTS; its last values, some inner ones and a scalar are results."""
    rng = random.Random(seed)
    kinds = [(n, TensorType.parse(t)) for n, t in INPUTS.items()]
    b = Builder.new("main", kinds, dims=dict(DIMS))
    start = [b.input(n) for n, _ in kinds]
    start += [b.scalar(0.5, F32), b.scalar(True, BOOL)]
    start += [b.constant(torch.tensor([1.0, -2.0, 0.0, 3.0]), "row")]
    writer = Writer(rng, b, start, exact=False, steps=(*STEPS, *STEPS, *PLAIN))
    for _ in range(steps):
        writer.step()
    local = [v for v in writer.values if not v.is_constant]
    results = [*local[-3:], *rng.choices(local, k=2)]
    graph = b.finish(results, [f"result{i}" for i in range(len(results))])
    return Program({"main": graph}, graph.constants)


def inputs_of(env: dict[str, int], seed: int) -> list[torch.Tensor]:
    """Normal floats, ids of 0 to 3; the first of a sequence is always seen."""
    g = torch.Generator().manual_seed(seed)
    made = {}
    for name, text in INPUTS.items():
        kind = TensorType.parse(text)
        shape = kind.bind(env)
        if kind.dtype is I64:
            made[name] = torch.randint(0, 4, shape, generator=g)
        elif kind.dtype is BOOL:
            made[name] = torch.rand(shape, generator=g) > 0.4
        else:
            made[name] = torch.randn(shape, generator=g)
    made["seen"][..., 0] = True
    return list(made.values())
