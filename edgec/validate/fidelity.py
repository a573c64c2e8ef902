"""Fidelity: the artifact, executed, against the interpreted graph that it was made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from edgec.comparison import Comparison, compare
from edgec.context import Samples
from edgec.errors import ValidationError
from edgec.interpreter import Interpreter
from edgec.ir import dims
from edgec.ir.graph import Graph
from edgec.ir.program import Program
from edgec.records import finite
from edgec.target import Executable
from edgec.validate.difference import first_difference
from edgec.validate.exposed import Again
from edgec.validate.inputs import chain
from edgec.validate.report import Checked, Fidelity
from edgec.validate.settings import Setting, settings, smallest_sizes, state_dims
from edgec.validate.tolerance import RULE, bounds, own_error, tolerance

Progress = Callable[[str, int, int], None]
ROLLOUT = 3  # calls that make the states of the setting `rollout`


class ArtifactError(ValidationError):
    """An artifact cannot be executed on inputs that its signature admits."""

    exit_code: ClassVar[int] = 11


@dataclass(frozen=True)
class Case:
    """One call with what must come out: the golden data of a release.

    own_error    greatest deviation of the float32 interpretation's outputs, relative
    tolerances   allowed deviation of each output
    """

    function: str
    setting: Setting
    inputs: tuple[torch.Tensor, ...]
    wants: tuple[torch.Tensor, ...]
    own_error: float
    tolerances: tuple[float, ...]


class Reference:
    """The interpreted program: float64 for what is expected, float32 for its conditioning."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.exact = Interpreter(program, compute=torch.float64)
        self.single = Interpreter(program)

    def case(self, function: str, setting: Setting, inputs: Sequence[torch.Tensor]) -> Case:
        """Raises ValidationError where the interpreter cannot take the inputs."""
        graph = self.program.graphs[function]
        try:
            exact = self.exact.run(inputs, function)
            single = self.single.run(inputs, function)
        except (IndexError, RuntimeError) as error:
            got = f"inputs that the graph cannot take ({str(error).splitlines()[0]})"
            do = "give valid inputs as samples"
            raise ValidationError(f"{function}, {setting.label}", got, "", do) from error
        types = [t.dtype.torch_dtype for t in graph.output_types()]
        wants = tuple(w.to(t) for w, t in zip(exact, types, strict=True))
        errors = [own_error(s, w) for s, w in zip(single, wants, strict=True)]
        limits = bounds(graph, setting.env)
        allowed = tuple(
            tolerance(limits.get(n, 0.0), e) for n, e in zip(graph.outputs, errors, strict=True)
        )
        return Case(function, setting, tuple(inputs), wants, max(errors, default=0.0), allowed)

    def run(self, function: str, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return self.single.run(inputs, function)


def make_cases(
    program: Program,
    given: Mapping[str, int] | None = None,
    samples: Samples | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> list[Case]:
    """Golden calls of every function: its settings, a rollout of its states, the user's samples."""
    reference = Reference(program)
    planned = list(_plan(program, reference, given, samples, seed))
    cases = []
    for i, (function, setting, inputs) in enumerate(planned):
        if progress is not None:
            progress(f"interpret {function}, {setting.label}", i, len(planned))
        cases.append(_case(reference, function, setting, inputs, seed))
    if progress is not None:
        progress("interpret", len(planned), len(planned))
    return cases


def _case(
    reference: Reference,
    function: str,
    setting: Setting,
    inputs: Sequence[torch.Tensor] | None,
    seed: int,
) -> Case:
    """A case with the given inputs, or with seeded ones at sizes that the graph can take.

    A declared range may be wider than what the model can do (a table of positions that ends
    earlier): then the largest setting is reduced, and says why.
    """
    if inputs is not None:
        return reference.case(function, setting, inputs)
    graphs = reference.program.graphs
    while True:
        try:
            made = chain(graphs, function, setting.env, reference.run, seed)
            return reference.case(function, setting, made)
        except (ValidationError, IndexError, RuntimeError) as error:
            note = f"the graph itself fails at {dict(setting.env)}: {str(error).splitlines()[0]}"
            smaller = setting.halved(smallest_sizes(graphs[function]), note)
            if smaller is None:
                raise
            setting = smaller


def _plan(
    program: Program,
    reference: Reference,
    given: Mapping[str, int] | None,
    samples: Samples | None,
    seed: int,
) -> Iterator[tuple[str, Setting, Sequence[torch.Tensor] | None]]:
    """(function, setting, inputs) of each case; no inputs: seeded ones at that setting."""
    for name, graph in program.graphs.items():
        for i, inputs in enumerate((samples or {}).get(name, ())):
            env = graph.bind(tuple(t.shape) for t in inputs)
            yield name, Setting("example" if i == 0 else f"example {i + 1}", env), inputs
        listed = settings(graph, given)
        for setting in listed:
            yield name, setting, None
        if (found := rollout(program.graphs, name, listed[0].env, reference.run, seed)) is not None:
            yield name, Setting("rollout", found[1]), found[0]


def rollout(
    graphs: Mapping[str, Graph],
    name: str,
    env: Mapping[str, int],
    run: Callable[[str, Sequence[torch.Tensor]], Sequence[torch.Tensor]],
    seed: int,
) -> tuple[list[torch.Tensor], dict[str, int]] | None:
    """Inputs whose states are the function's own after a few calls from the start, and their sizes.

    None for a function without states, or whose states cannot start from the smallest size.
    """
    graph = graphs[name]
    if not graph.states:
        return None
    current = dict(env) | {n: graph.dims[n].min for n in state_dims(graph)}
    inputs = chain(graphs, name, current, run, seed)
    for _ in range(ROLLOUT):
        outputs = dict(zip(graph.output_names, run(name, inputs), strict=True))
        carried = {s.input: outputs[s.output] for s in graph.states}
        grown = _sizes(graph, carried, current)
        if grown is None:
            return None
        if grown != current:
            fresh = chain(graphs, name, grown, run, seed)
            inputs = [
                old if tuple(old.shape) == tuple(new.shape) else new
                for old, new in zip(inputs, fresh, strict=True)
            ]
        current = grown
        inputs = [carried.get(v.name, t) for v, t in zip(graph.inputs, inputs, strict=True)]
    return inputs, current


def _sizes(
    graph: Graph, carried: Mapping[str, torch.Tensor], env: Mapping[str, int]
) -> dict[str, int] | None:
    """`env` for inputs with these states; None where the declared ranges do not reach so far."""
    sizes = dict(env)
    for value in graph.inputs:
        if value.name in carried:
            for dim, size in zip(value.type.shape, carried[value.name].shape, strict=True):
                if (solved := dims.solve(dim, size)) is not None:
                    sizes[solved[0]] = solved[1]
    return sizes if all(v in graph.dims[n] for n, v in sizes.items()) else None


# ------------------------------------------------------------------ the check
def check(executable: Executable, case: Case) -> Checked:
    """Execute one case and compare every output, on each platform that the artifact is for and this
    machine can execute: an output's comparison is that of the platform where it is worst."""
    platforms: dict[str, Executable] = {"": executable, **executable.others}
    compared = [_compared(e, case, platform) for platform, e in platforms.items()]
    worst = tuple(max(found, key=_badness) for found in zip(*compared, strict=True))
    s, own = case.setting, finite(case.own_error)
    return Checked(case.function, s.label, dict(s.env), s.reduced, own, worst, s.note)


def _compared(executable: Executable, case: Case, platform: str) -> list[Comparison]:
    try:
        outputs = executable.run(case.function, list(case.inputs))
    except ValidationError as error:
        where = f"{case.function}, {case.setting.label} {dict(case.setting.env)}"
        raise ArtifactError(where, f"an artifact that fails to run: {error}") from error
    names = [v.name for v in executable.functions[case.function].outputs]
    shown = [f"{n} ({platform})" if platform else n for n in names]
    pairs = zip(shown, outputs, case.wants, case.tolerances, strict=True)
    return [compare(name, got, want, allowed) for name, got, want, allowed in pairs]


def _badness(found: Comparison) -> tuple[bool, float]:
    return not found.passed, math.inf if found.max_ratio is None else found.max_ratio


def fidelity(
    program: Program,
    executable: Executable,
    cases: Sequence[Case],
    progress: Progress | None = None,
    again: Again | None = None,
) -> Fidelity:
    """Compare an artifact with the program it was emitted from, on that one's `make_cases`.

    again   emits another program likewise, for artifacts that cannot show their inner values
    """
    checked = []
    for i, case in enumerate(cases):
        if progress is not None:
            progress(f"execute {case.function}, {case.setting.label}", i, len(cases))
        checked.append(check(executable, case))
    if progress is not None:
        progress("execute", len(cases), len(cases))
    wrong = [c for c, k in zip(cases, checked, strict=True) if not k.passed]
    first = first_difference(program, executable, wrong[0], again) if wrong else None
    return Fidelity(not wrong, RULE, tuple(checked), first)
