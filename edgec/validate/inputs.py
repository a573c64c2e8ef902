"""Valid inputs for a function, derived from its graph: ids in range, masks that see.

An integer input is followed through the ops that only move its numbers. Where it arrives as the
indices of a gather, the table's length bounds it. An integer or boolean input that indexes nothing
is a mask or a flag: zeros and ones, ones first, at least one per row of the last axis. Floats are
standard normal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.graph import Graph, Node, Value

# Ops whose result holds numbers of these operands, moved but not changed (None: of every operand).
_MOVES: dict[str, tuple[int, ...] | None] = {
    "cast": (0,),
    "reshape": (0,),
    "permute": (0,),
    "expand": (0,),
    "slice": (0,),
    "flip": (0,),
    "pad": (0,),
    "concat": None,
    "where": (1, 2),
    "gather": (0,),
    "take_along": (0,),
    "gather_nd": (0,),
    "scatter_slice": (0, 1),
    "minimum": None,
    "maximum": None,
}


@dataclass(frozen=True)
class Bound:
    """An integer input holds values in [0, size); `table` says why."""

    size: Dim
    table: str


def index_bounds(graph: Graph) -> dict[str, list[Bound]]:
    """For each integer input that is used as an index: what it indexes."""
    users = graph.users()
    return {
        value.name: bounds
        for value in graph.inputs
        if value.type.dtype.is_int and (bounds := list(_bounds(graph, users, value)))
    }


def _bounds(graph: Graph, users: Mapping[str, list[Node]], value: Value) -> Iterator[Bound]:
    # (name, offset): a value whose numbers are the input's plus offset
    pending, seen = [(value.name, 0)], set()
    while pending:
        name, offset = pending.pop()
        if (name, offset) in seen:
            continue
        seen.add((name, offset))
        for node in users.get(name, ()):
            yield from _indexed(graph, node, name, offset)
            if (shift := _shift(graph, node, name)) is not None:
                pending.append((node.output.name, offset + shift))


def _shift(graph: Graph, node: Node, name: str) -> int | None:
    """What is added to the numbers of `name` on their way through `node`; None where they end."""
    places = [i for i, n in enumerate(node.inputs) if n == name]
    if node.op.name in _MOVES:
        moved = _MOVES[node.op.name]
        return 0 if moved is None or any(i in moved for i in places) else None
    if node.op.name not in ("add", "sub") or len(places) != 1:
        return None
    other = node.inputs[1 - places[0]]
    constant = graph.constant(other) if other is not None else None
    if constant is None or not constant.type.dtype.is_int or constant.type.numel != 1:
        return None
    amount = int(constant.encoding.decode().item())
    if node.op.name == "add":
        return amount
    return -amount if places[0] == 0 else None


def _indexed(graph: Graph, node: Node, name: str, offset: int) -> Iterator[Bound]:
    """The tables that `node` indexes with `name`."""
    places = [i for i, n in enumerate(node.inputs) if n == name and i > 0]
    table = node.inputs[0]
    if not places or table is None:
        return
    if node.op.name in ("gather", "take_along"):
        axes = [int(getattr(node.op, "axis", 0)) for _ in places]
    elif node.op.name == "gather_nd":
        axes = [i - 1 for i in places]
    else:
        return
    shape = graph.type(table).shape
    for axis in axes:
        yield Bound(dims.normal(shape[axis] - offset), f"{node.op.name} of {table}, axis {axis}")


def make_inputs(graph: Graph, env: Mapping[str, int], seed: int = 0) -> list[torch.Tensor]:
    """Seeded inputs of `graph` at these sizes, as the module's docstring says."""
    generator = torch.Generator().manual_seed(seed)
    bounds = index_bounds(graph)
    return [_make(v, bounds.get(v.name, []), env, generator) for v in graph.inputs]


def _make(
    value: Value, bounds: list[Bound], env: Mapping[str, int], generator: torch.Generator
) -> torch.Tensor:
    shape, dtype = value.type.bind(env), value.type.dtype
    if dtype.is_float:
        return torch.randn(shape, generator=generator).to(dtype.torch_dtype)
    if bounds:
        high = max(1, min(dims.evaluate(b.size, env) for b in bounds))
        return torch.randint(0, high, shape, generator=generator).to(dtype.torch_dtype)
    return _mask(shape, generator).to(dtype.torch_dtype)


def _mask(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Ones first, then zeros, along the last axis; at least one 1 a row, the first row all ones."""
    if not shape or 0 in shape:
        return torch.ones(shape, dtype=torch.int64)
    size = shape[-1]
    lengths = torch.randint(1, size + 1, shape[:-1], generator=generator)
    if lengths.numel():
        lengths.view(-1)[0] = size
    return (torch.arange(size) < lengths.unsqueeze(-1)).long()


# ------------------------------------------------------------------ functions that feed each other
def linked_inputs(graphs: Mapping[str, Graph], name: str) -> dict[str, tuple[str, int]]:
    """Inputs of function `name` that another function produces: input -> (function, output index).

    An input that carries the name of another function's output takes its value, as the keys and
    values of an encoder that a decoder step reads.
    """
    own = graphs[name]
    states = {s.input for s in own.states}
    links: dict[str, tuple[str, int]] = {}
    for other in graphs.values():
        if other.name == name:
            continue
        for i, output in enumerate(other.output_names):
            for value in own.inputs:
                if value.name == output and value.name not in states:
                    if value.type.same(other.output_types()[i]):
                        links.setdefault(value.name, (other.name, i))
    return links


def chain(
    graphs: Mapping[str, Graph],
    name: str,
    env: Mapping[str, int],
    run: Any,
    seed: int = 0,
) -> list[torch.Tensor]:
    """`make_inputs` of function `name`, with linked inputs computed by `run(function, inputs)`.

    An input that both functions have (an attention mask) holds the same tensor in both.
    """
    graph = graphs[name]
    inputs = dict(zip([v.name for v in graph.inputs], make_inputs(graph, env, seed), strict=True))
    results: dict[str, Any] = {}
    for target, (source, index) in linked_inputs(graphs, name).items():
        producer = graphs[source]
        if not _env_covers(producer, env):
            continue
        if source not in results:
            given = make_inputs(producer, env, seed)
            for i, value in enumerate(producer.inputs):
                shared = inputs.get(value.name)
                if shared is not None and tuple(shared.shape) == tuple(given[i].shape):
                    given[i] = shared
            results[source] = run(source, given)
        made = results[source][index]
        if tuple(made.shape) == tuple(inputs[target].shape):
            inputs[target] = made.to(inputs[target].dtype)
    return list(inputs.values())


def _env_covers(graph: Graph, env: Mapping[str, int]) -> bool:
    needed = {n for v in graph.inputs for n in dims.names(v.type.shape)}
    return needed <= env.keys() and all(env[n] in graph.dims[n] for n in needed if n in graph.dims)
