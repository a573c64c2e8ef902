"""The files of a model: weights, header, and a library for each triple."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import edgec
from edgec.ir import Program, State, TensorType, dims
from edgec.kernels import INSTRUCTION_SETS, InstructionSet, Kernel
from edgec.kernels.building import build_objects
from edgec.runtime.container import Container, Entry, Kind
from edgec.runtime.container_writer import write_container
from edgec.runtime.sources import INCLUDE, library_sources
from edgec.target import Artifact, Signature
from edgec.targets.native.expressions import identifier
from edgec.targets.native.header import header, model_symbol
from edgec.targets.native.lower import Lowered, lower_function
from edgec.targets.native.plan import lives, plan
from edgec.targets.native.sizes import check_bounded, greatest
from edgec.targets.native.source import Memory, model_source
from edgec.targets.native.statements import calls
from edgec.targets.native.toolchain import toolchain
from edgec.targets.native.views import Storage
from edgec.targets.native.weights import Weights

if TYPE_CHECKING:
    from edgec.targets.native import Native

ABOUT = "edgec.about"


def write(program: Program, target: Native, folder: Path, recipe: str) -> Artifact:
    """Write a legalized program."""
    name = target.file_name
    check_bounded(program.graphs.values())
    weights = Weights(_multiplied(program))
    states = _states(program)
    functions = [lower_function(g, weights, states.get(n, {})) for n, g in program.graphs.items()]
    container = _write_weights(program, weights, folder / f"{name}.weights", name, recipe)
    memory = _memory(functions, states, weights, container)
    graphs = [f.graph for f in functions]
    (folder / f"{name}.h").write_text(header(name, graphs))
    files = [f"{name}.h", f"{name}.weights"]
    for triple in target.triples:
        files.append(_write_library(name, triple, functions, memory, folder))
    return Artifact(tuple(files), (), weights.stored(f"{name}.weights"))


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


def _states(program: Program) -> dict[str, dict[str, Storage]]:
    """Memory of each function's states, for the greatest of what goes in and comes out."""
    found: dict[str, dict[str, Storage]] = {}
    for name, graph in program.graphs.items():
        outputs = dict(zip(graph.output_names, graph.output_types(), strict=True))
        inputs = {v.name: v.type for v in graph.inputs}

        def most(state: State, graph=graph, inputs=inputs, outputs=outputs) -> int:  # type: ignore[no-untyped-def]
            sides = (inputs[state.input], outputs[state.output])
            return max(greatest(_nbytes(t), graph.dims) for t in sides)

        found[name] = {s.input: Storage("state", s.input, most(s)) for s in graph.states}
    return found


def _nbytes(type: TensorType) -> dims.Dim:
    return dims.normal(type.numel * type.dtype.nbytes)


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
    states: dict[str, dict[str, Storage]],
    weights: Weights,
    container: Container,
) -> Memory:
    """States first, which live on; then what all functions use in turn."""
    arena: dict[Storage, int] = {}
    end = 0
    tables = list(weights.tables.values())
    kept = [s for of_function in states.values() for s in of_function.values()]
    for storage in [*kept, *(t.storage for t in tables)]:
        arena[storage] = end
        end += -(-max(int(storage.nbytes), 1) // 64) * 64  # type: ignore[arg-type]
    most = end
    for function in functions:
        offsets, last = plan(lives(function.statements, function.graph.dims), end)
        arena |= offsets
        most = max(most, last)
    places = {n: p.offset for n, p in container.places.items()}
    return Memory(arena, places, tables, most, container.file_bytes, container.payload_hash)


def instruction_sets(triple: str) -> list[InstructionSet]:
    """Those that a library of this triple holds kernels for, best first."""
    return [i for i in INSTRUCTION_SETS.values() if i.triple == triple]


def _write_library(
    name: str, triple: str, functions: Sequence[Lowered], memory: Memory, folder: Path
) -> str:
    """The shared library of one triple; its name relative to the folder."""
    sets, kernels = instruction_sets(triple), kernels_of(functions)
    text = model_source(name, functions, kernels, sets, memory)
    compiler = toolchain(triple)
    objects = [p for i in sets for p in build_objects(kernels, i, f"_{i.name}").values()]
    made = f"lib/{triple}/lib{identifier(name)}.so"
    (folder / made).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        (work / f"{name}.c").write_text(text)
        graphs = [f.graph for f in functions]
        (work / f"{name}.h").write_text(header(name, graphs))
        (work / "model_of.c").write_text(_model_of(name))
        (work / "exports.map").write_text(_exports(name))
        sources = [work / f"{name}.c", work / "model_of.c", *library_sources()]
        objects += [compiler.compile(s, [INCLUDE, work]) for s in sources]
        compiler.run(
            "-shared",
            "-s",
            "-Wl,--gc-sections,--build-id=none",
            f"-Wl,--version-script={work / 'exports.map'}",
            "-o",
            str(folder / made),
            *map(str, objects),
            "-lm",
            "-lpthread",
        )
    return made


def _model_of(name: str) -> str:
    return (
        f'#include "{name}.h"\n'
        f"const edgec_model *edgec_model_of(void) {{ return &{model_symbol(name)}; }}\n"
    )


#: What a library shows of the runtime: its kernels and internals stay hidden.
API = (
    "create destroy call find last_error status_name status_text dtype_bytes profile_of "
    "variant_of model_of"
).split()


def _exports(name: str) -> str:
    shown = " ".join(f"edgec_{n};" for n in API)
    return f"{{ global: {shown} {identifier(name)}_*; local: *; }};\n"
