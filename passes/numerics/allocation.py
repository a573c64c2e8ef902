"""Allocation of bytes: one choice for each item, the least loss in all, within a limit. Exact."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.errors import PassError


@dataclass(frozen=True)
class Choice:
    """One way to store an item.

    label    of the choice
    nbytes   that it takes
    loss     that it costs, additive over items; >= 0, any unit; not finite: it breaks everything
    """

    label: str
    nbytes: int
    loss: float


def allocate(menu: Mapping[str, Sequence[Choice]], limit_bytes: int) -> dict[str, Choice]:
    """One choice for each item of `menu`: sum nbytes <= limit_bytes, least sum of losses.

    The multiple-choice knapsack problem, solved exactly by branch and cut (HiGHS, through
    scipy.optimize.milp). Among equally good solutions any may come out, always the same one.
    Choices of infinite or NaN loss break a program and are left out.
    Raises PassError, with the smallest sum there is, where nothing fits.
    """
    kept = {item: frontier(choices) for item, choices in menu.items()}
    if broken := [item for item, choices in kept.items() if not choices]:
        raise PassError("allocation", ", ".join(broken), "a choice of finite loss for each")
    least = sum(min(c.nbytes for c in choices) for choices in kept.values())
    if least > limit_bytes:
        need = f"at least {least}, the smallest choice of each of {len(menu)} tensors"
        raise PassError("allocation", f"limit of {limit_bytes} bytes", need, "widen the menu")
    free = {item: choices for item, choices in kept.items() if len(choices) > 1}
    chosen = {item: choices[0] for item, choices in kept.items()}
    spent = sum(c.nbytes for item, c in chosen.items() if item not in free)
    return chosen | _solve(free, limit_bytes - spent)


def frontier(choices: Sequence[Choice]) -> list[Choice]:
    """Of finite loss, those that none is better than in both bytes and loss, the smallest first."""
    kept: list[Choice] = []
    finite = (c for c in choices if math.isfinite(c.loss))
    for choice in sorted(finite, key=lambda c: (c.nbytes, c.loss)):
        if not kept or choice.loss < kept[-1].loss:
            kept.append(choice)
    return kept


def _solve(menu: Mapping[str, Sequence[Choice]], limit_bytes: int) -> dict[str, Choice]:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    if not menu:
        return {}
    flat = [(item, choice) for item, choices in menu.items() for choice in choices]
    owner = np.repeat(np.arange(len(menu)), [len(c) for c in menu.values()])
    losses = np.array([choice.loss for _, choice in flat])
    nbytes = np.array([choice.nbytes for _, choice in flat], dtype=float)
    one_each = csr_array((np.ones(len(flat)), (owner, np.arange(len(flat)))))
    # Scaled: the solver's tolerances are absolute, for numbers around 1.
    unit = max(float(nbytes.max()), 1.0)
    found = milp(
        losses / max(float(losses.max()), 1e-300),
        integrality=np.ones(len(flat)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(nbytes[None, :] / unit, -np.inf, limit_bytes / unit),
        ],
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        raise PassError("allocation", found.message, "a solution", "report this bug")
    return {item: choice for (item, choice), x in zip(flat, found.x, strict=True) if x > 0.5}
