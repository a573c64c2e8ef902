"""Golden calls: inputs of a model's functions with the outputs that are expected of them.

A container of kind CALLS with these entries for call number i of function f, j counting the
function's inputs or outputs; arrays of u16 are bf16.

    i/f/dims          i64[n]   values of the function's dims
    i/f/input/j                absent: a state that stays in the instance
    i/f/output/j               what is expected; absent: not compared
    i/f/tolerance/j   f64      |got - expected| allowed, [] or one each; absent: the same values
    i/f/exempt/j      i64[]    number of values that may be beyond it; absent: none

A state of which neither input nor output is there stays in the instance. The check program writes
what it got in the same form, with outputs only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgec.errors import FormatError
from edgec.runtime.container import Container, Entry, Kind
from edgec.runtime.container_reader import read_container
from edgec.runtime.container_writer import write_container

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Expected:
    """One output as it should be.

    values      of the output's type
    tolerance   absolute, one number or an array of the sizes of `values`; 0: the same values, where
                NaN is NaN
    exempt      number of values that may be beyond the tolerance
    """

    values: Array
    tolerance: float | npt.NDArray[np.float64] = 0.0
    exempt: int = 0


@dataclass(frozen=True, eq=False)
class GoldenCall:
    """One call: dims in the order of the description, None for states kept in the instance and for
    outputs that are not compared."""

    function: str
    dims: Sequence[int]
    inputs: Sequence[Array | None]
    outputs: Sequence[Expected | None]


def write_golden(path: Path, calls: Sequence[GoldenCall], model: str = "") -> Container:
    """Write the calls, in the order in which they are replayed."""
    entries: list[Entry] = []
    for number, call in enumerate(calls):
        entries += _entries(f"{number}/{call.function}", call)
    return write_container(path, Kind.CALLS, entries, model)


def _entries(prefix: str, call: GoldenCall) -> list[Entry]:
    if "/" in call.function:
        raise FormatError("golden calls", f"function {call.function!r}", "a name without /")
    found = [Entry.of(f"{prefix}/dims", np.array(call.dims, np.int64))]
    for index, array in enumerate(call.inputs):
        if array is not None:
            found.append(_entry(f"{prefix}/input/{index}", array))
    for index, expected in enumerate(call.outputs):
        if expected is not None:
            found += _expected_entries(prefix, index, expected)
    return found


def _expected_entries(prefix: str, index: int, expected: Expected) -> list[Entry]:
    found = [_entry(f"{prefix}/output/{index}", expected.values)]
    tolerance = np.asarray(expected.tolerance, np.float64)
    if tolerance.ndim and tolerance.shape != np.shape(expected.values):
        sizes = list(np.shape(expected.values))
        raise FormatError(f"{prefix} tolerance", f"{list(tolerance.shape)}", f"[] or {sizes}")
    if not np.all(tolerance >= 0):
        raise FormatError(f"{prefix} tolerance", "a negative value or NaN", "tolerance >= 0")
    if tolerance.any():
        found.append(Entry.of(f"{prefix}/tolerance/{index}", tolerance))
    if expected.exempt:
        found.append(Entry.of(f"{prefix}/exempt/{index}", np.array(expected.exempt, np.int64)))
    return found


def _entry(name: str, array: Array) -> Entry:
    return Entry(name, array, "bf16") if array.dtype == np.uint16 else Entry.of(name, array)


def read_outputs(path: Path) -> list[dict[int, Array]]:
    """What the check program wrote: for each call the outputs by index."""
    calls: dict[int, dict[int, Array]] = {}
    for name, entry in read_container(path, Kind.CALLS).entries.items():
        parts = name.split("/")
        if len(parts) != 4 or parts[2] != "output" or not (parts[0] + parts[3]).isdecimal():
            raise FormatError(str(path), f"entry {name!r}", "CALL/FUNCTION/output/INDEX")
        calls.setdefault(int(parts[0]), {})[int(parts[3])] = entry.data
    return [calls[number] for number in sorted(calls)]
