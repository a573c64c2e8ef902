"""What one function of the C program consists of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from edgec.ir.dims import Dim
from edgec.kernels import Kernel
from edgec.targets.native.tables import BuildTable
from edgec.targets.native.views import Place, Storage


@dataclass(frozen=True)
class Call:
    """One call of a kernel over all its items.

    pointers   in the order of the kernel's Pointer parameters; None for one that is not read
    sizes      by name: numbers or dims, floats for float parameters
    """

    kernel: Kernel
    pointers: tuple[Place | None, ...]
    sizes: Mapping[str, Dim | float]


@dataclass(frozen=True)
class CheckIndices:
    """Stop with a status where an index is not in [low, high)."""

    what: str
    indices: Place
    is_i64: bool
    count: Dim
    low: Dim
    high: Dim


@dataclass(frozen=True)
class CopyState:
    """Between a state in the instance and what the caller passed, where a pointer was passed."""

    call: Call
    external: Storage


@dataclass(frozen=True)
class Comment:
    """The IR line that the next statements come from."""

    text: str


@dataclass(frozen=True)
class Loop:
    """`for (variable = 0; variable < count; ++variable)`; the variable is a dim of that name."""

    variable: str
    count: Dim
    body: Sequence[Statement] = field(default_factory=list)


Statement: TypeAlias = BuildTable | Call | CheckIndices | CopyState | Comment | Loop


def storages(statement: Statement) -> Iterator[Storage]:
    """Every storage that a statement touches."""
    match statement:
        case Call():
            yield from (p.storage for p in statement.pointers if p is not None)
        case CheckIndices():
            yield statement.indices.storage
        case CopyState():
            yield from storages(statement.call)
        case BuildTable():
            yield statement.table.storage
        case Loop():
            for inner in statement.body:
                yield from storages(inner)


def calls(statements: Sequence[Statement]) -> Iterator[Call]:
    """Every call, those in loops too."""
    for statement in statements:
        match statement:
            case Call():
                yield statement
            case CopyState():
                yield statement.call
            case Loop():
                yield from calls(statement.body)
