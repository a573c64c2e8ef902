"""One IR function as an ONNX model without its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

import edgec
from edgec.errors import UnsupportedError
from edgec.ir import Graph, TensorType, dims
from edgec.target import Signature
from edgec.targets.onnx import (  # noqa: F401  - importing a module registers its lowerings
    lower_conv,
    lower_elementwise,
    lower_linear,
    lower_movement,
    lower_recurrent,
    lower_reduce,
)
from edgec.targets.onnx.lowering import dense, lower
from edgec.targets.onnx.writer import MICROSOFT, ONNX_DTYPE, Name, Writer, to_proto

if TYPE_CHECKING:
    from edgec.targets.onnx import Onnx

SIGNATURE, RENAMED = "edgec.signature", "edgec.renamed"


class Lowered(NamedTuple):
    """A model, and the names of the initializers it still lacks."""

    model: ModelProto
    weights: tuple[Name, ...]


def lower_function(graph: Graph, target: Onnx, metadata: Mapping[str, str]) -> Lowered:
    """Lower a legalized function. Raises UnsupportedError where external names collide."""
    names = _final_names(graph)
    w = Writer(graph, target)
    for node in graph.nodes:
        w.scope = names[node.output.name]
        for value, made in zip(node.outputs, lower(w, node), strict=True):
            w.define(value.name, made, names[value.name])
    defined = set(names.values())
    for result, external in zip(graph.outputs, graph.output_names, strict=True):
        if external not in defined:
            constant = graph.constant(result)
            source = w.local(result) if constant is None else dense(w, constant)
            w.define(f"output {external}", source, external)
    nodes = _reachable(w.finished_nodes(), set(graph.output_names))
    return _model(graph, target, metadata, w, nodes, names)


def _final_names(graph: Graph) -> dict[str, Name]:
    """Name in the file of every value that a node makes: its own, or that of an output."""
    inputs = {v.name for v in graph.inputs}
    if both := sorted(inputs & set(graph.output_names)):
        need = "external names that differ"
        raise UnsupportedError(
            "onnx", f"{', '.join(both)} as input and output of {graph.name}", need
        )
    outputs: dict[str, Name] = {}
    for value, external in zip(graph.outputs, graph.output_names, strict=True):
        outputs.setdefault(value, external)
    taken = set(graph.output_names)
    names: dict[str, Name] = {}
    for node in graph.nodes:
        for v in node.outputs:
            free = v.name if v.name not in taken else f"{v.name}/value"
            names[v.name] = outputs.get(v.name, free)
    return names


def _reachable(nodes: list[NodeProto], wanted: set[Name]) -> list[NodeProto]:
    """The nodes that the outputs need."""
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


def _model(
    graph: Graph,
    target: Onnx,
    metadata: Mapping[str, str],
    w: Writer,
    nodes: list[NodeProto],
    names: Mapping[str, Name],
) -> Lowered:
    signature = Signature.of(graph)
    read = dict.fromkeys(name for node in nodes for name in node.input)
    small: list[TensorProto] = [to_proto(n, w.tensors[n]) for n in read if n in w.tensors]
    proto = helper.make_graph(
        nodes,
        graph.name,
        [value_info(v.name, v.type) for v in signature.inputs],
        [value_info(v.name, v.type) for v in signature.outputs],
        small,
        value_info=list(_own_operators(graph, nodes, names)),
    )
    opsets = [helper.make_opsetid("", target.opset)]
    if any(n.domain == MICROSOFT for n in nodes):
        opsets.append(helper.make_opsetid(MICROSOFT, 1))
    model = helper.make_model(
        proto,
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets, ignore_unknown=True),
        producer_name="edgec",
        producer_version=edgec.__version__,
    )
    renamed = {ir: name for ir, name in names.items() if ir != name}
    own = {SIGNATURE: signature.to_json(), RENAMED: json.dumps(renamed)}
    helper.set_model_props(model, {**metadata, **own})
    return Lowered(model, tuple(n for n in read if n.startswith("@")))


def value_info(name: Name, kind: TensorType) -> ValueInfoProto:
    """Named and computed dimensions by their text."""
    shape = [d if isinstance(d, int) else dims.show(d) for d in kind.shape]
    return helper.make_tensor_value_info(name, ONNX_DTYPE[kind.dtype], shape)


def _own_operators(
    graph: Graph, nodes: list[NodeProto], names: Mapping[str, Name]
) -> list[ValueInfoProto]:
    """Types of what onnxruntime's own operators make: other tools cannot infer them."""
    made = {name for node in nodes if node.domain == MICROSOFT for name in node.output}
    made -= set(graph.output_names)
    types = graph.value_types()
    return [value_info(n, types[ir]) for ir, n in names.items() if n in made]
