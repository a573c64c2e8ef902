"""The compiler: a program becomes a release folder, executed, checked and measured."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgec.compiler.build import build_release, make_baseline, missing_report
from edgec.compiler.cleanup import clean
from edgec.compiler.job import Clock, Evaluation, Job, Progress, silent
from edgec.compiler.quality import load_data
from edgec.compiler.samples import calibration_calls
from edgec.context import Calibration, Samples
from edgec.ir.program import Program
from edgec.measure import parse_bytes
from edgec.metrics import Data, get_metric, own_metric
from edgec.passes import parse_pipeline
from edgec.recipe import check_limits
from edgec.release import Release
from edgec.release.judge import Limits
from edgec.release.publish import publishing
from edgec.targets import TARGETS, get_target
from edgec.transform import Pass

__all__ = ["Limits", "Release", "compile"]


def compile(
    program: Program,
    passes: Sequence[str | Pass] = (),
    target: str = "",
    out: Path | str = "release",
    *,
    options: Mapping[str, Any] | None = None,
    metric: str | Callable[[Any, Any], float] = "",
    data: Data | Path | str | None = None,
    max_drop: float | None = None,
    max_size: int | str | None = None,
    max_ratio: float | None = None,
    max_slowdown: float | None = None,
    min_agreement: float | None = 0.99,
    allow_bigger: bool = False,
    dims: Mapping[str, int] | None = None,
    samples: Samples | None = None,
    calibration: Calibration | Data | Path | str | None = None,
    name: str = "",
    model: str = "",
    force: bool = False,
    progress: Progress = silent,
) -> Release:
    """Compress `program`, emit it, execute what was written, and write a release into `out`.

    passes    compression passes, as text or objects; the clean-up passes always run before them
    target    kind of artifact (`edgec list targets`), with its `options`; "": the first one
    metric    bleu, chrf, top1, cosine, package.module:function or a function (predictions,
              references); "": the usual one of the program's task
    data      what quality is measured on, or a file of it; None: seeded inputs, against the
              original
    max_...   limits, as min_agreement; what breaks one gets another verdict than ACCEPT
    dims      sizes of the typical setting of the fidelity check
    samples   inputs of one's own for the fidelity check: {function: [flat inputs, ...]}
    calibration   inputs for passes that look at activations, in the same form; or evaluation data,
              or a file of it
    name      of the release; "": that of the folder
    model     what is compiled, for the record
    force     replace a folder that edgec has not written
    progress  called with (what is being done, steps done, steps in all)

    Raises EdgecError for options that are wrong, a pass that fails, what the target cannot express,
    and a folder that cannot be written; `out` is then as it was. A release that does not hold what
    it should is written, and says so: look at `verdict`.
    """
    chosen = metric if isinstance(metric, str) else own_metric(metric)
    if isinstance(chosen, str):
        # without data the seeded inputs serve, which have no texts and no labels to score
        task = "" if data is None else str(program.metadata.get("task", ""))
        chosen = get_metric(chosen, task)
    check_limits({"max_drop": max_drop, "max_ratio": max_ratio, "max_slowdown": max_slowdown})
    limits = Limits(
        max_drop,
        None if max_size is None else parse_bytes(max_size, "max_size"),
        max_ratio,
        max_slowdown,
        allow_bigger,
        min_agreement,
    )
    job = Job(
        passes=parse_pipeline(passes),
        target=get_target(target or next(iter(TARGETS)), options),
        limits=limits,
        evaluation=Evaluation(chosen, load_data(data, program)),
        dims=dims or {},
        samples=samples,
        calibration=calibration_calls(program, calibration),
        name=name or Path(out).name,
        model=model,
    )
    clock = Clock()
    with publishing(Path(out), force) as scratch:
        cleaned = clean(program, clock, progress, job.dims, samples)
        baseline = make_baseline(cleaned, job, scratch / ".uncompressed", clock, progress)
        build_release(cleaned, job, baseline, scratch, clock, progress)
        shutil.rmtree(scratch / ".uncompressed")
        write_report(scratch)
    return Release.load(out)


def write_report(folder: Path) -> None:
    """Write report.html; not without jinja2, which the release's warnings then say."""
    if not missing_report():
        from edgec import report

        report.write(folder)
