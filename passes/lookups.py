"""What tables are looked up for: how often each row is, and how far outputs move with its elements.

A row e of a table that is gathered from moves the outputs y by J (e' - e), to first order. What
rounding the table loses is then the sum over all lookups of (e' - e) H (e' - e)^T with H = J^T J:
what H = X X^T of inputs is to the rows of a linear layer, J^T J of outputs is to rows of a table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor

from edgec.context import Calibration, Context
from edgec.interpreter import Interpreter
from edgec.ir import Node, Program
from edgec.passes.numerics.gptq import Hessian
from edgec.passes.stream import visits

DRAWS = 2  # directions of the outputs that are drawn for each call
CALLS = 64  # of a function, evenly spread over the data, that gradients are taken of


def counts(
    program: Program, context: Context, where: str, names: Collection[str]
) -> dict[str, Tensor]:
    """f32[N] for each table: how often calibration data gather each row.

    Raises PassError, in `where`, without data.
    """
    found: dict[str, Tensor] = {}
    for function, calls in context.calls(where).items():
        left = sum(_is_lookup(n, names) for n in program.graphs[function].nodes)
        seen = visits(program, function, calls)
        while left:
            visit = next(seen)
            if not _is_lookup(visit.node, names):
                continue
            left -= 1
            for table, ids in visit.operands:
                assert table is not None and ids is not None
                hits = torch.bincount(ids.reshape(-1), minlength=len(table)).float()
                name = _table(visit.node)
                found[name] = found[name] + hits if name in found else hits
    return found


def _is_lookup(node: Node, names: Collection[str]) -> bool:
    axis = getattr(node.op, "axis", 0)
    return node.op.name == "gather" and axis == 0 and _table(node) in names


def _table(node: Node) -> str:
    return (node.inputs[0] or "").removeprefix("@")


def hessians_of_outputs(
    program: Program, context: Context, where: str, names: Collection[str]
) -> dict[str, Hessian]:
    """Sum of J^T J over lookups, f64[K, K] for each table that moves an output on calibration data.

    An output's J^T J is estimated by gradients of its products with random signs, `DRAWS` times for
    each of at most `CALLS` calls of a function, and divided by the output's mean square: all
    outputs count alike.
    Raises PassError, in `where`, without data.

    Source   Hutchinson's estimate with random signs, as in Dong et al. 2019, arXiv:1911.03852; the
             metric of outputs is that of Gauss-Newton.
    """
    generator = torch.Generator().manual_seed(0)
    tables = {n: program.constants[n].encoding.decode() for n in names}
    found: dict[str, Hessian] = {}
    for leaves in _gradients(program, context.calls(where), tables, generator):
        for name, gradient in leaves.items():
            rows = gradient.flatten(1).float()
            used = rows[rows.any(1)]
            if len(used) and bool(used.isfinite().all()):
                found.setdefault(name, Hessian(used.shape[1])).add(used)
    return found


def _gradients(
    program: Program, used: Calibration, tables: dict[str, Tensor], generator: torch.Generator
) -> Iterator[dict[str, Tensor]]:
    for function, calls in used.items():
        nodes = program.graphs[function].nodes
        here = [n for n in tables if any(f"@{n}" in node.operands for node in nodes)]
        most = min(CALLS, len(calls)) if here else 0
        for call in (calls[i * len(calls) // most] for i in range(most)):
            leaves = {n: tables[n].clone().requires_grad_(True) for n in here}
            outputs = Interpreter(program, constants=leaves).run(call, function, grad=True)
            moving = [y for y in outputs if y.requires_grad and y.numel()]
            for draw in range(DRAWS if moving else 0):
                total = sum((_projected(y, generator) for y in moving), torch.zeros(()))
                made = torch.autograd.grad(
                    total, list(leaves.values()), retain_graph=draw + 1 < DRAWS, allow_unused=True
                )
                yield {n: g for n, g in zip(here, made, strict=True) if g is not None}


def _projected(y: Tensor, generator: torch.Generator) -> Tensor:
    """<u, y> / root mean square of y, for u of random signs."""
    signs = torch.randint(0, 2, y.shape, generator=generator).to(y.dtype) * 2 - 1
    power = y.detach().double().square().mean().sqrt().clamp_min(1e-30).to(y.dtype)
    return (signs * y / power).sum()
