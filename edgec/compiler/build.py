"""One build, stage by stage: compress, emit, interpret, execute, evaluate, measure, judge."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from edgec import measure
from edgec.compiler.cleanup import Cleaned, staged, typical_samples
from edgec.compiler.emission import Emitted, emit, list_files, opener
from edgec.compiler.job import Clock, Job, Progress
from edgec.compiler.quality import Baseline, evidence_files, measure_quality
from edgec.compiler.records import constant_records, pass_records, tools
from edgec.context import Samples
from edgec.ir.program import Program
from edgec.release.golden import save_cases
from edgec.release.judge import judge, slower
from edgec.release.manifest import Host, Manifest, Sizes
from edgec.release.signature import function_record
from edgec.validate import Case, fidelity, make_cases
from edgec.vocabulary import changed

NOTABLY_SLOWER = 1.25  # times the uncompressed build's CPU time: worth a warning


def make_baseline(
    cleaned: Cleaned, job: Job, folder: Path, clock: Clock, progress: Progress
) -> Baseline:
    """Emit the uncompressed build into `folder`, and check it: quality is measured against it."""
    progress("emit uncompressed", 0, 1)
    with clock.stage("uncompressed build"):
        program = job.target.narrowed(cleaned.program)
        emitted = emit(program, job.target, folder, job.recipe_sha256)
        samples = admitted(job.samples, cleaned.program, program)
        cases = make_cases(program, job.dims, samples, progress)
        found = fidelity(program, emitted.executable, cases, progress, opener(job.target))
    progress("emit uncompressed", 1, 1)
    return Baseline(emitted, program, cases, found, job.evaluation)


def build_release(
    cleaned: Cleaned, job: Job, baseline: Baseline, folder: Path, clock: Clock, progress: Progress
) -> Manifest:
    """Build one release into an existing `folder`; the report is written by the caller.

    Raises EdgecError: see `edgec.compile`.
    """
    with clock.stage("passes"):
        same = not job.passes.passes
        tried = {} if same else typical_samples(cleaned.program, job.dims, job.samples)
        compressed, records = job.passes.run(
            cleaned.program, tried, staged("passes", progress), job.calibration
        )
        compressed = job.target.narrowed(compressed)
    records = [*cleaned.records, *records]
    progress("emit", 0, 1)
    with clock.stage("emit"):
        emitted = emit(compressed, job.target, folder, job.recipe_sha256)
    progress("emit", 1, 1)
    with clock.stage("interpret"):
        samples = admitted(job.samples, cleaned.program, baseline.program)
        samples = fitting(samples, cleaned.program, compressed)
        cases = baseline.cases if same else make_cases(compressed, job.dims, samples, progress)
        save_cases(folder, cases)
    with clock.stage("execute"), measure.peak_memory() as memory:
        again = opener(job.target)
        fidelity_found = fidelity(compressed, emitted.executable, cases, progress, again)
    with clock.stage("evaluate"):
        quality = measure_quality(emitted, compressed, baseline, job.limits, progress)
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
            *conditions(compressed),
            *left_out(job.samples, admitted(job.samples, cleaned.program, baseline.program)),
            *missing_report(),
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


def fitting(samples: Samples | None, before: Program, after: Program) -> Samples | None:
    """Samples for the program after the passes, of the functions that still take such inputs.

    A pass may have made caches smaller; functions without samples are tried with seeded inputs.
    """
    kept = {f for f, g in after.graphs.items() if g.inputs == before.graphs[f].inputs}
    made = renumbered(samples, before, after) or {}
    return {f: calls for f, calls in made.items() if f in kept} or None


def admitted(samples: Samples | None, wide: Program, narrow: Program) -> Samples | None:
    """Samples without those of sizes that a target's options have excluded."""
    if samples is None or wide is narrow:
        return samples

    def excluded(function: str, inputs: Sequence[torch.Tensor]) -> bool:
        shapes = [tuple(t.shape) for t in inputs]
        return wide.graphs[function].admits(shapes) and not narrow.graphs[function].admits(shapes)

    made = {f: [c for c in calls if not excluded(f, c)] for f, calls in samples.items()}
    return {f: calls for f, calls in made.items() if calls} or None


def left_out(given: Samples | None, kept: Samples | None) -> list[str]:
    """How many samples of each function the target's options have excluded."""
    counts = {f: len(calls) - len((kept or {}).get(f, ())) for f, calls in (given or {}).items()}
    told = "left out: their sizes are beyond the target's options"
    return [f"{f}: {n} of {len((given or {})[f])} samples {told}" for f, n in counts.items() if n]


def renumbered(samples: Samples | None, before: Program, after: Program) -> Samples | None:
    """Samples with the token ids that they have after the passes, without tokens left out."""
    ids = changed(before, after)
    if samples is None or ids is None:
        return samples
    made = ids.new_calls(before.graphs, samples)
    return {name: calls for name, calls in made.items() if calls} or None


def conditions(program: Program) -> list[str]:
    """What sizes have to fulfil beyond their ranges, as capture has found it."""
    found = program.metadata.get("conditions", {})
    return [f"{name}: right where {text}" for name, texts in found.items() for text in texts]


def missing_report() -> tuple[str, ...]:
    """Why no report.html is written, where jinja2 is not installed."""
    if importlib.util.find_spec("jinja2") is None:
        return ("report.html is not written without jinja2: install edgec[report]",)
    return ()


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
    typical, before = _typical(cases), _typical(baseline.cases)
    same = emitted.hashes == baseline.emitted.hashes
    found = []
    for i, (name, case) in enumerate(typical.items()):
        progress(f"measure {name}", i, len(typical))
        calls = [_call(emitted, case)]
        if not same:  # with inputs of its own where passes made caches smaller
            fits = [t.shape for t in case.inputs] == [t.shape for t in before[name].inputs]
            calls.append(_call(baseline.emitted, case if fits else before[name]))
        times = measure.cpu_ms(calls)
        other = None if same else times[1]
        runs = measure.RUNS
        found.append(measure.Latency(name, dict(case.setting.env), times[0], other, runs))
    progress("measure", len(typical), len(typical))
    return found


def _typical(cases: Sequence[Case]) -> dict[str, Case]:
    """The first case of each function at its typical size."""
    return {c.function: c for c in reversed(cases) if c.setting.label in ("typical", "fixed")}


def _call(build: Emitted, case: Case) -> Callable[[], object]:
    inputs = list(case.inputs)
    return lambda: build.executable.run(case.function, inputs)
