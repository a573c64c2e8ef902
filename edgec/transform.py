"""Passes and the pipeline that runs them: checks, measures and records every step."""

from __future__ import annotations

import dataclasses
import keyword
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch

from edgec.comparison import FILLER_ROUNDING, compare
from edgec.context import (
    NOTHING,
    Calibration,
    Context,
    Samples,
    as_calibration,
    check_calibration,
)
from edgec.errors import EdgecError, PassError
from edgec.interpreter import Interpreter
from edgec.ir import Exactness, Program
from edgec.ir.text import show_value
from edgec.vocabulary import Vocabulary, changed

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, text of the pass): passes, and steps within one."""


_SELECTING = ("include", "skip", "min_numel")


@dataclass(frozen=True)
class PassResult:
    """What a pass did.

    modified   whether `program` differs from the pass's argument; checked by the pipeline
    notes      what was left as it is, and why, one line each: `@w9: K=30; need a multiple of 32`
    errors     constant -> relative error ||w - w'|| / ||w||
    calls      where inputs of functions became smaller or are gone: makes calibration data for the
               program as it was into data for the program as it is
    """

    program: Program
    modified: bool
    notes: tuple[str, ...] = ()
    errors: Mapping[str, float] = field(default_factory=dict)
    calls: Callable[[Calibration], Calibration] | None = None


@dataclass(frozen=True)
class Pass:
    """Base of all passes: a frozen dataclass whose fields are the options.

    A pass prints as `quantize-weights{bits=4,group=32}`; `edgec.passes.parse_pass` reads it back.

    name     the name in text
    effect   what the pass may change: EXACT the same bits, ROUNDING the same formula, LOSSY values
    needs_calibration   whether `apply` must be given data in its context
    """

    name: ClassVar[str] = ""
    effect: ClassVar[Exactness] = Exactness.EXACT
    needs_calibration: ClassVar[bool] = False

    @property
    def uses_calibration(self) -> bool:
        """Whether `apply` looks at data where there are some, needed or not."""
        return self.needs_calibration

    def requires(self, program: Program) -> None:
        """Raise PassError, before anything is computed, where the options do not fit `program`."""

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        """The changed program; the argument stays as it is (work on `program.copy()`)."""
        raise NotImplementedError

    def reference(self, original: Program, after: Program) -> Program:
        """What later passes compare with: `original`, with the token ids that `after` has."""
        return original

    def ensures(self, before: Program, after: Program) -> None:
        """Raise PassError where the result is not what the pass promises."""

    @classmethod
    def options(cls) -> list[dataclasses.Field[Any]]:
        """The fields, in the order to show them: what selects weights stands last."""
        return sorted(dataclasses.fields(cls), key=lambda f: f.name in _SELECTING)

    def __str__(self) -> str:
        shown = [
            f"{f.name}={show_option(getattr(self, f.name))}"
            for f in self.options()
            if f.default is dataclasses.MISSING or getattr(self, f.name) != f.default
        ]
        return f"{self.name}{{{','.join(shown)}}}" if shown else self.name


def show_option(value: Any) -> str:
    """Text of an option's value: as in IR text, but words stand without quotes."""
    if isinstance(value, str) and value.isidentifier() and not keyword.iskeyword(value):
        return value
    if isinstance(value, tuple):
        return f"[{','.join(map(show_option, value))}]"
    return show_value(value)


@dataclass(frozen=True)
class Deviation:
    """How far a program's outputs are from those of the program before all passes.

    max_ratio   greatest |got - want| / max |want|, over samples, functions and outputs, where the
                fillers of masks do not count
    cosine      least cosine similarity of an output
    """

    max_ratio: float
    cosine: float


