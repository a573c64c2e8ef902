"""Where a program has an axis with one element for each token: tables, output layers, logits.

Token ids are integer inputs that index a table; they are followed through what only moves them.
From a product with the table, or with a matrix of as many rows whose result becomes an output, the
axis is followed through what treats its elements alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgec.errors import PassError
from edgec.ir import Dense, Node, Program, dims
from edgec.ir.graph import Graph
from edgec.ops.elementwise import Binary, Cast, FloatUnary, Unary
from edgec.ops.normalize import AlongAxis
from edgec.ops.reduce import ArgExtremum, Reduction
from edgec.passes.rules.facts import BROADCASTING

_MOVES = ("cast", "reshape", "permute", "expand", "slice", "flip")  # ids stay what they are
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")  # with numbers that are ids
_ORDERED = ("argmax", "argmin")  # new ids have the order of the old ones


@dataclass(frozen=True)
class Slot:
    """Operand `slot` of node `index` of a function; `axis`, where it has one element a token."""

    function: str
    index: int
    slot: int
    axis: int = 0


@dataclass
class Use:
    """Everything of a program that token ids number.

    size      number of ids
    tables    names of the constants whose rows are read at ids
    inputs    {function: [inputs that hold ids]}
    positions {(function, input): its place among the inputs}
    outputs   {function: {output: axis}}
    values    {function: {value: axis}}
    weights   operands that are constants with such an axis
    numbers   operands that are constants which ids are compared with
    """

    size: int
    tables: tuple[str, ...]
    inputs: dict[str, list[str]] = field(default_factory=dict)
    positions: dict[tuple[str, str], int] = field(default_factory=dict)
    outputs: dict[str, dict[str, int]] = field(default_factory=dict)
    values: dict[str, dict[str, int]] = field(default_factory=dict)
    weights: dict[Slot, str] = field(default_factory=dict)
    numbers: dict[Slot, str] = field(default_factory=dict)


class Refused(Exception):
    """Why an axis cannot be followed."""


# ------------------------------------------------------------------ ids
def token_tables(program: Program) -> dict[str, int]:
    """Tables that are read at integer inputs, with their numbers of rows."""
    found: dict[str, int] = {}
    for graph in program.graphs.values():
        for value in graph.inputs:
            for node, at in _readers(graph, value.name):
                table = node.inputs[0]
                if node.op.name == "gather" and at == 1 and table and table.startswith("@"):
                    shape = program.constants[table[1:]].type.shape
                    op: Any = node.op
                    if len(shape) == 2 and op.axis in (0, -2) and value.type.dtype.is_int:
                        found[table[1:]] = int(shape[0])
    return found


def _readers(graph: Graph, name: str) -> Iterator[tuple[Node, int]]:
    """(node, operand) of everything that reads a value, or what only moves it."""
    users, pending, seen = graph.users(), [name], {name}
    while pending:
        current = pending.pop()
        for node in users.get(current, ()):
            places = [i for i, n in enumerate(node.inputs) if n == current]
            if node.op.name in _MOVES and places == [0] and node.output.type.dtype.is_int:
                if node.output.name not in seen:
                    seen.add(node.output.name)
                    pending.append(node.output.name)
                continue
            yield from ((node, i) for i in places)


def find_use(program: Program, tables: Sequence[str], where: str) -> Use:
    """All that has to change when `tables`, of one number of rows, lose some.

    Raises PassError for ids that something else reads, and for logits that cannot be followed.
    """
    use = Use(int(program.constants[tables[0]].type.shape[0]), tuple(tables))
    problems: list[str] = []
    for graph in program.graphs.values():
        _Ids(program, graph, use, problems).find()
        _Axes(program, graph, use, problems).find()
    if problems:
        raise PassError(where, "; ".join(problems), "", "leave the pass out")
    return use


@dataclass
class _Ids:
    """The inputs of one function that hold ids."""

    program: Program
    graph: Graph
    use: Use
    problems: list[str]

    def find(self) -> None:
        places = {id(node): i for i, node in enumerate(self.graph.nodes)}
        tables = {f"@{name}" for name in self.use.tables}
        read: set[int] = set()
        for place, value in enumerate(self.graph.inputs):
            readers = list(_readers(self.graph, value.name))
            lookups = [n for n, i in readers if i == 1 and n.inputs[0] in tables]
            if not lookups or not value.type.dtype.is_int:
                continue
            self.use.inputs.setdefault(self.graph.name, []).append(value.name)
            self.use.positions[self.graph.name, value.name] = place
            for node, at in readers:
                self._reader(value.name, node, places[id(node)], at)
            read |= {id(n) for n in lookups}
        for node in self.graph.nodes:
            if node.op.name == "gather" and node.inputs[0] in tables and id(node) not in read:
                self._told(f"{node.inputs[0]} is read at %{node.inputs[1]}, which is no input")

    def _reader(self, name: str, node: Node, index: int, at: int) -> None:
        function, use = self.graph.name, self.use
        table = node.inputs[0]
        if node.op.name == "gather" and at == 1:
            if table is not None and table[1:] in use.tables:
                use.weights[Slot(function, index, 0)] = table[1:]
            else:
                self._told(f"%{name} is read by a gather of {table} too")
        elif node.op.name in _COMPARISONS and (other := node.inputs[1 - at] or "").startswith("@"):
            use.numbers[Slot(function, index, 1 - at)] = other[1:]
        elif node.op.name not in _ORDERED:
            self._told(f"%{name}, which holds token ids, is read by {node.op.name}")

    def _told(self, text: str) -> None:
        self.problems.append(f"{self.graph.name}: {text}")


# ------------------------------------------------------------------ logits
@dataclass
class _Axes:
    """The values of one function that have an element for each token."""

    program: Program
    graph: Graph
    use: Use
    problems: list[str]

    def find(self) -> None:
        for index, node in enumerate(self.graph.nodes):
            for slot, ref in enumerate(node.inputs):
                tied = ref is not None and ref[1:] in self.use.tables and ref[0] == "@"
                if tied and not (node.op.name == "gather" and slot == 0):
                    self._follow(index, slot, tied=True)
                elif not tied and self._is_output_layer(node, slot):
                    self._follow(index, slot, tied=False)
        for name, output in zip(self.graph.output_names, self.graph.outputs, strict=True):
            axis = self.use.values.get(self.graph.name, {}).get(output)
            if axis is not None:
                self.use.outputs.setdefault(self.graph.name, {})[name] = axis
            elif self.use.size in self.graph.type(output).shape:
                told = (
                    f"output {name}: {self.graph.type(output)} comes from no matrix of the tokens"
                )
                self.problems.append(f"{self.graph.name}: {told}")

    def _is_output_layer(self, node: Node, slot: int) -> bool:
        """Whether it might be: a product with a plain matrix that gives an element a token."""
        ref = node.inputs[slot]
        if slot != 1 or ref is None or not ref.startswith("@"):
            return False
        constant = self.program.constants[ref[1:]]
        axis = {"linear": 0, "matmul": 1}.get(node.op.name)
        plain = isinstance(constant.encoding, Dense) and constant.type.rank == 2
        return plain and axis is not None and constant.type.shape[axis] == self.use.size

    def _follow(self, index: int, slot: int, tied: bool) -> None:
        """Mark everything behind a product, or nothing where it is no output layer."""
        values, weights = dict[str, int](), dict[Slot, str]()
        try:
            self._start(index, slot, values, weights)
            for at in range(index + 1, len(self.graph.nodes)):
                self._node(at, values, weights)
            if not tied and not values.keys() & set(self.graph.outputs):
                return
        except Refused as refused:
            if tied:
                self.problems.append(f"{self.graph.name}: {refused}")
            return
        self.use.values.setdefault(self.graph.name, {}).update(values)
        self.use.weights |= weights

    def _start(
        self, index: int, slot: int, values: dict[str, int], weights: dict[Slot, str]
    ) -> None:
        node, function = self.graph.nodes[index], self.graph.name
        name = (node.inputs[slot] or "")[1:]
        if slot != 1 or node.op.name not in ("linear", "matmul"):
            raise Refused(f"@{name} is read by {node.op.name}")
        if node.op.name == "matmul" and self.program.constants[name].type.shape[1] != self.use.size:
            raise Refused(f"@{name} is multiplied along its rows")
        values[node.output.name] = node.output.type.rank - 1
        weights[Slot(function, index, slot, int(node.op.name == "matmul"))] = name
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            self._beside(index, 2, 0, weights)

    def _beside(self, index: int, slot: int, axis: int, weights: dict[Slot, str]) -> None:
        """An operand that meets the axis: a constant, which is cut too."""
        ref = self.graph.nodes[index].inputs[slot] or ""
        if not ref.startswith("@") or not isinstance(
            self.program.constants[ref[1:]].encoding, Dense
        ):
            raise Refused(f"{ref or 'an operand'} meets the logits and is no plain constant")
        weights[Slot(self.graph.name, index, slot, axis)] = ref[1:]

    def _node(self, index: int, values: dict[str, int], weights: dict[Slot, str]) -> None:
        node = self.graph.nodes[index]
        marked = [i for i, n in enumerate(node.inputs) if n in values]
        if not marked:
            return
        op: Any = node.op
        axes = [values[str(node.inputs[i])] for i in marked]
        if op.name in BROADCASTING or isinstance(op, Binary):
            values[node.output.name] = self._broadcast(index, values, weights)
            return
        if len(node.inputs) != 1:
            raise Refused(
                f"%{node.inputs[marked[0]]}, of one element a token, is read by {op.name}"
            )
        behind = _behind(op, axes[0], self.graph, node)
        if behind is not None:
            values[node.output.name] = behind

    def _broadcast(self, index: int, values: dict[str, int], weights: dict[Slot, str]) -> int:
        """The axis of the result, where operands meet element by element."""
        node = self.graph.nodes[index]
        rank = node.output.type.rank
        shapes = [None if n is None else self.graph.type(n).shape for n in node.inputs]
        from_end = {
            len(shapes[i] or ()) - values[str(n)] for i, n in enumerate(node.inputs) if n in values
        }
        if len(from_end) != 1:
            raise Refused(f"%{node.output.name} has two axes of one element a token")
        back = from_end.pop()
        for i, (n, shape) in enumerate(zip(node.inputs, shapes, strict=True)):
            if n is None or n in values or shape is None or len(shape) < back:
                continue
            if shape[-back] != 1:
                self._beside(index, i, len(shape) - back, weights)
        return rank - back


def _behind(op: Any, axis: int, graph: Graph, node: Node) -> int | None:
    """Where the axis is behind an op of one operand; None where it has ended."""
    shape = graph.type(str(node.inputs[0])).shape
    if isinstance(op, Unary | FloatUnary | Cast | AlongAxis):
        return axis
    if isinstance(op, ArgExtremum) and op.axis % len(shape) == axis:
        return None
    if isinstance(op, Reduction):
        axes = {a % len(shape) for a in op.axes}
        if axis in axes:
            return None
        return axis if op.keep else axis - sum(a < axis for a in axes)
    if op.name == "permute":
        return int(op.order.index(axis))
    if op.name == "slice" and op.axis % len(shape) != axis:
        return axis
    if op.name == "expand":
        return axis + len(op.shape) - len(shape)
    if op.name == "reshape":
        rest = dims.product(shape[axis + 1 :])
        for i, size in enumerate(op.shape):
            if size == shape[axis] and dims.same(dims.product(op.shape[i + 1 :]), rest):
                return i
    raise Refused(f"%{node.inputs[0]}, of one element a token, is read by {op.name}")


def count_uses(program: Program) -> Mapping[str, int]:
    """How many operands and outputs of all functions each constant is."""
    counts: dict[str, int] = {}
    for graph in program.graphs.values():
        names = [n for node in graph.nodes for n in node.operands] + list(graph.outputs)
        for name in (n[1:] for n in names if n.startswith("@")):
            counts[name] = counts.get(name, 0) + 1
    return counts
