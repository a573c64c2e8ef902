"""The target contract: what a target says, what it writes, how its files are run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from edgec.errors import FormatError
from edgec.ir import Graph, Program, Range, State, TensorType, Value


class Support(StrEnum):
    """How a target expresses an op or an encoding; all but the last compute the same values.

    native       the format's own form of it
    decoded      a constant: its codes are in the file as they are, ops of the graph decode them
    widened      a constant: it is stored in a plainer form, and takes more bytes than it has to
    decomposed   an op: replaced by simpler ops before emission
    unsupported  the program cannot be emitted
    """

    NATIVE = "native"
    DECODED = "decoded"
    WIDENED = "widened"
    DECOMPOSED = "decomposed"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True)
class Verdict:
    """What a target says about one op or encoding; `reason` may be empty."""

    support: Support
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.support.value}: {self.reason}" if self.reason else self.support.value


NATIVE = Verdict(Support.NATIVE)


@dataclass(frozen=True)
class StoredAs:
    """Where and how one constant of the program stands in the written files.

    file       name of the file that holds it
    nbytes     its bytes there, all parts together
    support    native, decoded or widened, and why
    encoding   text of the encoding that the program has
    """

    file: str
    nbytes: int
    support: Support
    encoding: str
    reason: str = ""


@dataclass(frozen=True)
class Artifact:
    """What `emit` wrote.

    files    names of all files that ship, relative to the folder
    notes    one line for everything that a user should know: widened constants, inexact options
    stored   constant -> how it is stored
    """

    files: tuple[str, ...]
    notes: tuple[str, ...] = ()
    stored: Mapping[str, StoredAs] = field(default_factory=dict)


@dataclass(frozen=True)
class Signature:
    """What a caller must know about one function of an artifact; it travels inside of the files.

    inputs, outputs   external names and types
    dims              range of every named dimension
    states            which output feeds which input of the next call
    input_tree, output_tree   JSON of torch's pytree specs, "" when flat
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    dims: Mapping[str, Range] = field(default_factory=dict)
    states: tuple[State, ...] = ()
    input_tree: str = ""
    output_tree: str = ""

    @staticmethod
    def of(graph: Graph) -> Signature:
        pairs = zip(graph.output_names, graph.output_types(), strict=True)
        outputs = tuple(Value(n, t) for n, t in pairs)
        trees = graph.input_tree, graph.output_tree
        return Signature(graph.name, graph.inputs, outputs, graph.dims, graph.states, *trees)

    def graph(self) -> Graph:
        """A graph of these inputs without nodes: binds dimensions and checks arguments."""
        graph = Graph(self.name, self.inputs, [], (), (), {}, dict(self.dims))
        return graph.replace(input_tree=self.input_tree, output_tree=self.output_tree)

    def to_json(self) -> str:
        return json.dumps(
            {
                "name": self.name,
                "inputs": [[v.name, str(v.type)] for v in self.inputs],
                "outputs": [[v.name, str(v.type)] for v in self.outputs],
                "dims": {n: [r.min, r.max] for n, r in self.dims.items()},
                "states": [[s.input, s.output] for s in self.states],
                "input_tree": self.input_tree,
                "output_tree": self.output_tree,
            }
        )

    @staticmethod
    def from_json(text: str) -> Signature:
        """The inverse of `to_json`. Raises FormatError for anything else."""
        try:
            data = json.loads(text)
            if wrong := [n for n, (low, high) in data["dims"].items() if not 0 <= low <= high]:
                raise ValueError(wrong)
            return Signature(
                str(data["name"]),
                tuple(Value(str(n), TensorType.parse(t)) for n, t in data["inputs"]),
                tuple(Value(str(n), TensorType.parse(t)) for n, t in data["outputs"]),
                {str(n): Range(int(low), int(high)) for n, (low, high) in data["dims"].items()},
                tuple(State(str(i), str(o)) for i, o in data["states"]),
                str(data["input_tree"]),
                str(data["output_tree"]),
            )
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            OverflowError,
            RecursionError,
            MemoryError,  # of Python's parser, for text that is nested too deeply
        ) as error:
            raise FormatError(
                "signature", repr(text[:60]), "a signature as edgec writes it"
            ) from error


class Executable(Protocol):
    """An artifact that is open for execution on this machine: what `load` gives is a subclass.

    functions   by name, as the files themselves state them
    """

    functions: Mapping[str, Signature]

    @property
    def others(self) -> Mapping[str, Executable]:
        """The artifact for other platforms than the one that executes, where this machine can
        execute those too, by platform."""
        return {}

    def run(self, function: str, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Execute a function. Raises ValidationError for inputs that do not fit its signature."""

    def values(
        self, function: str, inputs: Sequence[torch.Tensor], names: Sequence[str] | None = None
    ) -> dict[str, torch.Tensor]:
        """Intermediate values by their names in the graph; None: all that there are."""


@dataclass(frozen=True)
class Target:
    """Base of all targets: a frozen dataclass whose fields are the options.

    A target prints as `name{option=value}`; `edgec.targets.get_target` reads it back.

    packages   distributions whose versions decide what the artifact is, for records
    """

    name: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()

    def narrowed(self, program: Program) -> Program:
        """The program as its artifact takes it: an option may narrow the ranges of dimensions.

        Raises UnsupportedError for options that do not fit the program.
        """
        return program

    def legalize(self, program: Program) -> Program:
        """The narrowed program in ops that the target has.

        Raises UnsupportedError that lists every op, type and encoding that it cannot express.
        """
        raise NotImplementedError

    def emit(self, program: Program, folder: Path, recipe: str = "") -> Artifact:
        """Write a legalized program into an existing folder; equal programs give equal bytes.

        recipe   hash of what the build was asked for, which the files state; "": not known
        """
        raise NotImplementedError

    @staticmethod
    def load(folder: Path, threads: int = 1) -> Executable:
        """Open what `emit` wrote. Raises FormatError for damaged, missing or foreign files."""
        raise NotImplementedError

    def __str__(self) -> str:
        from edgec.ir.text import show_value

        shown = [
            f"{f.name}={show_value(getattr(self, f.name))}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        ]
        return f"{self.name}{{{','.join(shown)}}}" if shown else self.name

    def to_json(self) -> dict[str, Any]:
        """Name and options, for records."""
        return {"name": self.name, "options": dataclasses.asdict(self)}
