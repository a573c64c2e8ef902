"""What executes a library here: this process, or an emulator of the machine that it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from edgec.runtime.arguments import Array
from edgec.runtime.model import Model
from edgec.target import Signature
from edgec.targets.native import emulated, webassembly
from edgec.targets.native.toolchain import host_triple


class Machine(Protocol):
    """Something that executes a library."""

    def __init__(self, library: Path, weights: Path, threads: int = 1) -> None: ...

    def run(
        self, signature: Signature, dims: Mapping[str, int], inputs: Sequence[Array]
    ) -> list[Array]:
        """Call a function with all inputs; all outputs, those that are states too."""


class Here:
    """This machine's own library, in this process."""

    def __init__(self, library: Path, weights: Path, threads: int = 1) -> None:
        self.model = Model(library, weights, threads)

    def run(
        self, signature: Signature, dims: Mapping[str, int], inputs: Sequence[Array]
    ) -> list[Array]:
        return self.model.run(signature.name, dims, inputs, keep_states=False)


#: What executes libraries of other platforms, in the order in which they are tried.
MACHINES: dict[str, type[emulated.Emulated] | type[webassembly.Node]] = {
    emulated.TRIPLE: emulated.Emulated,
    webassembly.TRIPLE: webassembly.Node,
}


def not_executed(triples: Sequence[str]) -> list[str]:
    """A line for each platform whose libraries this machine cannot execute."""
    notes = []
    for triple in triples:
        if triple == host_triple():
            continue
        if triple not in MACHINES:
            notes.append(f"{triple}: written, not executed: only its own devices can")
        elif missing := MACHINES[triple].missing():
            notes.append(f"{triple}: written, not executed: no {missing} here")
    return notes
