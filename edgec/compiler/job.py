"""What a build is asked for, and the clock and progress that go with it."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from edgec.context import Calibration, Samples
from edgec.metrics import Data, Metric
from edgec.release.judge import Limits
from edgec.release.manifest import RecipeText
from edgec.target import Target
from edgec.transform import Pipeline

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""


def silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Evaluation:
    """How quality is measured.

    metric      what is measured
    data        on what; None: seeded inputs
    agreement   texts on which the artifact must also say what the interpreter says
    """

    metric: Metric
    data: Data | None = None
    agreement: int = 200


@dataclass(frozen=True)
class Job:
    """One build of a model.

    passes      compression passes, after the clean-up
    target      kind of artifact
    limits      what the result must hold
    evaluation  how quality is measured
    dims        sizes of the typical setting of the fidelity check
    samples     inputs of the user's own for the fidelity check
    calibration inputs for the passes that look at activations
    name        of the release
    model       what is compiled, for the record
    recipe      where the job comes from
    """

    passes: Pipeline
    target: Target
    limits: Limits
    evaluation: Evaluation
    dims: Mapping[str, int] = field(default_factory=dict)
    samples: Samples | None = None
    calibration: Calibration | None = None
    name: str = ""
    model: str = ""
    recipe: RecipeText = RecipeText("", "", "")  # noqa: RUF009 - frozen

    @property
    def recipe_sha256(self) -> str:
        """Hash of the recipe file; without one, of what it would say: the passes and the target."""
        asked = "\n".join([*map(str, self.passes.passes), str(self.target)])
        return self.recipe.sha256 or hashlib.sha256(asked.encode()).hexdigest()


@dataclass
class Clock:
    """Wall seconds of each stage; stages of the same name add up."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
