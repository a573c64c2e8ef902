"""The graph of one function, in static single assignment form, and the program around it.

Operands are names: `%`-values are local to a graph, `@name` refers to a constant of the program's
pool (in Python, local names carry no sign, constant references start with "@"). Nodes and values
are immutable; a pass builds new nodes and replaces `graph.nodes`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from edgec.errors import ValidationError, VerifyError
from edgec.ir import dims
from edgec.ir.encoding import Constant, Encoding
from edgec.ir.op import Op
from edgec.ir.types import TensorType


@dataclass(frozen=True)
class Value:
    """A typed name. A Value whose name starts with "@" stands for a constant."""

    name: str
    type: TensorType

    @property
    def is_constant(self) -> bool:
        return self.name.startswith("@")


@dataclass(frozen=True)
class Node:
    """outputs = op(inputs); None marks an optional operand that is not given.

    source   the user's source line that it came from ("" when unknown)
    """

    op: Op
    inputs: tuple[str | None, ...]
    outputs: tuple[Value, ...]
    source: str = ""

    @property
    def output(self) -> Value:
        return self.outputs[0]

    @property
    def operands(self) -> Iterator[str]:
        """Names of the operands that are given."""
        return (name for name in self.inputs if name is not None)

    def renamed(self, mapping: dict[str, str]) -> Node:
        """The node with operands replaced according to `mapping`."""
        if not any(n in mapping for n in self.operands):
            return self
        inputs = tuple(None if n is None else mapping.get(n, n) for n in self.inputs)
        return dataclasses.replace(self, inputs=inputs)


@dataclass(frozen=True)
class Range:
    """Inclusive bounds of a named dimension."""

    min: int = 1
    max: int = 2**31 - 1

    def __contains__(self, value: int) -> bool:
        return self.min <= value <= self.max


@dataclass(frozen=True)
class State:
    """A value that lives on between calls: `input` of the next call is `output` of this one."""

    input: str
    output: str


@dataclass
class Graph:
    """One function.

    inputs         typed names, in order; these are the external names as well
    outputs        operand names of the results, in order
    output_names   external names of the results
    dims           range of every named dimension
    states         caches: which output feeds which input
    constants      the program's pool, shared by all its graphs
    input_tree, output_tree   JSON of torch's pytree specs, for nested arguments ("" when flat)
    """

    name: str
    inputs: tuple[Value, ...]
    nodes: list[Node]
    outputs: tuple[str, ...]
    output_names: tuple[str, ...]
    constants: dict[str, Constant]
    dims: dict[str, Range] = field(default_factory=dict)
    states: tuple[State, ...] = ()
    input_tree: str = ""
    output_tree: str = ""

    def __post_init__(self) -> None:
        self._types: tuple[int, dict[str, TensorType]] | None = None

    # -------------------------------------------------------------- lookups
    def type(self, name: str) -> TensorType:
        """Type of an operand. Raises VerifyError for a name that nothing defines."""
        if name.startswith("@"):
            constant = self.constants.get(name[1:])
            if constant is None:
                raise VerifyError(self.name, f"{name} is not in the constant pool")
            return constant.type
        types = self.value_types()
        if name not in types:
            raise VerifyError(self.name, f"%{name} is not defined")
        return types[name]

    def value_types(self) -> dict[str, TensorType]:
        """Types of all local values, by name."""
        stamp = hash((id(self.nodes), len(self.nodes), self.inputs))
        if self._types is None or self._types[0] != stamp:
            types = {v.name: v.type for v in self.inputs}
            types |= {v.name: v.type for n in self.nodes for v in n.outputs}
            self._types = (stamp, types)
        return self._types[1]

    def value(self, name: str) -> Value:
        return Value(name, self.type(name))

    def constant(self, name: str) -> Constant | None:
        """The constant behind an operand, None for a local value."""
        return self.constants.get(name[1:]) if name.startswith("@") else None

    def producers(self) -> dict[str, Node]:
        """The node that defines each local value."""
        return {v.name: n for n in self.nodes for v in n.outputs}

    def users(self) -> dict[str, list[Node]]:
        """The nodes that read each operand (constants too); graph outputs are not counted."""
        users: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.operands):
                users.setdefault(name, []).append(node)
        return users

    def used_constants(self) -> set[str]:
        """Names (without "@") of the constants that nodes or outputs refer to."""
        refs = [n for node in self.nodes for n in node.operands] + list(self.outputs)
        return {n[1:] for n in refs if n.startswith("@")}

    def output_types(self) -> tuple[TensorType, ...]:
        return tuple(self.type(n) for n in self.outputs)

    # -------------------------------------------------------------- changes
    def replace(self, **changes: object) -> Graph:
        """A new graph with some fields replaced; shares the constant pool unless told otherwise."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def map_nodes(self, change: Callable[[Node], Node]) -> Graph:
        return self.replace(nodes=[change(n) for n in self.nodes])

    # -------------------------------------------------------------- dimensions
    def bind(self, shapes: Iterable[tuple[int, ...]]) -> dict[str, int]:
        """Values of the named dimensions for inputs of these shapes.

        Raises ValidationError that lists every rank, static dimension and range that does not fit.
        """
        env: dict[str, int] = {}
        problems: list[str] = []
        shapes = list(shapes)
        if len(shapes) != len(self.inputs):
            names = ", ".join(v.name for v in self.inputs)
            raise ValidationError(
                self.name, f"{len(shapes)} inputs", f"{len(self.inputs)}: {names}"
            )
        for value, shape in zip(self.inputs, shapes, strict=True):
            if len(shape) != value.type.rank:
                problems.append(f"{value.name}: shape {list(shape)}, need {value.type}")
                continue
            for dim, size in zip(value.type.shape, shape, strict=True):
                if (solved := dims.solve(dim, size)) is not None:
                    env.setdefault(*solved)
        if not problems:
            problems = self._range_problems(env) + self._shape_problems(shapes, env)
        if problems:
            raise ValidationError(self.name, "; ".join(problems))
        return env

    def admits(self, shapes: Iterable[tuple[int, ...]]) -> bool:
        """Whether inputs of these shapes fit."""
        try:
            self.bind(shapes)
        except ValidationError:
            return False
        return True

    def _range_problems(self, env: dict[str, int]) -> list[str]:
        return [
            f"{name} = {value}, need {self.dims[name].min} <= {name} <= {self.dims[name].max}"
            for name, value in env.items()
            if name in self.dims and value not in self.dims[name]
        ]

    def _shape_problems(self, shapes: list[tuple[int, ...]], env: dict[str, int]) -> list[str]:
        problems = []
        for value, shape in zip(self.inputs, shapes, strict=True):
            if not dims.names(value.type.shape) <= env.keys():
                problems.append(
                    f"{value.name}: shape {list(shape)} does not determine {value.type}"
                )
            elif value.type.bind(env) != tuple(shape):
                told = f" with {env}" if env else ""
                problems.append(f"{value.name}: shape {list(shape)}, need {value.type}{told}")
        return problems

    def signature(self) -> str:
        """`main(ids: i64[batch, seq]) -> (logits: f32[batch, 8])`."""
        inputs = ", ".join(f"{v.name}: {v.type}" for v in self.inputs)
        pairs = zip(self.output_names, self.output_types(), strict=True)
        outputs = ", ".join(f"{n}: {t}" for n, t in pairs)
        return f"{self.name}({inputs}) -> ({outputs})"

    def structure(self) -> str:
        """Hash of inputs, nodes, outputs and names: equal means that nothing was changed."""
        text = repr((self.inputs, self.nodes, self.outputs, self.output_names, self.states))
        return hashlib.sha256(text.encode()).hexdigest()


def fresh_name(base: str, taken: Iterable[str]) -> str:
    """`base`, or `base_1`, `base_2`, ...: the first that is not taken."""
    taken = taken if isinstance(taken, set | dict) else set(taken)
    if base not in taken:
        return base
    i = 1
    while f"{base}_{i}" in taken:
        i += 1
    return f"{base}_{i}"


def put_constant(pool: dict[str, Constant], name: str, encoding: Encoding) -> Constant:
    """Add a constant under `name`, or a free variant of it."""
    constant = Constant(fresh_name(name, pool), encoding)
    pool[constant.name] = constant
    return constant