@dataclass(frozen=True)
class PassRecord:
    """What one pass of a pipeline did, for reports.

    bytes       exact payload of the constants in use
    deviation   from the original program, all passes so far together; None without samples
    """

    spec: str
    modified: bool
    nodes_before: int
    nodes_after: int
    bytes_before: int
    bytes_after: int
    errors: Mapping[str, float]
    notes: tuple[str, ...]
    seconds: float
    deviation: Deviation | None = None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Pipeline:
    """Passes in order. `run` holds each to its contract and records what it did.

    folder   where files that options name are looked up; None: the working directory
    """

    passes: tuple[Pass, ...]
    folder: Path | None = None

    def run(
        self,
        program: Program,
        samples: Samples | None = None,
        progress: Progress | None = None,
        calibration: Mapping[str, Iterable[Iterable[torch.Tensor]]] | None = None,
    ) -> tuple[Program, list[PassRecord]]:
        """The program after all passes, and one record per pass.

        samples       inputs to interpret the program with after each pass: names the pass that
                      hurts
        calibration   data for the passes that look at activations; checked wherever there are some
        Raises PassError, which names the passes that ran before, for a pass that refuses, fails,
        leaves an ill-formed program, or lies about having modified it.
        """
        given = Context(as_calibration(calibration), program, program, folder=self.folder)
        if any(given.calibration.values()) or any(step.needs_calibration for step in self.passes):
            check_calibration(program, given.calibration)
        original = _Outputs(program, samples) if samples else None
        records: list[PassRecord] = []
        exact = True
        for step in self.passes:
            context = given
            if progress is not None:
                progress(len(records), len(self.passes), str(step))
                context = replace(given, steps=partial(_within, progress, str(step)))
            try:
                before = program
                program, record, calls = _run_pass(step, program, original, records, context)
                if calls is not None:
                    given = replace(given, calibration=calls(given.calibration))
                given = _carried(given, step, before, program)
            except EdgecError as error:
                raise _with_history(step, error, records) from error
            except Exception as error:
                error.add_note(f"in pass {step}; passes that ran before: {_history(records)}")
                raise
            records.append(record)
            exact = exact and not (record.modified and step.effect is Exactness.LOSSY)
            given = replace(given, exact=program) if exact else given
        if progress is not None:
            progress(len(records), len(self.passes), "")
        return program, records


def _carried(given: Context, step: Pass, before: Program, after: Program) -> Context:
    """The context for the passes behind `step`, after which token ids may mean something else."""
    ids = changed(before, after)
    if ids is None:
        return given
    calibration = ids.new_calls(before.graphs, given.calibration)
    original, exact = (
        None if program is None else step.reference(program, after)
        for program in (given.original, given.exact)
    )
    return replace(given, calibration=calibration, original=original, exact=exact)


def _within(progress: Progress, text: str, done: int, total: int) -> None:
    progress(done, total, text)


def _run_pass(
    step: Pass,
    before: Program,
    original: _Outputs | None,
    records: Sequence[PassRecord],
    context: Context,
) -> tuple[Program, PassRecord, Callable[[Calibration], Calibration] | None]:
    started = time.perf_counter()
    step.requires(before)
    result = step.apply(before, context)
    after, notes = result.program, result.notes
    if result.modified != (changed := differs(before, after)):
        got = (
            f"modified={result.modified}, but the program {'changed' if changed else 'is the same'}"
        )
        raise PassError(step.name, got, "an honest flag", "this is a bug of the pass")
    after.verify()
    step.ensures(before, after)
    seconds = time.perf_counter() - started
    deviation = records[-1].deviation if records else None
    if original is not None and (changed or deviation is None):
        deviation, skipped = original.deviation(after)
        notes += skipped
    record = PassRecord(
        str(step),
        result.modified,
        _nodes(before),
        _nodes(after),
        before.nbytes,
        after.nbytes,
        dict(result.errors),
        notes,
        seconds,
        deviation,
    )
    return after, record, result.calls


