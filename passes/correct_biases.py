"""correct-biases: the mean error that compression gave a layer's outputs, taken off its bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.ir import Constant, Dense, Exactness, Node, Program
from edgec.ir.graph import Graph, put_constant
from edgec.passes.input_scaling import is_plain, uses
from edgec.passes.stream import Visit, visits
from edgec.passes.weights import Selection
from edgec.transform import Pass, PassResult

Calls: TypeAlias = Sequence[Sequence[Tensor]]
LAYERS = ("linear", "conv")
Means: TypeAlias = dict[str, Tensor]
"""Mean of each output channel f64[N] over the calibration data, by name of the value."""


@dataclass(frozen=True)
class CorrectBiases(Pass):
    """Let every compressed layer give, on average, what it gave before it was compressed.

    Given    %y = linear(%x, @w, @b)    @w = const f32[N, K] affine(bits=8)
    Result   %y = linear(%x, @w, @b - (mean of %y - mean of %y before))

    The layers are linear and conv with a weight that is not stored as it was, or with rounded
    inputs; the means, one for each output channel, are those over the calibration data. Layers are
    treated in the order of execution, each with the inputs that it gets from the corrected ones
    before it. "Before" is the program ahead of the first lossy pass: behind those that scale
    channels. A layer without a bias gets one.

    include, skip   patterns of names of weights

    Keeps    every weight, type and name. Left, and reported: layers whose bias is computed or
             compressed or whose weight has several uses, values that the program did not have
             before. What several functions use is corrected for the first of them with calls.
    Effect   LOSSY: the mean outputs on the calibration data are those of before. Where a few inputs
             that were clipped make most of a mean error, all others get worse.
    Source   Nagel et al. 2019, arXiv:1906.04721, eq. 17 and appendix D (the empirical form).
    Differs  Inputs of a layer that are rounded count as its own error.
    """

    name: ClassVar[str] = "correct-biases"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    needs_calibration: ClassVar[bool] = True
    include: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        used = context.calls(self.name)
        before = context.exact or program
        after = program.copy()
        selected = Selection(self.include, self.skip)
        notes = [f"pattern {p!r} matches no constant" for p in selected.idle(program.constants)]
        changed = False
        compressed = _Layers(before, after, selected, notes)
        for function, calls in used.items():
            layers = compressed.of(function)
            if layers:
                wanted = _means(before, function, calls, set(layers), context)
                changed |= _correct(after, function, calls, layers, wanted, context, notes)
        if not changed:
            notes.append("nothing to do: no mean output of a compressed layer has changed")
            return PassResult(program.copy(), False, tuple(notes))
        return PassResult(after, True, tuple(notes))


# ------------------------------------------------------------------ which layers
class _Layers:
    """The compressed layers of a function, by the name of their output; each has a bias.

    A weight, and with it its bias, may belong to one layer of each of several functions.
    """

    def __init__(
        self, before: Program, after: Program, selected: Selection, notes: list[str]
    ) -> None:
        self.before, self.after, self.selected, self.notes = before, after, selected, notes
        self.done: set[str] = set()

    def of(self, function: str) -> dict[str, str]:
        """Output of each layer that was in no function before -> its bias."""
        layers: dict[str, str] = {}
        graph, old = self.after.graphs[function], self.before.graphs.get(function)
        known = {} if old is None else old.value_types()
        for node in list(graph.nodes):
            weight = self._weight(node)
            if weight is None or weight in self.done:
                continue
            name = node.output.name
            if name not in known or known[name] != node.output.type:
                self.notes.append(f"%{name}: no such value before compression; left")
            elif why := self._unfit(graph, node, weight):
                self.notes.append(f"%{name}: {why}; left")
            else:
                layers[name] = self._bias(node, weight)
                self.done.add(weight)
        return layers

    def _weight(self, node: Node) -> str | None:
        """The weight of a compressed layer."""
        ref = node.inputs[1] if node.op.name in LAYERS else None
        if ref is None or not ref.startswith("@") or ref[1:] not in self.selected:
            return None
        old, new = self.before.constants.get(ref[1:]), self.after.constants[ref[1:]]
        same = old is not None and old.encoding.digest == new.encoding.digest
        op: Any = node.op
        return None if same and op.activations == "none" else ref[1:]

    def _unfit(self, graph: Graph, node: Node, weight: str) -> str:
        """Why the bias of a layer cannot be changed; "" where it can."""
        if sum(_layer(n, weight) for n in graph.nodes) > 1:
            return f"@{weight} is used more than once"
        if any(_bias(n) != _bias(node) for n in self._layers(weight)):
            return f"@{weight} has another bias in another function"
        bias = _bias(node)
        if bias is None:
            return ""
        if not bias.startswith("@"):
            return "its bias is computed"
        return "" if is_plain(self.after, bias[1:]) else f"bias {bias} is not stored as f32"

    def _layers(self, weight: str) -> list[Node]:
        return [n for g in self.after.graphs.values() for n in g.nodes if _layer(n, weight)]

    def _bias(self, node: Node, weight: str) -> str:
        """The bias of all layers with a weight; made where there is none, or not for them alone."""
        ref, pool = _bias(node), self.after.constants
        if ref is not None and uses(self.after, ref) == len(self._layers(weight)):
            return ref[1:]
        size = int(pool[weight].type.shape[0])
        values = Dense(torch.zeros(size)) if ref is None else pool[ref[1:]].encoding
        made = put_constant(pool, f"{weight}_bias", values)
        for graph in self.after.graphs.values():
            graph.nodes[:] = [
                replace(n, inputs=(*n.inputs[:2], made.ref)) if _layer(n, weight) else n
                for n in graph.nodes
            ]
        return made.name


def _layer(node: Node, weight: str) -> bool:
    """Whether a node is a layer with that weight."""
    return node.op.name in LAYERS and node.inputs[1] == f"@{weight}"


def _bias(node: Node) -> str | None:
    return node.inputs[2] if len(node.inputs) > 2 else None


# ------------------------------------------------------------------ means and errors
def _means(
    program: Program, function: str, calls: Calls, names: set[str], context: Context
) -> Means:
    """Of the named outputs of layers."""
    found = {}
    for visit in visits(program, function, calls, context.steps):
        if visit.node.output.name in names and visit.node.op.name in LAYERS:
            found[visit.node.output.name] = _mean(visit)
    return found


def _mean(visit: Visit) -> Tensor:
    """The mean output of a layer f64[N], over all calls and places; NaN of nothing."""
    total, count = torch.zeros(()).double(), 0
    for operands in visit.operands:
        y: Any = visit.node.op.evaluate(*operands)
        rows = y.movedim(1 if visit.node.op.name == "conv" else -1, -1)
        rows = rows.reshape(-1, rows.shape[-1])
        total, count = total + rows.double().sum(0), count + len(rows)
    return total / count if count else total / 0


def _correct(
    program: Program,
    function: str,
    calls: Calls,
    layers: dict[str, str],
    wanted: Means,
    context: Context,
    notes: list[str],
) -> bool:
    """Take the mean error of each layer off its bias; whether one changed."""
    changed = False
    for visit in visits(program, function, calls, context.steps):
        name = visit.node.output.name
        if name not in layers:
            continue
        if name not in wanted:
            notes.append(f"%{name}: no linear or conv before compression; left")
            continue
        error = _mean(visit) - wanted[name]
        if not bool(error.isfinite().all()):
            notes.append(f"%{name}: NaN or infinite outputs; left")
            continue
        bias = program.constants[layers[name]].encoding.decode()
        made = (bias.double() - error).float()
        if not torch.equal(made, bias):
            program.constants[layers[name]] = Constant(layers[name], Dense(made))
            changed = True
    return changed
