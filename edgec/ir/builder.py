"""Builder: appends type-checked nodes to a graph."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from edgec.errors import TypeCheckError
from edgec.ir.encoding import Constant, Dense
from edgec.ir.graph import Graph, Node, Range, Value, fresh_name, put_constant
from edgec.ir.op import OPS, Op
from edgec.ir.types import DType, TensorType

Operand = Value | Constant | str | None


class Builder:
    """Builds one graph. `b.softmax(x, axis=-1)` appends a node for the op of that name.

    Positional arguments are operands (Value, Constant, name, None), keyword arguments the op's
    attributes; the result is a Value, or a tuple of Values for an op with several results. An op
    whose name is a Python keyword is reached through `emit`. Raises TypeCheckError for an ill-typed
    node, before it is appended.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = graph.nodes
        self.source = ""
        self.prefix = ""
        self._types = dict(graph.value_types())

    @staticmethod
    def new(
        name: str,
        inputs: Sequence[tuple[str, TensorType]],
        constants: dict[str, Constant] | None = None,
        dims: dict[str, Range] | None = None,
    ) -> Builder:
        """A builder of an empty graph with typed inputs."""
        values = tuple(Value(n, t) for n, t in inputs)
        pool = {} if constants is None else constants
        return Builder(Graph(name, values, [], (), (), pool, dims or {}))

    def input(self, name: str) -> Value:
        return Value(name, self._types[name])

    # -------------------------------------------------------------- nodes
    def emit(self, op: Op, *operands: Operand, name: str = "") -> Any:
        """Append `op(operands)`; `name` is the wish for the (first) result's name."""
        inputs = [self.operand(o) for o in operands]
        types = op.infer(*(None if v is None else v.type for v in inputs))
        several = isinstance(types, tuple)
        listed = types if isinstance(types, tuple) else (types,)
        base = self.prefix + (name or op.name)
        outputs = []
        for t in listed:
            value = Value(self.fresh(base), t)
            self._types[value.name] = t
            outputs.append(value)
        names = tuple(None if v is None else v.name for v in inputs)
        self.nodes.append(Node(op, names, tuple(outputs), self.source))
        return tuple(outputs) if several else outputs[0]

    def __getattr__(self, name: str) -> Any:
        if name not in OPS:
            raise AttributeError(f"no op named {name}")

        def call(*operands: Operand, _name: str = "", **attributes: Any) -> Any:
            return self.emit(OPS[name](**attributes), *operands, name=_name)

        return call

    def fresh(self, base: str) -> str:
        """A name that no value of this graph has yet."""
        return fresh_name(re.sub(r"[^A-Za-z0-9_.]", "_", base), self._types)

    # -------------------------------------------------------------- operands
    def operand(self, operand: Operand) -> Value | None:
        """Raises TypeCheckError for a value that this graph does not define."""
        if operand is None:
            return None
        name = operand.ref if isinstance(operand, Constant) else operand
        name = name.name if isinstance(name, Value) else name
        if name.startswith("@"):
            return Value(name, self.graph.type(name))
        if name not in self._types:
            raise TypeCheckError("builder", f"%{name}", f"a value of graph {self.graph.name}")
        return Value(name, self._types[name])

    def constant(self, tensor: torch.Tensor, name: str = "const") -> Value:
        """A dense constant; equal small tensors are stored once."""
        tensor = tensor.detach().cpu().contiguous()
        if tensor.numel() <= 64:
            for known in self.graph.constants.values():
                e = known.encoding
                if isinstance(e, Dense) and e.as_dtype is None and _identical(e.values, tensor):
                    return Value(known.ref, known.type)
        made = put_constant(
            self.graph.constants, re.sub(r"[^A-Za-z0-9_.]", "_", name), Dense(tensor)
        )
        return Value(made.ref, made.type)

    def scalar(self, value: float | int | bool, dtype: DType) -> Value:
        """A rank-0 constant."""
        return self.constant(torch.tensor(value, dtype=dtype.torch_dtype), "scalar")

    # -------------------------------------------------------------- the end
    def finish(self, outputs: Sequence[Operand], names: Sequence[str] | None = None) -> Graph:
        """Set the graph's results and return it."""
        values = [self.operand(o) for o in outputs]
        refs = tuple(v.name for v in values if v is not None)
        self.graph.outputs = refs
        self.graph.output_names = tuple(names or (f"output{i}" for i in range(len(refs))))
        return self.graph


def _identical(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Same dtype, shape and bits (0.0 and -0.0 differ, NaN equals itself)."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    flat_a, flat_b = a.contiguous().reshape(-1), b.contiguous().reshape(-1)
    return a.numel() == 0 or torch.equal(flat_a.view(torch.uint8), flat_b.view(torch.uint8))
