"""drop-layers: whole residual blocks that change least of what flows through them, taken out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from edgec.context import NOTHING, Calibration, Context
from edgec.errors import PassError
from edgec.interpreter import Interpreter
from edgec.ir import Exactness, Node, Program
from edgec.passes.numerics.influence import Influence
from edgec.passes.structure.dropping import drop, problem
from edgec.passes.structure.recalled import recalled, without_inputs
from edgec.passes.structure.residual import Block, Layer, find_layers
from edgec.passes.structure.trace import Signature
from edgec.transform import Pass, PassResult


@dataclass(frozen=True)
class DropLayers(Pass):
    """Take out layers, runs of residual blocks, each of which adds something to what it is given.

    Given    %a = add(%x, f(%x))    %b = add(%a, g(%a))    %y = h(%b)
    Result   %y = h(%x)

    How blocks and layers are found: `edgec.passes.structure.residual`. Caches of a layer that goes
    leave the signature of all functions, and so do the outputs of one function that only the layer
    in another read. A layer with parts in several functions goes from all.

    count       layers that go, those of least influence on the calibration data
    layers      numbers of the layers that go, in the order of the notes, in place of the count
    unit        "layer" (attention and feed-forward), or "block": each residual block by itself
    signature   "prune": also layers with outputs of which the program does not say what for

    Keeps    everything else, all names. Reported: all layers with their influence, and which went.
    Effect   LOSSY
    Source   Men et al. 2024, arXiv:2403.03853, eq. 1: influence is 1 - mean cosine of what enters
             a layer and what leaves it, over positions.
    Differs  Also after normalization (post-norm), in convolutional nets, and for single blocks. The
             last layer of a function stays.
    """

    name: ClassVar[str] = "drop-layers"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    count: int = 1
    layers: tuple[int, ...] = ()
    unit: Literal["layer", "block"] = "layer"
    signature: Signature = "keep"

    @property
    def needs_calibration(self) -> bool:  # type: ignore[override]
        return not self.layers

    def __post_init__(self) -> None:
        wrong = [f"count={self.count}, need count >= 1"] if self.count < 1 else []
        if self.layers and self.count > 1:
            wrong.append(f"count={self.count} and layers={list(self.layers)}, need one of them")
        if any(i < 0 for i in self.layers) or len(set(self.layers)) < len(self.layers):
            wrong.append(f"layers={list(self.layers)}, need different numbers from 0")
        if wrong:
            raise PassError(self.name, "; ".join(wrong))

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        found = find_layers(program, self.unit == "block")
        self._check(found)
        if not found:
            return PassResult(program, False, ("nothing to do: no residual blocks were found",))
        calls = context.calls(self.name, "say which `layers`") if not self.layers else {}
        influences = _influences(program, found, calls, context) if calls else {}
        problems = [problem(program, layer, self.signature) for layer in found]
        chosen, notes = self._chosen(found, influences, problems)
        notes = [*_listed(found, influences, problems, chosen), *notes]
        if not chosen:
            return PassResult(program, False, (*notes, "nothing to do: no layer can go"))
        after = drop(program, [found[i] for i in chosen])
        calls_of = recalled(program, without_inputs(after))
        return PassResult(after, True, tuple(notes), calls=calls_of)

    def _check(self, found: Sequence[Layer]) -> None:
        unknown = [i for i in self.layers if i >= len(found)]
        if unknown:
            listed = "; ".join(f"{i}: {layer.where}" for i, layer in enumerate(found))
            got = f"layers {', '.join(map(str, unknown))}"
            raise PassError(self.name, got, f"some of {listed or 'no layers at all'}")

    def _chosen(
        self, found: Sequence[Layer], influences: dict[int, float], problems: Sequence[str]
    ) -> tuple[list[int], list[str]]:
        """Numbers of the layers that go, and why it is fewer than asked for."""
        if self.layers:
            refused = [f"{i}: {found[i].where}, {problems[i]}" for i in self.layers if problems[i]]
            if refused:
                raise PassError(self.name, f"layers that cannot go: {'; '.join(refused)}")
            return sorted(self.layers), []
        left = _per_function(found)
        chosen: list[int] = []
        for i in sorted(influences, key=lambda i: influences[i]):
            functions = [run[0].function for run in found[i].runs]
            if len(chosen) == self.count or problems[i] or any(left[f] < 2 for f in functions):
                continue
            chosen.append(i)
            for f in functions:
                left[f] -= 1
        short = f"{len(chosen)} of {self.count} layers go, no more can"
        return sorted(chosen), [short] if len(chosen) < self.count else []


def _per_function(found: Sequence[Layer]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for layer in found:
        for run in layer.runs:
            counts[run[0].function] = counts.get(run[0].function, 0) + 1
    return counts


def _listed(
    found: Sequence[Layer],
    influences: dict[int, float],
    problems: Sequence[str],
    chosen: Sequence[int],
) -> list[str]:
    lines = []
    for i, layer in enumerate(found):
        said = [f"influence {influences[i]:.4f}"] if i in influences else []
        said += [f"stays: {problems[i]}"] if problems[i] else []
        said += ["dropped"] if i in chosen else []
        lines.append(f"layer {i}, {layer.where}: {', '.join(said) or 'stays'}")
    return lines


# ------------------------------------------------------------------ scores
def _influences(
    program: Program, found: Sequence[Layer], calls: Calibration, context: Context
) -> dict[int, float]:
    """Of the layers that the calls reach."""
    sums = [Influence() for _ in found]
    interpreter = Interpreter(program)
    done, total = 0, sum(map(len, calls.values()))
    for function, given in calls.items():
        ends = {
            i: (run[0], run[-1])
            for i, layer in enumerate(found)
            for run in layer.runs
            if run[0].function == function
        }
        for inputs in given:
            context.steps(done, total)
            done += 1
            for i, x, y in _ends(interpreter, function, inputs, ends):
                sums[i].add(x, y)
    return {i: each.value for i, each in enumerate(sums) if each.rows}


def _ends(
    interpreter: Interpreter,
    function: str,
    inputs: Sequence[Tensor],
    ends: dict[int, tuple[Block, Block]],
) -> list[tuple[int, Tensor, Tensor]]:
    """(layer, what enters, what leaves) in one call, positions x channels."""
    graph = interpreter.program.graphs[function]
    wanted = {name for first, last in ends.values() for name in (first.entry, last.exit)}
    values = {v.name: t for v, t in zip(graph.inputs, inputs, strict=True) if v.name in wanted}

    def keep(node: Node, results: tuple[Tensor, ...]) -> None:
        made = zip(node.outputs, results, strict=True)
        values.update((v.name, t) for v, t in made if v.name in wanted)

    interpreter.run(inputs, function, keep)
    return [
        (i, _positions(values[first.entry]), _positions(values[last.exit]))
        for i, (first, last) in ends.items()
    ]


def _positions(x: Tensor) -> Tensor:
    """T[positions, channels]: channels are the last axis, of images [B, C, H, W] the second."""
    rows = x.movedim(1, -1) if x.dim() == 4 else x
    return rows.reshape(-1, rows.shape[-1]) if x.dim() else torch.zeros(0, 1)
