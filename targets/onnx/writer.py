"""Writer: appends ONNX nodes for one function, with shape arithmetic over its named dimensions.

A name in this module is the name of an ONNX value. Asking for the same node twice gives the same
value, so that shapes and decoded constants are computed once in a function.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sympy
import torch
from onnx import NodeProto, TensorProto, helper

from edgec.errors import UnsupportedError
from edgec.ir import DType, Graph, dims
from edgec.ir.dims import Dim, FloorDiv, Shape
from edgec.ir.encoding import tensor_bytes

if TYPE_CHECKING:
    from edgec.targets.onnx import Onnx

MICROSOFT = "com.microsoft"  # onnxruntime's own operators
INT_MIN = -(2**63)

ONNX_DTYPE: Mapping[DType, int] = {
    DType.F64: TensorProto.DOUBLE,
    DType.F32: TensorProto.FLOAT,
    DType.F16: TensorProto.FLOAT16,
    DType.BF16: TensorProto.BFLOAT16,
    DType.I64: TensorProto.INT64,
    DType.I32: TensorProto.INT32,
    DType.I16: TensorProto.INT16,
    DType.I8: TensorProto.INT8,
    DType.U8: TensorProto.UINT8,
    DType.BOOL: TensorProto.BOOL,
}

Name = str
Key = tuple[Any, ...]


def to_proto(name: str, tensor: torch.Tensor) -> TensorProto:
    """An initializer with the tensor's own bytes."""
    kind = ONNX_DTYPE[DType.of(tensor.dtype)]
    return helper.make_tensor(name, kind, tuple(tensor.shape), tensor_bytes(tensor), raw=True)


