"""The memory plan: nothing that lives at the same time shares bytes, nothing steps out of its own.

Programs are executed with the plan as it is, on memory that ends at a page without access, and with
another one in which nothing is shared and every storage has marked bytes around it.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import edgec
from edgec.interpreter import random_inputs
from edgec.ir import Program, Range
from edgec.passes import CLEANUP, parse_pipeline
from edgec.runtime.container import ALIGNMENT, round_up
from edgec.runtime.model import Model
from edgec.runtime.sources import library_sources
from edgec.targets.native import Native, files, libraries
from edgec.targets.native.plan import Life, plan
from edgec.targets.native.toolchain import host_triple
from edgec.targets.native.views import Storage
from tests.architectures import ZOO
from tests.programs import decoder, residual
from tests.targets.onnx import seq2seq

MARK, GAP = 0xA5, 256


@st.composite
def lives(draw: st.DrawFn) -> dict[Storage, Life]:
    found = {}
    for i in range(draw(st.integers(0, 25))):
        first = draw(st.integers(0, 12))
        last = first + draw(st.integers(0, 6))
        nbytes = draw(st.integers(0, 700))
        found[Storage("arena", f"v{i}", nbytes)] = Life(first, last, nbytes)
    return found


@hypothesis.given(lives(), st.integers(0, 9).map(lambda n: n * ALIGNMENT))
def test_what_lives_at_the_same_time_shares_nothing(found: dict[Storage, Life], start: int) -> None:
    offsets, end = plan(found, start)
    assert offsets.keys() == found.keys()
    for storage, at in offsets.items():
        assert at % ALIGNMENT == 0 and start <= at <= at + found[storage].nbytes <= end
    for a, b in itertools.combinations(found, 2):
        x, y = found[a], found[b]
        if x.first <= y.last and y.first <= x.last:
            apart = offsets[a] + x.nbytes <= offsets[b] or offsets[b] + y.nbytes <= offsets[a]
            assert apart, (x, y)


@hypothesis.given(lives())
def test_no_more_than_all_storages_and_no_less_than_the_fullest_moment(
    found: dict[Storage, Life],
) -> None:
    _, end = plan(found)
    moments = [sum(x.nbytes for x in found.values() if x.first <= t <= x.last) for t in range(20)]
    assert max(moments) <= end <= sum(map(rounded, found.values()))


# ------------------------------------------------------------------ executed
def architecture(name: str) -> Callable[[], Program]:
    def make() -> Program:
        module, inputs, dynamic_shapes = ZOO[name]()
        program = edgec.capture(module, inputs, dynamic_shapes)
        return parse_pipeline(CLEANUP).run(program)[0]

    return make


PROGRAMS: Mapping[str, Callable[[], Program]] = {
    "residual": residual,
    "decoder": decoder,
    "seq2seq": lambda: seq2seq.program("int4"),
}
SLOW = ("swin", "mobilenet_v2", "unet", "llama_step", "deberta_v2", "mamba_prefill", "lstm_tagger")
each_program = pytest.mark.parametrize(
    "make",
    [
        *(pytest.param(make, id=name) for name, make in PROGRAMS.items()),
        *(pytest.param(architecture(n), id=n, marks=pytest.mark.slow) for n in SLOW),
    ],
)


def rounded(life: Life) -> int:
    return round_up(life.nbytes)


def spaced(found: Mapping[Storage, Life], start: int = 0) -> tuple[dict[Storage, int], int]:
    """A plan in which nothing is shared and GAP bytes follow each storage."""
    offsets, at = {}, start
    for storage, life in found.items():
        offsets[storage] = at
        at += rounded(life) + GAP
    return offsets, at


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries with `guarded_memory.c` in place of the runtime's own, which show the arena."""
    others = Path(__file__).with_name("guarded_memory.c")

    def sources() -> list[Path]:
        return [*(p for p in library_sources() if p.name != "memory.c"), others]

    monkeypatch.setattr(libraries, "library_sources", sources)
    monkeypatch.setattr(libraries, "API", (*libraries.API, "arena"))


def opened(program: Program, folder: Path) -> Model:
    folder.mkdir()
    target = Native()
    target.emit(target.legalize(program), folder)
    return Model(folder / "lib" / host_triple() / "libmodel.so", folder / "model.weights")


def narrow(program: Program) -> Program:
    """The program for sizes up to 9, so that the greatest are quick."""
    narrowed = program.copy()
    for name, graph in program.graphs.items():
        sizes = {n: Range(r.min, max(r.min, min(r.max, 9))) for n, r in graph.dims.items()}
        narrowed.graphs[name] = graph.replace(dims=sizes)
    return narrowed


def mark(model: Model, gaps: list[int]) -> None:
    for at in gaps:
        ctypes.memset(arena(model) + at, MARK, GAP)


def marked(model: Model, gaps: list[int]) -> bool:
    return all(ctypes.string_at(arena(model) + at, GAP) == bytes([MARK]) * GAP for at in gaps)


def arena(model: Model) -> int:
    library = model._library
    library.edgec_arena.restype, library.edgec_arena.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    return int(library.edgec_arena(model._instance))


@each_program
def test_a_plan_without_sharing_gives_the_same(
    make: Callable[[], Program], guarded: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = narrow(make())
    shared = opened(program, tmp_path / "shared")
    gaps: list[list[int]] = []  # of each function: the others use the same memory

    def remembered(found: Mapping[Storage, Life], start: int = 0) -> tuple[dict[Storage, int], int]:
        offsets, end = spaced(found, start)
        gaps.append([at + rounded(found[s]) for s, at in offsets.items()])
        return offsets, end

    monkeypatch.setattr(files, "plan", remembered)
    apart = opened(program, tmp_path / "apart")
    for (name, graph), own in zip(program.graphs.items(), gaps, strict=True):
        least = {n: max(r.min, 1) for n, r in graph.dims.items()}
        for env in ({n: r.max for n, r in graph.dims.items()}, least):
            inputs = [t.numpy() for t in random_inputs(graph, env)]
            sizes = [env[d.name] for d in shared.functions[name].dims]
            mark(apart, own)
            results = [m.run(name, sizes, inputs, keep_states=False) for m in (shared, apart)]
            for a, b in zip(*results, strict=True):
                np.testing.assert_array_equal(a, b)
            assert marked(apart, own), (name, env)
