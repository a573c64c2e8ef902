"""From a program to its files: lowering, memory, weights, the C source."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import edgec
from edgec.ir import Program
from edgec.kernels import Kernel
from edgec.runtime.container import Container, Entry, Kind, round_up
from edgec.runtime.container_writer import write_container
from edgec.target import Artifact, Signature, StoredAs, Support
from edgec.targets.native.header import header
from edgec.targets.native.libraries import ModelCode
from edgec.targets.native.lower import Lowered, lower_function
from edgec.targets.native.machines import not_executed
from edgec.targets.native.outputs import write_outputs
from edgec.targets.native.plan import Memory, lives, plan
from edgec.targets.native.platforms import platforms
from edgec.targets.native.sizes import check_bounded, without_unbound
from edgec.targets.native.source import model_source
from edgec.targets.native.statements import calls
from edgec.targets.native.states import State, states_of
from edgec.targets.native.tokens import write_tokens
from edgec.targets.native.views import Storage
from edgec.targets.native.weights import Weights

if TYPE_CHECKING:
    from edgec.targets.native import Native

ABOUT = "edgec.about"


def write(program: Program, target: Native, folder: Path, recipe: str) -> Artifact:
    """Write a legalized program."""
    name = target.file_name
    program = program.map_graphs(without_unbound)
    check_bounded(program.graphs.values())
    weights = Weights(program.constants, _multiplied(program))
    states = {n: list(states_of(g)) for n, g in program.graphs.items()}
    functions = [lower_function(g, weights, states[n]) for n, g in program.graphs.items()]
    container = _write_weights(program, weights, folder / f"{name}.weights", name, recipe)
    memory = _memory(functions, states, weights, container)
    kernels = kernels_of(functions)
    chosen = platforms(target.triples)
    source = model_source(name, functions, kernels, chosen, memory)
    graphs = [f.graph for f in functions]
    tokens, about_tokens = write_tokens(program, name, folder)
    code = ModelCode(
        name, source, header(name, graphs), tuple(program.graphs), tuple(kernels), bool(tokens)
    )
    files = [f"{name}.weights", *tokens, *write_outputs(code, chosen, target.outputs, folder)]
    stored = weights.stored(f"{name}.weights")
    notes = (*not_executed(target.triples), *_widened(stored), *about_tokens)
    return Artifact(tuple(files), notes, stored)


def _widened(stored: Mapping[str, StoredAs]) -> list[str]:
    """A line for each reason why constants take more bytes than they have to."""
    found: dict[str, list[str]] = {}
    for name, form in stored.items():
        if form.support is Support.WIDENED or "layouts" in form.reason:
            found.setdefault(form.reason, []).append(name)
    return [f"{', '.join(names)}: {reason}" for reason, names in found.items()]


def _multiplied(program: Program) -> set[str]:
    """Constants that are the weight of a linear layer in some function."""
    return {
        name.removeprefix("@")
        for graph in program.graphs.values()
        for node in graph.nodes
        if node.op.name == "linear" and (name := node.inputs[1]) and name.startswith("@")
    }


def kernels_of(functions: Sequence[Lowered]) -> list[Kernel]:
    """Every kernel once, in the order of first use."""
    return list(dict.fromkeys(c.kernel for f in functions for c in calls(f.statements)))


def _write_weights(
    program: Program, weights: Weights, path: Path, name: str, recipe: str
) -> Container:
    about = {
        "functions": {n: Signature.of(g).to_json() for n, g in program.graphs.items()},
        "recipe": recipe,
    }
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    entries = [*weights.entries, Entry(ABOUT, text, "u8")]
    return write_container(path, Kind.WEIGHTS, entries, name, f"edgec {edgec.__version__}")


def _memory(
    functions: Sequence[Lowered],
    states: Mapping[str, Sequence[State]],
    weights: Weights,
    container: Container,
) -> Memory:
    """States first, which live on; then what all functions use in turn."""
    arena: dict[Storage, int] = {}
    end = 0
    tables = list(weights.tables.values())
    kept = [s.storage for of_function in states.values() for s in of_function]
    for storage in [*kept, *(t.storage for t in tables)]:
        arena[storage] = end
        end += round_up(int(storage.nbytes))
    most = end
    for function in functions:
        offsets, last = plan(lives(function.statements, function.graph.dims), end)
        arena |= offsets
        most = max(most, last)
    places = {n: p.offset for n, p in container.places.items()}
    return Memory(arena, places, tables, most, container.file_bytes, container.payload_hash)
