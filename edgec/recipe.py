"""Recipes: a TOML file that says what to build from which model, and what the result must hold.

    model = "hf:."                     # or "package.module:function"; paths: relative to this file

    [evaluation]                       # what quality is measured on
    data = "heldout.tsv"
    metric = "bleu"

    [build.int4]                       # one table per variant
    passes = ["quantize-weights{bits=4,group=32}"]
    max_ratio = 0.17                   # of the uncompressed build's bytes
    max_drop = 0.5                     # in the metric's unit

Every mistake in a file is reported at once, unknown keys with the nearest known one.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgec.errors import EdgecError, RecipeError
from edgec.measure import parse_bytes
from edgec.metrics import get_metric
from edgec.metrics.data import check_kind
from edgec.records import read


@dataclass(frozen=True)
class EvaluationSettings:
    """Data and metric of the quality check.

    data           file: `.tsv` (source, reference), `.txt` (sources), `.safetensors` (inputs,
                   labels)
    metric         bleu, chrf, top1, cosine or package.module:function; empty: the task's usual one
    limit          samples to use; 0: all
    agreement      texts on which the artifact's output is also compared with the interpreter's,
                   word by word
    min_agreement  part of these texts for which both must be the same
    """

    data: str
    metric: str = ""
    limit: int = 0
    agreement: int = 200
    min_agreement: float = 0.99


@dataclass(frozen=True)
class CalibrationSettings:
    """Data for passes that look at activations.

    data    file, as for the evaluation
    limit   samples to use; 0: all
    """

    data: str
    limit: int = 0


@dataclass(frozen=True)
class ValidationSettings:
    """Sizes for the fidelity check.

    dims   value of named dimensions in the typical setting
    """

    dims: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """One build of the model.

    passes         compression passes, as text, in order; the clean-up passes always run first
    target         kind of artifact; empty: the first of `edgec list targets`
    options        options of the target
    max_drop       quality that may be lost against the original, in the metric's unit
    max_size       bytes of the files that ship: a number or a text such as "6MB"
    max_ratio      model bytes as a fraction of the uncompressed build's
    max_slowdown   CPU time as a multiple of the uncompressed build's; none: reported only
    allow_bigger   accept an artifact that is bigger than its uncompressed build
    """

    passes: tuple[str, ...] = ()
    target: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    max_drop: float | None = None
    max_size: int | str | None = None
    max_ratio: float | None = None
    max_slowdown: float | None = None
    allow_bigger: bool = False


@dataclass(frozen=True)
class Recipe:
    """A recipe file.

    model         `hf:DIRECTORY` (transformers layout) or `package.module:function`
    build         variants by name; each is a folder of the release
    name          name of the release; empty: the recipe's folder
    task          overrides the task that the model's loader states
    """

    model: str
    build: Mapping[str, Variant]
    name: str = ""
    task: str = ""
    evaluation: EvaluationSettings | None = None
    calibration: CalibrationSettings | None = None
    validation: ValidationSettings = field(default_factory=ValidationSettings)


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe with where it came from: `folder` for relative paths, `text` for the record."""

    recipe: Recipe
    folder: Path
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def path(self, text: str) -> Path:
        """A path of the recipe, relative to its file."""
        return (self.folder / text).resolve()


def load_recipe(path: Path | str) -> LoadedRecipe:
    """Read a recipe file. Raises RecipeError that lists every problem."""
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise RecipeError(path.name, error.strerror or str(error), "a recipe file") from error
    except UnicodeDecodeError as error:
        raise RecipeError(path.name, "bytes that are no text", "a TOML file in UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(path.name, str(error), "valid TOML") from error
    recipe = read(Recipe, data, path.name, RecipeError)
    loaded = LoadedRecipe(recipe, path.resolve().parent, text)
    if problems := _problems(loaded):
        raise RecipeError(path.name, "\n  ".join(problems), "", "correct these and try again")
    return loaded


def _problems(loaded: LoadedRecipe) -> list[str]:
    """What is wrong beyond types: names, numbers, files, passes, targets."""
    recipe = loaded.recipe
    problems = [] if recipe.build else ["no [build.NAME] table, need at least one variant"]
    for key in ("evaluation", "calibration"):
        section = getattr(recipe, key)
        if section is not None and not loaded.path(section.data).is_file():
            problems.append(f"{key}.data = {section.data!r}, need a file beside the recipe")
        elif section is not None:
            path = loaded.path(section.data)
            problems += _error_of(f"{key}.data", lambda path=path: check_kind(path))
        if section is not None and section.limit < 0:
            problems.append(f"{key}.limit = {section.limit}, need 0 (all) or more")
    problems += _evaluation_problems(recipe.evaluation) if recipe.evaluation else []
    for name, variant in recipe.build.items():
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
            problems.append(f"build.{name}: need a name of letters, digits, - and _")
        problems += [f"build.{name}.{p}" for p in _variant_problems(variant)]
    return problems + _calibration_problems(recipe)


def _calibration_problems(recipe: Recipe) -> list[str]:
    """Passes that look at activations, without data to make some."""
    if recipe.calibration is not None:
        return []
    return [
        f"build.{name}: {spec} needs data, need a [calibration] table"
        for name, variant in recipe.build.items()
        for spec in variant.passes
        if _needs_calibration(spec)
    ]


def _needs_calibration(spec: str) -> bool:
    from edgec.passes import parse_pass

    try:
        return parse_pass(spec).needs_calibration
    except EdgecError:  # told by _variant_problems
        return False


def _evaluation_problems(settings: EvaluationSettings) -> list[str]:
    problems = []
    if ":" not in settings.metric:  # one's own is imported with the model
        problems += _error_of("evaluation.metric", lambda: get_metric(settings.metric))
    if settings.agreement < 0:
        problems.append(f"evaluation.agreement = {settings.agreement}, need 0 (none) or more")
    if not 0 <= settings.min_agreement <= 1:
        got = f"evaluation.min_agreement = {settings.min_agreement}"
        problems.append(f"{got}, need a part of the texts: 0 to 1")
    return problems


def _variant_problems(variant: Variant) -> list[str]:
    from edgec.passes import parse_pass
    from edgec.targets import TARGETS, get_target

    problems = []
    for i, spec in enumerate(variant.passes):
        problems += _error_of(f"passes[{i}]", lambda spec=spec: parse_pass(spec))
    problems += _error_of(
        "target", lambda: get_target(variant.target or next(iter(TARGETS)), variant.options)
    )
    if variant.max_size is not None:
        problems += _error_of("max_size", lambda: parse_bytes(variant.max_size or 0))
    for key in ("max_drop", "max_ratio", "max_slowdown"):
        value = getattr(variant, key)
        if value is not None and not is_limit(value):
            problems.append(f"{key} = {value}, need {LIMIT}")
    return problems


LIMIT = "a number that is not negative"


def is_limit(value: float) -> bool:
    """Whether `value` can bound anything: zero bounds, nan and infinity do not."""
    return math.isfinite(value) and value >= 0


def check_limits(limits: Mapping[str, float | None]) -> None:
    """Raise RecipeError for the first of these limits, by option, that is none."""
    for option, value in limits.items():
        if value is not None and not is_limit(value):
            raise RecipeError(option, f"{value:g}", LIMIT)


def _error_of(key: str, check: Any) -> list[str]:
    try:
        check()
    except EdgecError as error:
        return [f"{key}: {error}"]
    return []
