"""The interpreter: runs a graph by its ops' `evaluate`, the meaning that artifacts are held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from edgec.errors import ValidationError
from edgec.ir import dims
from edgec.ir.graph import Graph, Node
from edgec.ir.program import Program, as_tensor
from edgec.ir.types import TensorType


class Absent:
    """Stands in an output tree for a result that is None: no tensor belongs to it."""


pytree.register_pytree_node(
    Absent,
    lambda _: ([], None),
    lambda _children, _context: None,
    serialized_type_name="edgec.Absent",
)

Trace = Callable[[Node, tuple[torch.Tensor, ...]], None]


class Interpreter:
    """Runs the functions of one program. Constants are decoded once and kept.

    device    where to compute
    compute   float dtype to compute in instead of float32, e.g. torch.float64 for a reference
    constants decoded tensors to use instead of the program's own, by name (trainable copies, say)
    """

    def __init__(
        self,
        program: Program,
        device: str | torch.device = "cpu",
        compute: torch.dtype | None = None,
        constants: dict[str, torch.Tensor] | None = None,
    ) -> None:
        self.program = program
        self.device = torch.device(device)
        self.compute = compute
        self._given = constants or {}
        self._decoded: dict[str, torch.Tensor] = {}

    def constant(self, name: str) -> torch.Tensor:
        """The decoded constant `name` (without "@") on the device, in the compute dtype."""
        if name in self._given:
            return self._given[name]
        if name not in self._decoded:
            self._decoded[name] = self._cast(self.program.constants[name].encoding.decode())
        return self._decoded[name]

    def _cast(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.to(self.device)
        if self.compute is not None and tensor.dtype == torch.float32:
            tensor = tensor.to(self.compute)
        return tensor

    def run(
        self,
        inputs: Sequence[torch.Tensor],
        function: str | None = None,
        trace: Trace | None = None,
        grad: bool = False,
    ) -> tuple[torch.Tensor, ...]:
        """Flat inputs -> flat outputs of one function.

        trace   called after each node with the node and its results
        grad    keep the autograd graph
        Raises ValidationError for inputs whose number, dtype or shape does not fit the signature.
        """
        graph = self.program.graphs[function] if function else self.program.main
        tensors = check_inputs(graph, inputs)
        env = graph.bind(tuple(t.shape) for t in tensors)
        with torch.set_grad_enabled(grad):
            return self._execute(graph, tensors, env, trace)

    def _execute(
        self, graph: Graph, inputs: list[torch.Tensor], env: dict[str, int], trace: Trace | None
    ) -> tuple[torch.Tensor, ...]:
        values = {v.name: self._cast(t) for v, t in zip(graph.inputs, inputs, strict=True)}
        last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.operands}
        keep = set(graph.outputs)

        def load(name: str) -> torch.Tensor:
            return self.constant(name[1:]) if name.startswith("@") else values[name]

        for i, node in enumerate(graph.nodes):
            operands = [None if n is None else load(n) for n in node.inputs]
            made = node.op.bind(env).evaluate(*operands)
            results = made if isinstance(made, tuple) else (made,)
            for value, tensor in zip(node.outputs, results, strict=True):
                values[value.name] = self._cast(tensor)
            if trace is not None:
                trace(node, tuple(values[v.name] for v in node.outputs))
            for name in set(node.operands):
                if last_use[name] == i and name in values and name not in keep:
                    del values[name]
        return tuple(load(n) for n in graph.outputs)

    def call(self, *inputs: Any, function: str | None = None) -> Any:
        """The module's nested inputs -> its nested outputs."""
        graph = self.program.graphs[function] if function else self.program.main
        return unflatten(graph, self.run(flatten(graph, inputs), function))


def check_inputs(graph: Graph, inputs: Sequence[Any]) -> list[torch.Tensor]:
    """Inputs as tensors of the declared dtypes. Raises ValidationError listing every misfit."""
    if len(inputs) != len(graph.inputs):
        got = f"{len(inputs)} inputs"
        names = ", ".join(v.name for v in graph.inputs)
        raise ValidationError(graph.name, got, f"{len(graph.inputs)}: {names}")
    try:
        tensors = [as_tensor(t) for t in inputs]
    except (TypeError, ValueError, RuntimeError) as error:
        kinds = ", ".join(type(t).__name__ for t in inputs)
        raise ValidationError(graph.name, f"inputs of kind {kinds}", "tensors") from error
    problems = [
        f"{v.name}: {str(t.dtype).removeprefix('torch.')}, need {v.type.dtype.value}"
        for v, t in zip(graph.inputs, tensors, strict=True)
        if t.dtype != v.type.dtype.torch_dtype
    ]
    if problems:
        raise ValidationError(graph.name, "; ".join(problems))
    return tensors


def flatten(graph: Graph, inputs: Sequence[Any]) -> list[Any]:
    """Nested arguments as a flat list, dictionaries by their keys; tensors alone count as flat.

    Raises ValidationError when their structure is not that of the captured module.
    """
    flat = len(inputs) == len(graph.inputs) and not any(_nested(x) for x in inputs)
    if flat or not graph.input_tree:
        return [x for x in pytree.tree_leaves(tuple(inputs)) if x is not None]
    try:
        leaves = pytree.treespec_loads(graph.input_tree).flatten_up_to(tuple(inputs))
    except ValueError as error:
        spec = pytree.tree_structure(tuple(inputs))
        need = f"the structure of {graph.signature()}"
        raise ValidationError(graph.name, f"inputs of structure {spec}", need) from error
    return [x for x in leaves if x is not None]


def _nested(value: Any) -> bool:
    return isinstance(value, dict | list | tuple)


def unflatten(graph: Graph, outputs: Sequence[Any]) -> Any:
    """The module's nested outputs from the flat ones."""
    if graph.output_tree:
        return pytree.tree_unflatten(list(outputs), pytree.treespec_loads(graph.output_tree))
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def random_inputs(graph: Graph, env: dict[str, int], seed: int = 0) -> list[torch.Tensor]:
    """Seeded inputs of the declared types: normal floats, zeros and ones for integers and bools."""
    generator = torch.Generator().manual_seed(seed)

    def make(t: TensorType) -> torch.Tensor:
        shape = [dims.evaluate(d, env) for d in t.shape]
        if t.dtype.is_float:
            return torch.randn(shape, generator=generator).to(t.dtype.torch_dtype)
        return torch.randint(0, 2, shape, generator=generator).to(t.dtype.torch_dtype)

    return [make(v.type) for v in graph.inputs]
