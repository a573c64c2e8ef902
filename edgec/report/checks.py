"""Fidelity for readers: one line per executed call, its worst output against its tolerance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgec.comparison import Comparison
from edgec.report.geometry import on_log
from edgec.validate.report import Checked, Fidelity

LEAST, MOST = 1e-9, 1.0  # ends of the gauge's axis


@dataclass(frozen=True)
class Call:
    """One executed call: `worst` is the output that uses most of its tolerance.

    deviation, allowed   positions on the logarithmic gauge, percent
    """

    checked: Checked
    worst: Comparison
    deviation: float
    allowed: float
    cosine: float | None
    sqnr_db: float | None

    @property
    def dims(self) -> str:
        return " · ".join(f"{n} {v}" for n, v in self.checked.dims.items()) or "fixed"


def used(output: Comparison) -> float:
    """Part of its tolerance that an output uses; infinite where none of it may be used."""
    if output.max_ratio is None:
        return math.inf
    if output.max_ratio == 0:
        return 0.0
    return output.max_ratio / output.tolerance if output.tolerance else math.inf


def calls_of(fidelity: Fidelity) -> tuple[Call, ...]:
    """One line per call, in the order of execution; calls without outputs say nothing."""
    return tuple(_call(c) for c in fidelity.checked if c.outputs)


def _call(checked: Checked) -> Call:
    worst = max(checked.outputs, key=lambda o: (not o.passed, used(o)))
    cosines = [o.cosine for o in checked.outputs if o.cosine is not None]
    noises = [o.sqnr_db for o in checked.outputs if o.sqnr_db is not None]
    return Call(
        checked,
        worst,
        on_log(worst.max_ratio, LEAST, MOST),
        on_log(worst.tolerance, LEAST, MOST),
        min(cosines, default=None),
        min(noises, default=None),
    )


def worst_call(calls: Sequence[Call]) -> Call | None:
    """The call that uses most of its tolerance."""
    return max(calls, key=lambda c: (not c.checked.passed, used(c.worst)), default=None)
