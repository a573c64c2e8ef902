"""One build, stage by stage: compress, emit, interpret, execute, evaluate, measure, judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from edgec import measure
from edgec.compiler.emission import Emitted, emit, list_files
from edgec.compiler.job import Clock, Job, Progress
from edgec.compiler.quality import Baseline, evidence_files, measure_quality
from edgec.compiler.records import constant_records, pass_records, tools
from edgec.errors import ValidationError
from edgec.ir.program import Program
from edgec.passes import CLEANUP, parse_pipeline
from edgec.release.golden import save_cases
from edgec.release.judge import judge, slower
from edgec.release.manifest import Host, Manifest, Sizes
from edgec.release.signature import function_record
from edgec.transform import PassRecord, Samples
from edgec.validate import Case, fidelity, make_cases, make_inputs, settings

NOTABLY_SLOWER = 1.25  # times the uncompressed build's CPU time: worth a warning


@dataclass(frozen=True)
class Cleaned:
    """A program as given, and after the clean-up passes with their records."""

    original: Program
    program: Program
    records: tuple[PassRecord, ...]


def clean(program: Program, clock: Clock, progress: Progress) -> Cleaned:
    """Run the clean-up passes, whose results are the same for every variant."""
    program.verify()
    with clock.stage("clean-up"):
        cleaned, records = parse_pipeline(CLEANUP).run(program, None, _staged("clean-up", progress))
    return Cleaned(program, cleaned, tuple(records))


def make_baseline(
    cleaned: Cleaned, job: Job, folder: Path, clock: Clock, progress: Progress
) -> Baseline:
    """Emit the uncompressed build into `folder`."""
    progress("emit uncompressed", 0, 1)
    with clock.stage("uncompressed build"):
        emitted = emit(cleaned.program, job.target, folder)
    progress("emit uncompressed", 1, 1)
    return Baseline(emitted, cleaned.program, job.evaluation)


def build_release(
    cleaned: Cleaned, job: Job, baseline: Baseline, folder: Path, clock: Clock, progress: Progress
) -> Manifest:
    """Build one release into an existing `folder`; the report is written by the caller.

    Raises EdgecError: see `edgec.compile`.
    """
    check_dims(cleaned.program, job)
    with clock.stage("passes"):
        compressed, records = job.passes.run(
            cleaned.program, typical_samples(cleaned.program, job), _staged("passes", progress)
        )
    records = [*cleaned.records, *records]
    progress("emit", 0, 1)
    with clock.stage("emit"):
        emitted = emit(compressed, job.target, folder)
    progress("emit", 1, 1)
    with clock.stage("interpret"):
        cases = make_cases(compressed, job.dims, job.samples, progress)
        save_cases(folder, cases)
    with clock.stage("execute"), measure.peak_memory() as memory:
        fidelity_found = fidelity(compressed, emitted.executable, cases, progress)
    with clock.stage("evaluate"):
        quality = measure_quality(emitted, compressed, baseline, job.limits.max_drop, progress)
    with clock.stage("measure"):
        latency = measure_latency(emitted, baseline, cases, progress)
    sizes = measure_sizes(emitted, baseline, job)
    verdict, reasons = judge(fidelity_found, quality, sizes, latency, job.limits)
    functions = emitted.executable.functions
    manifest = Manifest(
        name=job.name,
        model=job.model,
        verdict=verdict,
        reasons=reasons,
        warnings=(
            *(f"{c.function}: {c.note}" for c in fidelity_found.checked if c.note),
            *slower(latency, NOTABLY_SLOWER),
        ),
        target=job.target.name,
        options=job.target.to_json()["options"],
        functions=tuple(function_record(functions[n], g) for n, g in compressed.graphs.items()),
        metadata=emitted.metadata,
        files=(*emitted.files, *list_files(folder, evidence_files(folder), "evidence")),
        sizes=sizes,
        constants=constant_records(cleaned.original, compressed, emitted.artifact, records),
        passes=pass_records(records),
        notes=emitted.artifact.notes,
        fidelity=fidelity_found,
        quality=quality,
        recipe=job.recipe,
        host=Host(
            machine=measure.host(),
            tools=tools(job.target),
            seconds=dict(clock.seconds),
            latency=tuple(latency),
            max_slowdown=job.limits.max_slowdown,
            load_bytes=memory.get("bytes"),
        ),
    )
    manifest.save(folder)
    return manifest


def _staged(stage: str, progress: Progress) -> Callable[[int, int, str], None]:
    """A pipeline's progress in terms of a build's."""
    return lambda done, total, text: progress(f"{stage} {text}".strip(), done, total)


def check_dims(program: Program, job: Job) -> None:
    """Raise ValidationError for sizes of dimensions that no function has."""
    known = {n for g in program.graphs.values() for n in g.dims}
    if unknown := sorted(set(job.dims) - known):
        need = f"named dimensions of the model: {', '.join(sorted(known)) or 'it has none'}"
        raise ValidationError("dims", ", ".join(unknown), need)


def typical_samples(program: Program, job: Job) -> Samples:
    """Inputs with which the pipeline can say how far each pass moves the outputs."""
    if not job.passes.passes:
        return {}
    if job.samples:
        return job.samples
    found: dict[str, list[list[torch.Tensor]]] = {}
    for name, graph in program.graphs.items():
        found[name] = [make_inputs(graph, settings(graph, job.dims)[0].env, seed=1)]
    return found


def measure_sizes(emitted: Emitted, baseline: Baseline, job: Job) -> Sizes:
    before = baseline.emitted
    return Sizes(
        shipped_bytes=emitted.bytes(),
        shipped_brotli_bytes=emitted.brotli(),
        model_bytes=emitted.bytes("model"),
        model_brotli_bytes=emitted.brotli("model"),
        uncompressed_shipped_bytes=before.bytes(),
        uncompressed_model_bytes=before.bytes("model"),
        uncompressed_brotli_bytes=before.brotli("model"),
        max_shipped_bytes=job.limits.max_bytes,
        max_ratio=job.limits.max_ratio,
        allow_bigger=job.limits.allow_bigger,
    )


def measure_latency(
    emitted: Emitted, baseline: Baseline, cases: Sequence[Case], progress: Progress
) -> list[measure.Latency]:
    """CPU time of each function at its typical size, in turns with the uncompressed build."""
    typical = {c.function: c for c in reversed(cases) if c.setting.label in ("typical", "fixed")}
    same = emitted.hashes == baseline.emitted.hashes
    builds = [emitted] if same else [emitted, baseline.emitted]
    found = []
    for i, (name, case) in enumerate(typical.items()):
        progress(f"measure {name}", i, len(typical))
        calls = [_call(b, case) for b in builds]
        times = measure.cpu_ms(calls)
        other = None if same else times[1]
        runs = measure.RUNS
        found.append(measure.Latency(name, dict(case.setting.env), times[0], other, runs))
    progress("measure", len(typical), len(typical))
    return found


def _call(build: Emitted, case: Case) -> Callable[[], object]:
    inputs = list(case.inputs)
    return lambda: build.executable.run(case.function, inputs)
