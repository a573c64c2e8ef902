"""Removes units: constants are sliced, sizes in attributes and types made smaller."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from edgec.ir import Constant, Dense, Node, Op, Program, TensorType, Value
from edgec.ir.dims import Dim
from edgec.ir.graph import Graph, fresh_name, put_constant
from edgec.ops.gather import Gather
from edgec.passes.structure.labels import Labels
from edgec.passes.structure.trace import Axis, Trace, Use

Kept: TypeAlias = tuple[tuple[int, tuple[int, ...]], ...]
"""(axis, indices that stay) of a constant."""


@dataclass(frozen=True)
class Removal:
    """Units of a trace that go."""

    trace: Trace
    units: frozenset[int]


def remove(program: Program, removals: Sequence[Removal]) -> Program:
    """The program without these units, every name kept; the argument is not changed.

    What the units gave to the products that sum over them is gone, everything else is as before.
    """
    return _Removing(program.copy(), removals).run()


class _Removing:
    def __init__(self, program: Program, removals: Sequence[Removal]) -> None:
        self.program = program
        self.axes: dict[Axis, tuple[Labels, Collection[int]]] = {}
        self.uses: dict[Use, dict[int, tuple[Labels, Collection[int]]]] = {}
        for r in removals:
            self.axes |= {axis: (labels, r.units) for axis, labels in r.trace.axes.items()}
            for use, (index, labels) in r.trace.uses.items():
                self.uses.setdefault(use, {})[index] = labels, r.units
        self.kept = self._plan()
        self.made: dict[tuple[str, Kept], str] = {}

    def run(self) -> Program:
        graphs = self.program.graphs
        self.program.graphs = {f: self._graph(f, graph) for f, graph in graphs.items()}
        return self.program.drop_unused_constants()

    # -------------------------------------------------------------- constants
    def _plan(self) -> dict[str, set[Kept]]:
        """The ways in which each constant is used: what is kept of it, () for all."""
        found: dict[str, set[Kept]] = {}
        for f, graph in self.program.graphs.items():
            for name in graph.outputs:
                found.setdefault(name, set()).add(())
            for node in graph.nodes:
                for slot, ref in enumerate(node.inputs):
                    if ref is not None and ref.startswith("@"):
                        found.setdefault(ref, set()).add(self._part(f, node, slot))
        return found

    def _part(self, function: str, node: Node, slot: int) -> Kept:
        """The indices of a constant that a node's operand keeps, for each axis that shrinks."""
        name = node.inputs[slot]
        assert name is not None
        shrunk = dict(self.uses.get((function, node.output.name, slot), {}))
        for axis in range(self.program.graphs[function].type(name).rank):
            if ("", name, axis) in self.axes:
                shrunk[axis] = self.axes["", name, axis]
        parts = {axis: tuple(labels.kept(gone)) for axis, (labels, gone) in shrunk.items()}
        return tuple(sorted(parts.items()))

    def _constant(self, ref: str, kept: Kept) -> str:
        """The reference of a constant's part; it has the constant's name where all uses agree."""
        if not kept:
            return ref
        if (ref, kept) not in self.made:
            pool = self.program.constants
            before = pool[ref[1:]]
            assert isinstance(before.encoding, Dense)
            part = before.encoding.values
            for axis, indices in kept:
                part = part.index_select(axis, torch.tensor(indices))
            encoding = before.encoding.encode(part.contiguous())
            if len(self.kept[ref]) == 1:
                pool[ref[1:]] = Constant(ref[1:], encoding)
                self.made[ref, kept] = ref
            else:
                self.made[ref, kept] = put_constant(pool, ref[1:], encoding).ref
        return self.made[ref, kept]

    # -------------------------------------------------------------- functions
    def _graph(self, function: str, graph: Graph) -> Graph:
        inputs = tuple(self._smaller(function, v) for v in graph.inputs)
        taken = set(graph.value_types())
        types = {v.name: v.type for v in inputs}
        nodes: list[Node] = []
        for node in graph.nodes:
            operands: list[str | None] = []
            for slot, name in enumerate(node.inputs):
                if name is None:
                    operands.append(None)
                elif name.startswith("@"):
                    operands.append(self._constant(name, self._part(function, node, slot)))
                else:
                    operands.append(self._gathered(function, node, slot, nodes, types, taken))
            op = self._resized(function, graph, node, operands, types)
            given = [None if n is None else self._type(n, types) for n in operands]
            made = op.infer(*given)
            results = made if isinstance(made, tuple) else (made,)
            outputs = tuple(Value(v.name, t) for v, t in zip(node.outputs, results, strict=True))
            types |= {v.name: v.type for v in outputs}
            nodes.append(dataclasses.replace(node, op=op, inputs=tuple(operands), outputs=outputs))
        return graph.replace(inputs=inputs, nodes=nodes)

    def _type(self, name: str, types: Mapping[str, TensorType]) -> TensorType:
        return self.program.constants[name[1:]].type if name.startswith("@") else types[name]

    def _size(self, function: str, name: str, axis: int) -> Dim | None:
        """The new size of an axis that shrinks."""
        found = self.axes.get((function, name, axis))
        return None if found is None else found[0].without(found[1])

    def _smaller(self, function: str, value: Value) -> Value:
        shape = list(value.type.shape)
        for axis in range(len(shape)):
            size = self._size(function, value.name, axis)
            shape[axis] = shape[axis] if size is None else size
        return Value(value.name, value.type.with_shape(*shape))

    def _gathered(
        self,
        function: str,
        node: Node,
        slot: int,
        nodes: list[Node],
        types: dict[str, TensorType],
        taken: set[str],
    ) -> str:
        """The operand, or what is gathered of one that keeps its units."""
        name = node.inputs[slot]
        assert name is not None
        for axis, (labels, gone) in self.uses.get((function, node.output.name, slot), {}).items():
            indices = torch.tensor(labels.kept(gone))
            ref = put_constant(self.program.constants, f"{name}.units", Dense(indices)).ref
            op = Gather(axis)
            made = Value(
                fresh_name(f"{name}_units", taken), op.infer(types[name], self._type(ref, types))
            )
            taken.add(made.name)
            types[made.name] = made.type
            nodes.append(Node(op, (name, ref), (made,), node.source))
            name = made.name
        return name

    def _resized(
        self,
        function: str,
        graph: Graph,
        node: Node,
        operands: Sequence[str | None],
        types: Mapping[str, TensorType],
    ) -> Op:
        """The op with the sizes of what is left in its attributes."""
        op: Any = node.op
        made: Op = node.op
        if op.name in ("reshape", "expand", "full"):
            sizes = [self._size(function, node.output.name, a) for a in range(len(op.shape))]
            shape = tuple(d if s is None else s for d, s in zip(op.shape, sizes, strict=True))
            made = dataclasses.replace(op, shape=shape)
        elif op.name == "slice":
            x = node.inputs[0] or ""
            axis = op.axis % graph.type(x).rank
            found = self.axes.get(("" if x.startswith("@") else function, x, axis))
            if found is not None:
                kept = found[0].kept(found[1])
                stop = None if op.stop is None else sum(i < op.stop for i in kept)
                made = dataclasses.replace(op, start=sum(i < op.start for i in kept), stop=stop)
        elif op.name == "conv" and op.groups > 1 and ("", node.inputs[1], 0) in self.axes:
            rows = self._type(operands[1] or "", types).shape[0]
            made = dataclasses.replace(op, groups=rows)
        return node.op if made == node.op else made
