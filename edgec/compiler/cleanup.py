"""The clean-up that every build begins with, held to what the captured graph computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from edgec.comparison import compare
from edgec.compiler.job import Clock, Progress
from edgec.context import Samples
from edgec.errors import PassError, ValidationError
from edgec.interpreter import Interpreter
from edgec.ir.program import Program
from edgec.passes import CLEANUP, parse_pipeline
from edgec.transform import PassRecord
from edgec.validate import make_inputs, settings
from edgec.validate.fidelity import Case, Reference
from edgec.validate.settings import Setting


@dataclass(frozen=True)
class Cleaned:
    """A program as given, and after the clean-up passes with their records."""

    original: Program
    program: Program
    records: tuple[PassRecord, ...]


def clean(
    program: Program,
    clock: Clock,
    progress: Progress,
    dims: Mapping[str, int] | None = None,
    samples: Samples | None = None,
) -> Cleaned:
    """Run the clean-up passes, whose results are the same for every variant.

    Raises PassError where the outputs are not those of `program`, within what the ops may deviate
    by (`edgec.validate.tolerance`).
    """
    program.verify()
    _check_dims(program, dims or {})
    with clock.stage("clean-up"):
        given = typical_samples(program, dims, samples)
        cleaned, records = parse_pipeline(CLEANUP).run(program, given, staged("clean-up", progress))
        reference = Reference(program)
        for name, calls in given.items():
            for inputs in calls:
                env = program.graphs[name].bind(tuple(t.shape for t in inputs))
                case = reference.case(name, Setting("typical", env), inputs)
                _check(case, cleaned, records)
    return Cleaned(program, cleaned, tuple(records))


def _check_dims(program: Program, given: Mapping[str, int]) -> None:
    """Raise ValidationError for sizes of dimensions that no function has."""
    known = {n for g in program.graphs.values() for n in g.dims}
    if unknown := sorted(set(given) - known):
        need = f"named dimensions of the model: {', '.join(sorted(known)) or 'it has none'}"
        raise ValidationError("dims", ", ".join(unknown), need)


def _check(case: Case, cleaned: Program, records: Sequence[PassRecord]) -> None:
    outputs = Interpreter(cleaned, compute=torch.float64).run(case.inputs, case.function)
    names = cleaned.graphs[case.function].output_names
    for name, got, want, allowed in zip(names, outputs, case.wants, case.tolerances, strict=True):
        found = compare(name, got.to(want.dtype), want, allowed)
        if not found.passed:
            steps = ", ".join(
                f"{r.spec} {r.deviation.max_ratio:.2g}"
                for r in records
                if r.deviation and r.deviation.max_ratio > 0
            )
            ratio = "not finite" if found.max_ratio is None else f"{found.max_ratio:.2g}"
            where = f"clean-up of {case.function}"
            got_text = f"output {name} off by {ratio} of its scale (after each pass: {steps})"
            raise PassError(where, got_text, f"at most {found.tolerance:.2g}", "report this bug")


def staged(stage: str, progress: Progress) -> Callable[[int, int, str], None]:
    """A pipeline's progress in terms of a build's."""
    return lambda done, total, text: progress(f"{stage} {text}".strip(), done, total)


def typical_samples(
    program: Program, dims: Mapping[str, int] | None, samples: Samples | None
) -> Samples:
    """Inputs with which a pipeline can say how far each pass moves the outputs."""
    if samples:
        return samples
    found: dict[str, list[list[torch.Tensor]]] = {}
    for name, graph in program.graphs.items():
        found[name] = [make_inputs(graph, settings(graph, dims)[0].env, seed=1)]
    return found