class Writer:
    """The ONNX nodes of one IR function.

    graph        the function; its inputs are defined from the start
    nodes        in order; `finished_nodes` has them with their final names
    tensors      small constants of the emission itself (shapes, axes), by name
    scope        prefix of the names of new nodes: the IR value that is being computed
    kernel       element type that the op at hand is computed in
    """

    def __init__(self, graph: Graph, target: Onnx) -> None:
        self.graph = graph
        self.target = target
        self.kernel = DType.F32
        self.nodes: list[NodeProto] = []
        self.tensors: dict[Name, torch.Tensor] = {}
        self.scope = graph.name
        self._values: dict[str, Name] = {v.name: v.name for v in graph.inputs}
        self._known: dict[Key, tuple[Name, ...]] = {}
        self._final: dict[Name, Name] = {}
        self._temporary: set[Name] = set()
        self._used: set[Name] = {v.name for v in graph.inputs}
        self._numbers: dict[Name, int] = {}

    # -------------------------------------------------------------- nodes
    def node(self, kind: str, *inputs: Name | None, domain: str = "", **attributes: Any) -> Name:
        """The result of one ONNX node."""
        return self.node_of(1, kind, *inputs, domain=domain, **attributes)[0]

    def node_of(
        self, count: int, kind: str, *inputs: Name | None, domain: str = "", **attributes: Any
    ) -> tuple[Name, ...]:
        """The first `count` results of one ONNX node. Attributes that are None are left out."""
        given = {k: v for k, v in attributes.items() if v is not None}
        key = (count, kind, domain, inputs, tuple((k, _hashable(v)) for k, v in given.items()))
        if key not in self._known:
            suffix = [f"_{i}" if i else "" for i in range(count)]
            base = self._fresh(f"{self.scope}/{kind}")
            outputs = tuple(base + s for s in suffix)
            self._used.update(outputs)
            self._temporary.update(outputs)
            names = ["" if n is None else n for n in inputs]
            while names and not names[-1]:
                names.pop()
            self.nodes.append(helper.make_node(kind, names, outputs, domain=domain, **given))
            self._known[key] = outputs
        return self._known[key]

    def _fresh(self, base: str) -> Name:
        """`base`, or `base.1`, `base.2`, ...: a name that is not used yet."""
        name = base
        while name in self._used:
            self._numbers[base] = self._numbers.get(base, 0) + 1
            name = f"{base}.{self._numbers[base]}"
        return name

    # -------------------------------------------------------------- values of the IR
    def local(self, value: str) -> Name:
        """The ONNX value that holds an IR value."""
        return self._values[value]

    def define(self, value: str, result: Name, as_name: Name) -> None:
        """`result` is what the IR calls `value`; in the file it is called `as_name`."""
        if result in self._final or result not in self._temporary:
            scope, self.scope = self.scope, as_name  # a name of its own for something shared
            result = self._copy(result)
            self.scope = scope
        self._final[result] = as_name
        self._values[value] = result

    def _copy(self, source: Name) -> Name:
        copy = self._fresh(f"{self.scope}/Identity")
        self._used.add(copy)
        self.nodes.append(helper.make_node("Identity", [source], [copy]))
        return copy

    def finished_nodes(self) -> list[NodeProto]:
        """All nodes, IR values under their final names."""
        for node in self.nodes:
            node.input[:] = [self._final.get(n, n) for n in node.input]
            node.output[:] = [self._final.get(n, n) for n in node.output]
            if any(n not in self._temporary for n in node.output):
                node.name = node.output[0]  # nodes behind the scenes stay anonymous: bytes
        return self.nodes

    # -------------------------------------------------------------- constants of the emission
    def array(self, tensor: torch.Tensor) -> Name:
        """A constant; equal ones are stored once."""
        key = ("constant", tensor.dtype, tuple(tensor.shape), tensor_bytes(tensor))
        if key not in self._known:
            name = self._fresh(f"const/{len(self.tensors)}")
            self.tensors[name] = tensor
            self._known[key] = (name,)
        return self._known[key][0]

    def ints(self, *values: int) -> Name:
        """A constant i64[n]."""
        return self.array(torch.tensor(values, dtype=torch.int64))

    def number(self, value: float | int | bool, dtype: DType) -> Name:
        """A rank-0 constant."""
        return self.array(torch.tensor(value, dtype=dtype.torch_dtype))

    # -------------------------------------------------------------- short forms
    def cast(self, x: Name, dtype: DType) -> Name:
        return self.node("Cast", x, to=ONNX_DTYPE[dtype])

    def transpose(self, x: Name, order: Sequence[int]) -> Name:
        return x if list(order) == sorted(order) else self.node("Transpose", x, perm=list(order))

    def static_reshape(self, x: Name, *shape: int) -> Name:
        """Reshape with a literal shape; at most one -1, no zero sizes."""
        return self.node("Reshape", x, self.ints(*shape))

    def squeeze(self, x: Name, *axes: int) -> Name:
        return self.node("Squeeze", x, self.ints(*axes))

    def unsqueeze(self, x: Name, *axes: int) -> Name:
        return self.node("Unsqueeze", x, self.ints(*axes))

    def concat(self, xs: Sequence[Name], axis: int = 0) -> Name:
        return xs[0] if len(xs) == 1 else self.node("Concat", *xs, axis=axis)

    def slice(self, x: Name, axis: int, start: Dim, stop: Dim | None, step: int = 1) -> Name:
        """x[start : stop : step] along `axis`; stop None is the end."""
        end = self.ints(2**63 - 1) if stop is None else self.dim(stop)
        return self.node("Slice", x, self.dim(start), end, self.ints(axis), self.ints(step))

    # -------------------------------------------------------------- dimensions
    def dim(self, dim: Dim) -> Name:
        """The value of a dimension, i64[1]; computed from the shapes of the inputs."""
        if isinstance(dim, int):
            return self.ints(dim)
        dim = dims.normal(dim)
        if isinstance(dim, int):
            return self.ints(dim)
        return self._expression(dim)

    def _expression(self, e: sympy.Expr) -> Name:
        scope, self.scope = self.scope, f"dims/{dims.show(e)}"
        try:
            if isinstance(e, sympy.Symbol):
                return self._symbol(e.name)
            if e.is_Integer:
                return self.ints(int(e))
            if isinstance(e, sympy.Pow) and e.exp.is_Integer and e.exp > 0:
                return self._fold("Mul", [e.base] * int(e.exp))
            if isinstance(e, FloorDiv):
                return self._floor_div(*e.args)
            if isinstance(e, sympy.Mod):  # the sign is that of the divisor, as in Python
                return self.node("Mod", *map(self._expression, e.args))
            if e.func in _FOLDS:
                return self._fold(_FOLDS[e.func], sorted(e.args, key=str))
        finally:
            self.scope = scope
        raise UnsupportedError("onnx", f"dimension {e}", "+, -, *, //, %, Min, Max over named dims")

    def _fold(self, kind: str, parts: Sequence[sympy.Expr]) -> Name:
        step: Callable[[Name, Name], Name] = functools.partial(self.node, kind)
        return functools.reduce(step, [self._expression(p) for p in parts])

    def _floor_div(self, a: sympy.Expr, b: sympy.Expr) -> Name:
        x, y = self._expression(a), self._expression(b)
        if not a.is_nonnegative:  # Div rounds towards zero
            x = self.node("Sub", x, self.node("Mod", x, y))
        return self.node("Div", x, y)

    def _symbol(self, name: str) -> Name:
        """The size of the first input axis that determines the dimension `name`."""
        found: list[tuple[bool, str, int, sympy.Expr]] = []
        for v in self.graph.inputs:
            for axis, d in enumerate(v.type.shape):
                if not isinstance(d, int) and _solvable(d, name):
                    found.append((not d.is_Symbol, v.name, axis, d))
        if not found:
            need = "an input axis whose size determines it"
            raise UnsupportedError("onnx", f"dimension {name} of {self.graph.name}", need)
        _, value, axis, d = min(found, key=lambda f: f[0])
        size = self.node("Shape", self._values[value], start=axis, end=axis + 1)
        offset, slope = dims.evaluate(d, {name: 0}), int(d.coeff(dims.symbol(name), 1))
        size = self.node("Sub", size, self.ints(offset)) if offset else size
        return self.node("Div", size, self.ints(slope)) if slope != 1 else size

    def shape(self, shape: Shape) -> Name:
        """A shape as i64[rank]."""
        parts: list[Name] = []
        static: list[int] = []
        for d in map(dims.normal, shape):
            if isinstance(d, int):
                static.append(d)
                continue
            parts += [self.ints(*static)] if static else []
            parts.append(self.dim(d))
            static = []
        if static or not parts:
            parts.append(self.ints(*static))
        return self.concat(parts)

    def reshape(self, x: Name, have: Shape, want: Shape) -> Name:
        """x of shape `have` in shape `want`, by Reshape's 0 and -1 where they suffice."""
        have, want = tuple(map(dims.normal, have)), tuple(map(dims.normal, want))
        if have == want:
            return x
        literal = self._literal_shape(have, want)
        if literal is not None:
            return self.static_reshape(x, *literal)
        return self.node("Reshape", x, self.shape(want), allowzero=1)

    def _literal_shape(self, have: Shape, want: Shape) -> list[int] | None:
        """`want` with 0 for "as in x" and one -1, or None where that cannot say it."""
        literal: list[int] = []
        for i, d in enumerate(want):
            if isinstance(d, int):
                literal.append(d if d != 0 else -2)
            else:
                literal.append(0 if i < len(have) and dims.same(have[i], d) else -1)
        if -2 in literal or literal.count(-1) > 1:
            return None
        # -1 cannot be told where another dimension is 0
        others = [d for d, n in zip(want, literal, strict=True) if n == 0]
        if -1 in literal and not all(self.is_positive(d) for d in others):
            return None
        return literal

    def is_positive(self, dim: Dim) -> bool:
        """Whether a dimension is known to be at least 1 within the ranges of its names."""
        if isinstance(dim, int):
            return dim > 0
        if not isinstance(dim, sympy.Symbol):
            return False
        return dim.name in self.graph.dims and self.graph.dims[dim.name].min > 0


_FOLDS: dict[Any, str] = {
    sympy.Add: "Add",
    sympy.Mul: "Mul",
    sympy.Min: "Min",
    sympy.Max: "Max",
}


def _solvable(dim: sympy.Expr, name: str) -> bool:
    """Whether the size of `dim` determines the dimension `name` and nothing else."""
    if dims.names((dim,)) != {name}:
        return False
    return dims.solve(dim, dims.evaluate(dim, {name: 0})) == (name, 0)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