def _with_history(step: Pass, error: EdgecError, records: Sequence[PassRecord]) -> PassError:
    ran = f"passes that ran before: {_history(records)}"
    if isinstance(error, PassError):
        return PassError(
            error.where, error.got, error.need, "; ".join(filter(None, (error.do, ran)))
        )
    return PassError(str(step), f"{type(error).__name__} {error}", "", ran)


def _history(records: Sequence[PassRecord]) -> str:
    return ", ".join(r.spec for r in records) or "none"


def _nodes(program: Program) -> int:
    return sum(len(g.nodes) for g in program.graphs.values())


def differs(before: Program, after: Program) -> bool:
    """Whether two programs differ in functions, constants (by name and stored bits) or metadata."""
    if list(before.graphs) != list(after.graphs) or before.metadata != after.metadata:
        return True
    for a, b in zip(before.graphs.values(), after.graphs.values(), strict=True):
        if a is not b and (a.structure() != b.structure() or _frame(a) != _frame(b)):
            return True
    if before.constants.keys() != after.constants.keys():
        return True
    pairs = ((c.encoding, after.constants[n].encoding) for n, c in before.constants.items())
    return any(a is not b and a.digest != b.digest for a, b in pairs)


def _frame(graph: Any) -> tuple[Any, ...]:
    """What `Graph.structure` leaves out."""
    return graph.name, graph.dims, graph.input_tree, graph.output_tree


class _Outputs:
    """Outputs of the original program on the samples, to compare later programs with."""

    def __init__(self, program: Program, samples: Samples) -> None:
        self.program, self.samples = program, samples
        self.inputs = {
            name: program.graphs[name].inputs for name in samples if name in program.graphs
        }
        if unknown := sorted(samples.keys() - program.graphs.keys()):
            need = f"functions of the program: {', '.join(program.graphs)}"
            raise PassError("pipeline", f"samples for {', '.join(unknown)}", need)
        self.want = _interpret(program, samples)

    def deviation(self, program: Program) -> tuple[Deviation | None, tuple[str, ...]]:
        """Deviation of `program`, or a note where its inputs are not the original's any more."""
        for name, inputs in self.inputs.items():
            if name not in program.graphs or program.graphs[name].inputs != inputs:
                return None, (f"{name}: outputs not compared, its inputs were changed",)
        samples, want = self.samples, self.want
        if (ids := changed(self.program, program)) is not None:
            samples, want = self._with_ids(ids)
            if not want:
                return None, ("outputs not compared, the samples have tokens that were left out",)
        got = _interpret(program, samples)
        if [g.shape for g in got] != [w.shape for w in want]:
            return None, ("outputs not compared, their number or shapes were changed",)
        pairs = [_compare(g, w) for g, w in zip(got, want, strict=True) if w.numel()]
        ratios, cosines = zip(*pairs, strict=True) if pairs else ((0.0,), (1.0,))
        return Deviation(max(ratios), min(cosines)), ()

    def _with_ids(self, ids: Vocabulary) -> tuple[Samples, list[torch.Tensor]]:
        """The samples whose tokens all have a new id, and what the original gives for these."""
        graphs = self.program.graphs
        samples = ids.new_calls(graphs, self.samples)
        want = [
            output
            for name, calls in samples.items()
            for call in calls
            for output in ids.narrowed(
                graphs[name],
                Interpreter(self.program).run(ids.old_call(graphs[name], call), name),
            )
        ]
        return samples, want


def _interpret(program: Program, samples: Samples) -> list[torch.Tensor]:
    interpreter = Interpreter(program)
    return [
        output
        for name, batches in samples.items()
        for inputs in batches
        for output in interpreter.run(inputs, name)
    ]


def _compare(got: torch.Tensor, want: torch.Tensor) -> tuple[float, float]:
    """(deviation, cosine) in float64, without fillers of masks; NaN equals NaN."""
    found = compare("", got.double(), want.double(), FILLER_ROUNDING)
    if found.max_ratio is None:
        return math.inf, math.nan
    return found.max_ratio, 0.0 if found.cosine is None else found.cosine
