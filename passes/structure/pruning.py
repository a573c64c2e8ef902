"""What `prune-heads` and `prune-neurons` share: scores, choice, fit of what stays, removal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from edgec.context import NOTHING, Calibration, Context
from edgec.errors import PassError
from edgec.ir import Exactness, Program
from edgec.passes.inputs import inputs
from edgec.passes.numerics.units import (
    Candidates,
    choose,
    contribution,
    elimination,
    magnitude,
    weighted,
)
from edgec.passes.stream import visits
from edgec.passes.structure.fitting import fit
from edgec.passes.structure.gradients import gradient_scores, moments
from edgec.passes.structure.heads import Found, Structure
from edgec.passes.structure.recalled import recalled, without_units
from edgec.passes.structure.removal import Removal, remove
from edgec.passes.structure.trace import Signature
from edgec.passes.structure.weights import rows_of, units_of, weight_of
from edgec.transform import Pass, PassResult

Score = Literal["magnitude", "activation", "taylor", "relevance", "elimination", "fisher"]


@dataclass(frozen=True)
class PruneUnits(Pass):
    """Options of passes that remove units; each documents them."""

    effect: ClassVar[Exactness] = Exactness.LOSSY
    ratio: float = 0.25
    count: int = 0
    score: Score = "elimination"
    per_layer: bool = True
    layers: tuple[int, ...] = ()
    refit: bool = True
    damping: float = 0.01
    signature: Signature = "keep"

    @property
    def needs_calibration(self) -> bool:  # type: ignore[override]
        return self.score != "magnitude" or self.refit

    def __post_init__(self) -> None:
        if wrong := self.wrong_options():
            raise PassError(self.name, "; ".join(wrong))

    def wrong_options(self) -> list[str]:
        """What does not go, alone or together."""
        wrong = []
        if not 0 <= self.ratio < 1:
            wrong.append(f"ratio={self.ratio}, need 0 <= ratio < 1")
        if self.count < 0:
            wrong.append(f"count={self.count}, need count >= 0, where 0 means the ratio")
        if not 0 < self.damping < 100:
            wrong.append(f"damping={self.damping}, need 0 < damping < 100")
        if self.count and self.ratio != PruneUnits.ratio:
            wrong.append(f"ratio={self.ratio} and count={self.count}, need one of them")
        if any(i < 0 for i in self.layers) or len(set(self.layers)) < len(self.layers):
            wrong.append(f"layers={list(self.layers)}, need different numbers from 0")
        return wrong

    # -------------------------------------------------------------- what a pass says of itself
    def find(self, program: Program) -> Found:
        raise NotImplementedError

    def candidates(self, structure: Structure, scores: Tensor) -> Candidates:
        return Candidates(scores, structure.even)

    @property
    def unit(self) -> str:
        """What is removed, in the plural."""
        raise NotImplementedError

    # -------------------------------------------------------------- the pass
    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        calls = context.calls(self.name) if self.needs_calibration else {}
        found = self.find(program)
        notes = [f"{where}: {self.unit} stay, {why}" for where, why in found.refused]
        chosen = self._selected(found.structures)
        scores = self._scores(program, chosen, calls, context)
        chosen, scores, unknown = _finite(chosen, scores)
        notes += [f"{where}: {self.unit} stay, {why}" for where, why in unknown]
        candidates = [self.candidates(s, v) for s, v in zip(chosen, scores, strict=True)]
        alike = self.score == "fisher"
        gone = choose(candidates, self.ratio, self.count, self.per_layer, alike)
        removals = [Removal(s.trace, u) for s, u in zip(chosen, gone, strict=True) if u]
        if not removals:
            why = f"no {self.unit} to remove" if found.structures else f"no {self.unit} were found"
            return PassResult(program, False, (*notes, f"nothing to do: {why}"))
        notes += [
            f"{', '.join(s.where)}: {len(u)} of {s.count} {self.unit} removed{self._short(c)}"
            for s, c, u in zip(chosen, candidates, gone, strict=True)
        ]
        after = program.copy()
        if self.refit:
            notes += fit(after, removals, calls, self.damping, context.steps)
        smaller = recalled(program, without_units(program, removals))
        return PassResult(remove(after, removals), True, tuple(notes), calls=smaller)

    def _short(self, candidates: Candidates) -> str:
        """What is said of a structure that cannot lose `count`."""
        few = self.per_layer and candidates.removable(self.count) < self.count
        return f", which cannot lose count={self.count}" if few else ""

    def _selected(self, structures: Sequence[Structure]) -> Sequence[Structure]:
        unknown = [i for i in self.layers if i >= len(structures)]
        if unknown:
            listed = "; ".join(f"{i}: {', '.join(s.where)}" for i, s in enumerate(structures))
            need = f"layers with {self.unit}: {listed or 'there are none'}"
            raise PassError(self.name, f"layers {', '.join(map(str, unknown))}", need)
        return [structures[i] for i in self.layers] if self.layers else structures

    def _scores(
        self,
        program: Program,
        structures: Sequence[Structure],
        calls: Calibration,
        context: Context,
    ) -> list[Tensor]:
        """f64[count] of each structure; what no data reach is scored by magnitude."""
        if self.score == "taylor":
            return gradient_scores(program, structures, calls, "gradient", context.steps)
        if self.score == "relevance":
            return gradient_scores(program, structures, calls, "relevance", context.steps)
        if self.score == "magnitude":
            return [_magnitudes(program, s) for s in structures]
        made: dict[int, Tensor] = {}
        for i, scores in self._on_data(program, structures, calls, context):
            made[i] = made[i] + scores if i in made else scores
        return [made[i] if i in made else _magnitudes(program, s) for i, s in enumerate(structures)]

    def _on_data(
        self,
        program: Program,
        structures: Sequence[Structure],
        calls: Calibration,
        context: Context,
    ) -> Iterator[tuple[int, Tensor]]:
        """(structure, scores of its units) at each product that sums over them."""
        fisher = self.score == "fisher"
        g = moments(program, structures, calls, context.steps) if fisher else {}
        sinks = {sink.key: (i, sink) for i, s in enumerate(structures) for sink in s.trace.sinks}
        for function, given in calls.items():
            for visit in visits(program, function, given, context.steps):
                if (function, visit.node.output.name) not in sinks:
                    continue
                i, sink = sinks[function, visit.node.output.name]
                count, weight = structures[i].count, weight_of(sink)
                w = rows_of(sink, program.constants[weight.name].encoding.decode())
                units = units_of(sink, w.shape[1])
                x = inputs(visit, weight)
                if self.score == "activation":
                    yield i, torch.stack([contribution(t, w, units, count) for t in x]).sum(0)
                    continue
                gram = torch.zeros(w.shape[1], w.shape[1], dtype=torch.float64)
                for t in x:
                    gram += (t.float().T @ t.float()).double()
                if not bool(gram.isfinite().all()):
                    yield i, torch.full((count,), torch.nan, dtype=torch.float64)
                    continue
                if sink.key in g:
                    w = weighted(w, g[sink.key])
                most = self.count or round(self.ratio * count)
                # of all layers together some lose more than others, hardly twice as many
                yield i, elimination(w, gram, units, count, most * (1 if self.per_layer else 2))


def _finite(
    structures: Sequence[Structure], scores: Sequence[Tensor]
) -> tuple[list[Structure], list[Tensor], list[tuple[str, str]]]:
    """Structures whose scores say something, with these; and the others, with why."""
    kept, found, unknown = [], [], []
    for structure, values in zip(structures, scores, strict=True):
        if bool(values.isfinite().all()):
            kept.append(structure)
            found.append(values)
        else:
            unknown.append((", ".join(structure.where), "NaN or infinite scores"))
    return kept, found, unknown


def _magnitudes(program: Program, structure: Structure) -> Tensor:
    """Of the columns of the products that sum over units, and of the rows that make them."""
    made = []
    for (function, name, axis), labels in structure.trace.axes.items():
        if not function:
            w = program.constants[name[1:]].encoding.decode().movedim(axis, -1)
            made.append((w, torch.tensor(labels.flat)))
    return magnitude(made, structure.count)
