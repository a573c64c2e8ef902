"""fold-constants: evaluate what does not depend on the inputs, while files do not grow."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import sympy
import torch

from edgec.context import NOTHING, Context
from edgec.errors import PassError
from edgec.ir import Dense, Exactness, Graph, Node, Program, TensorType, Value, dims
from edgec.ir.dims import Dim
from edgec.ir.graph import fresh_name, put_constant
from edgec.ir.rewrite import take_names
from edgec.ops.creation import Full
from edgec.transform import Pass, PassResult

EVALUATED = 1 << 22  # an intermediate result has at most so many elements, or as many as an operand


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Evaluate nodes whose operands are all constants.

    Given    @w = const f32[8, 4]    %t = permute(@w) {order=[1, 0]}    %y = matmul(%x, %t)
    Result   @w = const f32[4, 8]    %y = matmul(%x, @w)

    A result is stored when it takes at most `limit_bytes`, or no more bytes than the constants that
    fall out of use. Everything else stays computed and is reported, so that a mask or a table made
    from a few numbers does not become part of the file; a result of one number everywhere becomes
    `full`, and so does a stored mask or index of one number. Compressed constants are decoded only
    where the file shrinks.

    Keeps    results of the graph as nodes; the name of a constant that is replaced
    Effect   EXACT
    """

    name: ClassVar[str] = "fold-constants"
    effect: ClassVar[Exactness] = Exactness.EXACT
    limit_bytes: int = 1024

    def requires(self, program: Program) -> None:
        if self.limit_bytes < 0:
            raise PassError(self.name, f"limit_bytes={self.limit_bytes}", "limit_bytes >= 0")

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        program, modified = _stored_numbers(program)
        while True:
            # a constant that fell out of use may be what kept another value from being worth it
            result = _Folder(program, self.limit_bytes).run()
            if not result.modified:
                return dataclasses.replace(result, modified=modified)
            program, modified = result.program, True


@dataclass(frozen=True)
class _Known:
    """A value that does not depend on inputs.

    key      equal for equal computations, in any function of the program
    leaves   constants of the pool that it is computed from
    """

    key: str
    leaves: frozenset[str]
    node: Node


class _Folder:
    """Folds one program.

    readers   what reads each constant and each known value, by key; equal computations count once
    """

    def __init__(self, program: Program, limit_bytes: int) -> None:
        self.program, self.limit = program, limit_bytes
        self.tensors: dict[str, torch.Tensor] = {}
        self.stored: dict[str, str] = {}
        self.derived: dict[str, str] = {}
        self.notes: list[str] = []
        self.used = _used(program)
        self.known = {name: _known_values(g) for name, g in program.graphs.items()}
        self.readers: defaultdict[str, set[str]] = defaultdict(set)
        for name, graph in program.graphs.items():
            self._read(graph, self.known[name])

    def _read(self, graph: Graph, known: dict[str, _Known]) -> None:
        slots = [(f"{graph.name}/output {i}", name) for i, name in enumerate(graph.outputs)]
        for node in graph.nodes:
            own = known.get(node.output.name)
            reader = f"{graph.name}/{node.output.name}" if own is None else own.key
            slots += [(reader, name) for name in node.operands]
        for reader, name in slots:
            self.readers[known[name].key if name in known else name].add(reader)

    def run(self) -> PassResult:
        program, changed = self.program, False
        for name, graph in program.graphs.items():
            nodes = self._fold(graph, self.known[name])
            if nodes != graph.nodes:
                program.graphs[name] = graph.replace(nodes=nodes)
                changed = True
        for unused in self.used - _used(program):
            del program.constants[unused]
        return PassResult(take_names(program, self.derived), changed, tuple(self.notes))

    def _fold(self, graph: Graph, known: dict[str, _Known]) -> list[Node]:
        """The nodes that remain; from the last to the first, to make only what is needed."""
        needed = set(graph.outputs)
        changing = {
            n for node in graph.nodes if node.output.name not in known for n in node.operands
        }
        renames: dict[str, str] = {}
        kept: list[Node] = []
        for node in reversed(graph.nodes):
            value = node.output
            if value.name in known:
                if value.name not in needed:
                    continue
                if value.name not in graph.outputs and not _is_made(node):
                    made = self._made(value, known, value.name in changing)
                    if isinstance(made, str):
                        renames[value.name] = f"@{made}"
                        continue
                    node = made or node
            kept.append(node)
            needed.update(node.operands)
        return [n.renamed(renames) for n in reversed(kept)]

    # -------------------------------------------------------------- one value
    def _made(self, value: Value, known: dict[str, _Known], told: bool) -> str | Node | None:
        """The constant or the `full` in place of a known value; None where it stays computed.

        told   whether to report that it stays
        """
        own = known[value.name]
        worth = self._is_worth(value.type, own)
        if worth or int(value.type.numel) <= EVALUATED:
            tensor = self._tensor(own, known)
            number = _uniform(tensor)
            if number is not None:
                shape = tuple(tensor.shape)
                return Node(Full(shape, number, value.type.dtype), (), (value,), own.node.source)
            if worth:
                return self._store(value, own, tensor)
        if told:
            size = f"{value.type.nbytes} bytes"
            self.notes.append(f"%{value.name}: {value.type} stays computed, {size} would be stored")
        return None

    def _is_worth(self, kind: TensorType, own: _Known) -> bool:
        """Whether the file does not grow, or by at most the limit."""
        encodings = {name: self.program.constants[name].encoding for name in own.leaves}
        freed_bytes = sum(e.nbytes for n, e in encodings.items() if self._ends_in(n, own.key))
        plain = all(e.is_plain for e in encodings.values())
        allowed = max(freed_bytes, self.limit) if plain else freed_bytes
        return int(kind.nbytes) <= allowed

    def _ends_in(self, constant: str, key: str) -> bool:
        """Whether a constant is read for the value `key` alone: it falls out of use with it."""
        at = f"@{constant}"
        while len(readers := self.readers.get(at, set())) == 1:
            (at,) = readers
            if at == key:
                return True
        return False

    def _tensor(self, own: _Known, known: dict[str, _Known]) -> torch.Tensor:
        """The value, computed once."""
        if own.key not in self.tensors:
            operands = [
                None if name is None else self._operand(name, known) for name in own.node.inputs
            ]
            try:
                with torch.no_grad():
                    made = own.node.op.bind({}).evaluate(*operands)
            except (RuntimeError, IndexError) as error:
                got = f"%{own.node.output.name} = {own.node.op} fails: {error}"
                raise PassError("fold-constants", got) from error
            assert isinstance(made, torch.Tensor)
            self.tensors[own.key] = made
        return self.tensors[own.key]

    def _operand(self, name: str, known: dict[str, _Known]) -> torch.Tensor:
        if name.startswith("@"):
            return self.program.constants[name[1:]].encoding.decode()
        return self._tensor(known[name], known)

    def _store(self, value: Value, own: _Known, tensor: torch.Tensor) -> str:
        """Name of the constant; the same for equal computations in several functions."""
        if own.key not in self.stored:
            pool = self.program.constants
            # the same numbers in another order or dtype: still the weight of that name
            alike = [n for n in own.leaves if pool[n].type.numel == value.type.numel]
            leaf = alike[0] if len(own.leaves) == len(alike) == 1 else ""
            made = put_constant(pool, leaf or value.name, Dense(tensor.contiguous().clone()))
            self.stored[own.key] = made.name
            if leaf:
                self.derived[made.name] = leaf
        return self.stored[own.key]


