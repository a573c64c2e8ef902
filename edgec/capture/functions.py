"""Capture: modules with example inputs become the functions of one program."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

import edgec.capture.aten
import edgec.ops  # noqa: F401 - the two imports register rules and ops
from edgec.capture.conditions import apply_conditions, with_conditions
from edgec.capture.constants import ConstantPool
from edgec.capture.exporting import check_inputs, export, frozen
from edgec.capture.importer import Importer, drop_dead_nodes, flat_values
from edgec.capture.recurrent import symbolic_time
from edgec.capture.signature import (
    absent_leaves,
    dim_ranges,
    leaf_names,
    leaf_shapes,
    name_symbols,
    tree_json,
)
from edgec.capture.sizevalues import define_items
from edgec.errors import CaptureError
from edgec.ir.builder import Builder
from edgec.ir.graph import Graph, State
from edgec.ir.program import Program
from edgec.ir.types import DType, TensorType


@dataclass(frozen=True)
class Function:
    """What to capture as one function.

    module          any nn.Module; it is left as it was
    inputs          example inputs: the positional arguments of `forward`, nested as it takes them
    dynamic_shapes  as torch.export takes them; dimensions named by `Dim(name)` keep their names
    input_names     external names of the tensors, in order; default: forward's parameter names
    output_names    external names of the results, in order; default: keys, or output0, output1, ...
    states          which output feeds which input on the next call
    """

    module: nn.Module
    inputs: tuple[Any, ...]
    dynamic_shapes: Any = None
    input_names: tuple[str, ...] | None = None
    output_names: tuple[str, ...] | None = None
    states: tuple[State, ...] = ()


def capture(
    module: nn.Module, inputs: tuple[Any, ...], dynamic_shapes: Any = None, *, adapt: bool = True
) -> Program:
    """Capture a module as a program with the one function `main`.

    module          any nn.Module; it is left as it was. Its weights are shared with the program
    inputs          example inputs: the positional arguments of `forward`, nested as it takes them
    dynamic_shapes  as torch.export takes them, e.g. `({0: Dim("batch", max=64)}, None)`
    adapt           use edgec's own attention and masks inside of transformers models: smaller
    graphs
    Raises CaptureError: what torch.export refuses, or all operators at once that edgec does not
    know.
    """
    return capture_functions({"main": Function(module, inputs, dynamic_shapes)}, adapt=adapt)


def capture_functions(
    functions: Mapping[str, Function],
    metadata: Mapping[str, Any] | None = None,
    *,
    adapt: bool = True,
) -> Program:
    """Capture several functions over one pool of constants: a weight that they share is stored
    once.

    What sizes have to fulfil beyond their ranges stands in the metadata: {"conditions": {function:
    ["seq%4 == 0"]}}. Raises CaptureError as `capture` does.
    """
    pool = ConstantPool()
    graphs: dict[str, Graph] = {}
    conditions: dict[str, list[str]] = {}
    for name, function in functions.items():
        graphs[name], told = _graph(name, function, pool, adapt)
        if told:
            conditions[name] = told
    known = {**(metadata or {}), **({"conditions": conditions} if conditions else {})}
    program = Program(graphs, pool.constants, known)
    return program.drop_unused_constants().verify()


def _graph(
    name: str, function: Function, pool: ConstantPool, adapt: bool
) -> tuple[Graph, list[str]]:
    check_inputs(function.module, function.inputs)
    leaves = pytree.tree_leaves(tuple(function.inputs))
    tensors = flat_values(leaves)
    with frozen(function.module), _adapted(function.module, adapt), symbolic_time(function.module):
        exported, conditions = export(
            function.module, tuple(function.inputs), function.dynamic_shapes
        )

    wishes = leaf_shapes(function.module, function.inputs, function.dynamic_shapes)
    specs = [wish for leaf, wish in zip(leaves, wishes, strict=True) if leaf is not None]
    holders = _placeholders(exported)
    names = function.input_names or tuple(n for n, _ in holders)
    if len(names) != len(holders):
        got = f"{len(names)} input names for {len(holders)} tensors"
        raise CaptureError("capture", got, "one name for each tensor")
    shapes = [(n, fake, real) for n, (_, fake), real in zip(names, holders, tensors, strict=True)]
    symbols = name_symbols(shapes, specs)
    define_items(exported, symbols)
    ranges, told = apply_conditions(conditions, symbols, dim_ranges(exported, symbols))
    symbols.within(ranges)
    types = [TensorType(DType.of(f.dtype), symbols.shape(f.shape)) for _, f, _ in shapes]
    b = Builder.new(name, list(zip(names, types, strict=True)), pool.constants, ranges)
    arguments = {holder: n for (holder, _), n in zip(holders, names, strict=True)}
    try:
        outputs = Importer(exported, symbols, b, pool).run(arguments)
    except CaptureError as error:
        raise (with_conditions(error, told) if told else error) from error
    return _finish(b, exported, outputs, function), told


def _finish(b: Builder, exported: ExportedProgram, outputs: list[Any], function: Function) -> Graph:
    assert exported.call_spec.in_spec is not None and exported.call_spec.out_spec is not None
    out_spec = exported.call_spec.out_spec
    absent = absent_leaves(exported)
    given = [n for n, gone in zip(leaf_names(out_spec, "output"), absent, strict=True) if not gone]
    names = function.output_names or given
    if len(names) != len(outputs):
        got = f"{len(names)} output names for {len(outputs)} results"
        raise CaptureError("capture", got, "one name for each result")
    graph = b.finish(outputs, names)
    graph.input_tree = tree_json(exported.call_spec.in_spec.child(0))
    graph.output_tree = tree_json(out_spec, absent)
    graph.states = function.states
    drop_dead_nodes(graph)
    return graph


def _placeholders(exported: ExportedProgram) -> list[tuple[str, Any]]:
    """Name and symbolic tensor of each tensor input, in order."""
    wanted = set(map(str, exported.graph_signature.user_inputs))
    found = {n.name: n.meta.get("val") for n in exported.graph.nodes if n.op == "placeholder"}
    return [(n, v) for n, v in found.items() if n in wanted and v is not None]


@contextlib.contextmanager
def _adapted(module: nn.Module, adapt: bool) -> Iterator[None]:
    if not adapt or "transformers" not in sys.modules:
        yield
        return
    from edgec.capture.experts import static_experts
    from edgec.capture.sparse_models import sparse_models
    from edgec.capture.transformers import adapted

    with adapted(module), static_experts(module), sparse_models(module):
        yield
