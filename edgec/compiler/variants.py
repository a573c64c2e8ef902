"""A recipe's variants: one capture, one uncompressed build per target, a release each."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

from edgec.compiler.build import build_release, make_baseline
from edgec.compiler.cleanup import Cleaned, clean
from edgec.compiler.job import Clock, Evaluation, Job, Progress, silent
from edgec.compiler.loading import Model, load_model
from edgec.compiler.quality import Baseline, load_data
from edgec.compiler.samples import calibration_calls, from_data
from edgec.context import Calibration, Samples
from edgec.errors import RecipeError
from edgec.measure import parse_bytes, peak_bytes
from edgec.metrics import Metric, get_metric, own_metric
from edgec.passes import parse_pipeline
from edgec.recipe import LoadedRecipe, Variant
from edgec.release.judge import Limits
from edgec.release.manifest import Manifest, RecipeText
from edgec.release.publish import publishing
from edgec.release.summary import Row, Summary, smallest_accepted
from edgec.targets import TARGETS, get_target

_SCRATCH = ".uncompressed"


def build_recipe(
    loaded: LoadedRecipe, out: Path, force: bool = False, progress: Progress = silent
) -> Summary:
    """Build every variant of a recipe: OUT/NAME is a release, OUT/summary.json the table.

    Nothing in `out` changes before all variants are built. Raises EdgecError as `edgec.compile`
    does.
    """
    started = time.perf_counter()
    recipe = loaded.recipe
    with publishing(out, force) as scratch:
        progress(f"load {recipe.model}", 0, 1)
        model = load_model(recipe.model, loaded.folder)
        progress(f"load {recipe.model}", 1, 1)
        if recipe.task:
            model.program.metadata["task"] = recipe.task
        evaluation = make_evaluation(loaded, model)
        samples = calibration_samples(loaded, model)
        calibration = calibration_for(loaded, model)
        cleaned = clean(model.program, Clock(), progress, recipe.validation.dims, samples)
        baselines: dict[str, Baseline] = {}
        rows = []
        for name, variant in recipe.build.items():
            job = replace(
                make_job(loaded, name, variant, model, evaluation),
                samples=samples,
                calibration=calibration,
            )
            manifest = _build_variant(cleaned, job, baselines, scratch, progress)
            rows.append(Row.of(manifest, variant.passes))
        shutil.rmtree(scratch / _SCRATCH, ignore_errors=True)
        title = recipe.name or loaded.folder.name
        seconds = time.perf_counter() - started
        listed = tuple(rows)
        default = smallest_accepted(listed)
        summary = Summary(title, model.name, default, listed, seconds, peak_bytes())
        summary.save(scratch)
        _write_reports(scratch, [scratch / r.name for r in rows])
    return summary


def _build_variant(
    cleaned: Cleaned,
    job: Job,
    baselines: dict[str, Baseline],
    scratch: Path,
    progress: Progress,
) -> Manifest:
    name, clock = job.recipe.name, Clock()

    def named(stage: str, done: int, total: int) -> None:
        progress(f"{name}: {stage}", done, total)

    key = str(job.target)
    if key not in baselines:
        folder = scratch / _SCRATCH / str(len(baselines))
        folder.mkdir(parents=True)
        baselines[key] = make_baseline(cleaned, job, folder, clock, named)
    folder = scratch / name
    folder.mkdir()
    return build_release(cleaned, job, baselines[key], folder, clock, named)


def make_job(
    loaded: LoadedRecipe, name: str, variant: Variant, model: Model, evaluation: Evaluation
) -> Job:
    recipe = loaded.recipe
    return Job(
        passes=replace(parse_pipeline(variant.passes), folder=loaded.folder),
        target=get_target(variant.target or next(iter(TARGETS)), variant.options),
        limits=Limits(
            variant.max_drop,
            None if variant.max_size is None else parse_bytes(variant.max_size, "max_size"),
            variant.max_ratio,
            variant.max_slowdown,
            variant.allow_bigger,
            recipe.evaluation.min_agreement if recipe.evaluation else None,
        ),
        evaluation=evaluation,
        dims=recipe.validation.dims,
        name=f"{recipe.name or loaded.folder.name}-{name}",
        model=model.name,
        recipe=RecipeText(name, loaded.text, loaded.sha256),
    )


def calibration_samples(loaded: LoadedRecipe, model: Model) -> Samples | None:
    """Calls from the calibration data, else the model's own example inputs."""
    settings = loaded.recipe.calibration
    if settings is None:
        return model.samples
    data = load_data(loaded.path(settings.data), model.program, settings.limit)
    return (from_data(model.program, data) if data is not None else None) or model.samples


def calibration_for(loaded: LoadedRecipe, model: Model) -> Calibration | None:
    """All of the calibration data as calls, where some variant has a pass that uses them."""
    settings = loaded.recipe.calibration
    specs = [p for variant in loaded.recipe.build.values() for p in variant.passes]
    if settings is None or not any(p.uses_calibration for p in parse_pipeline(specs).passes):
        return None
    return calibration_calls(model.program, loaded.path(settings.data), settings.limit)


def make_evaluation(loaded: LoadedRecipe, model: Model) -> Evaluation:
    """The metric (of the recipe, else of the model, else usual for its task) and its data."""
    settings = loaded.recipe.evaluation
    chosen = settings.metric if settings and settings.metric else model.metric
    if settings is None and not chosen:
        return Evaluation(get_metric(""))  # seeded inputs have no texts and no labels to score
    metric = choose_metric(chosen, model, loaded.folder)
    if settings is None:
        return Evaluation(metric)
    data = load_data(loaded.path(settings.data), model.program, settings.limit)
    return Evaluation(metric, data, settings.agreement)


def choose_metric(chosen: object, model: Model, folder: Path) -> Metric:
    task = str(model.program.metadata.get("task", ""))
    if isinstance(chosen, str):
        return get_metric(chosen, task, folder)
    if callable(chosen):
        return own_metric(chosen)
    raise RecipeError("metric", type(chosen).__name__, "a name or a function")


def _write_reports(out: Path, folders: list[Path]) -> None:
    from edgec.compiler import write_report

    for folder in [*folders, out]:
        write_report(folder)