def _stored_numbers(program: Program) -> tuple[Program, bool]:
    """`full` in place of stored masks and indices of one number; whether there were any."""
    program = program.copy()
    fulls = {}
    for name in sorted(_used(program)):
        encoding = program.constants[name].encoding
        if isinstance(encoding, Dense) and not encoding.type.dtype.is_float:
            number = _uniform(encoding.values)
            if number is not None:
                fulls[name] = Full(encoding.type.shape, number, encoding.type.dtype)
    for function, graph in program.graphs.items():
        program.graphs[function] = _with_fulls(graph, fulls)
    for name in fulls:
        del program.constants[name]
    return program, bool(fulls)


def _with_fulls(graph: Graph, fulls: Mapping[str, Full]) -> Graph:
    """`graph` with nodes in place of these constants."""
    read = [name for name in fulls if name in graph.used_constants()]
    taken = set(graph.value_types())
    made, renames = [], {}
    for name in read:
        value = Value(fresh_name(name, taken), fulls[name].infer())
        taken.add(value.name)
        made.append(Node(fulls[name], (), (value,)))
        renames[f"@{name}"] = value.name
    nodes = [n.renamed(renames) for n in graph.nodes]
    outputs = tuple(renames.get(o, o) for o in graph.outputs)
    return graph.replace(nodes=[*made, *nodes], outputs=outputs)


def _known_values(graph: Graph) -> dict[str, _Known]:
    """The results of nodes whose operands and attributes are all constant, by name."""
    known: dict[str, _Known] = {}
    for node in graph.nodes:
        given = list(node.operands)
        if len(node.outputs) != 1 or not all(n.startswith("@") or n in known for n in given):
            continue
        if not _is_static(node) or not _is_evaluable(graph, node):
            continue
        parts = [n if n is None or n not in known else known[n].key for n in node.inputs]
        key = hashlib.sha256(repr((node.op, parts)).encode()).hexdigest()
        leaves = [{n[1:]} if n.startswith("@") else known[n].leaves for n in given]
        known[node.output.name] = _Known(key, frozenset().union(*leaves), node)
    return known


def _is_static(node: Node) -> bool:
    """Whether no attribute and no dimension depends on a named dimension."""
    fields = (getattr(node.op, f.name) for f in dataclasses.fields(node.op))
    return not any(dims.names(_dims_of(v)) for v in (*fields, node.output.type.shape))


def _dims_of(value: object) -> list[Dim]:
    """The dimensions in an attribute."""
    if isinstance(value, tuple):
        return [d for v in value for d in _dims_of(v)]
    return [value] if isinstance(value, sympy.Expr) else []


def _is_evaluable(graph: Graph, node: Node) -> bool:
    largest = max((int(graph.type(n).numel) for n in node.operands), default=0)
    return int(node.output.type.numel) <= max(EVALUATED, largest)


def _is_made(node: Node) -> bool:
    """A `full` takes no room; of rank 0 it is better a constant, which rules know as a number."""
    return isinstance(node.op, Full) and node.output.type.rank > 0


def _uniform(tensor: torch.Tensor) -> float | int | bool | None:
    """The number that all of at least two elements are, bit for bit; None for NaN."""
    flat = tensor.contiguous().reshape(-1)
    if flat.numel() < 2:
        return None
    rows = flat.view(torch.uint8).reshape(flat.numel(), -1)
    number: float | int | bool = flat[0].item()
    return number if number == number and bool((rows == rows[0]).all()) else None


def _used(program: Program) -> set[str]:
    return set().union(*(g.used_constants() for g in program.graphs.values()))
