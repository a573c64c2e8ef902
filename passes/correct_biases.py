"""correct-biases: the mean error that compression gave a layer's outputs, taken off its bias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeAlias

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
Rows: TypeAlias = Literal["equal", "relative"]
"""What each row of a layer's outputs, one place of one call, counts in a mean."""

LEAST = 0.01  # of the mean ||y||^2 of rows: rows of less count as if they had so much


@dataclass(frozen=True)
class CorrectBiases(Pass):
    """Let every compressed layer give, on average, what it gave before it was compressed.

    Given    %y = linear(%x, @w, @b)    @w = const f32[N, K] affine(bits=8)
    Result   %y = linear(%x, @w, @b - (mean of %y - mean of %y before))

    The layers are linear and conv with a weight that is not stored as it was, or with rounded
    inputs; the means, one for each output channel, are those over the calibration data: of its
    rows, the outputs f32[N] at one place of one call. Layers are
    treated in the order of execution, each with the inputs that it gets from the corrected ones
    before it. "Before" is the program ahead of the first lossy pass: behind those that scale
    channels. A layer without a bias gets one.

    rows            what each row counts: "equal"; "relative", 1 / ||y||^2 of the row y before, so
                    that the squared errors relative to it are least: of a transformer, a few tokens
                    with outputs a hundred times as great do not decide for all others
    include, skip   patterns of names of weights

    Keeps    every weight, type and name. Left, and reported: layers whose bias is computed or
             compressed or whose weight has several uses, values that the program did not have
             before. What several functions use is corrected for the first of them with calls.
    Effect   LOSSY: the mean outputs on the calibration data, of rows that count so, are those of
             before. With rows=equal, where a few rows make most of a mean error, all others get
             worse: a sentence embedder in int4 has a cosine of 0.962, 0.935 with equal rows, 0.978
             with relative ones. Two classifiers of digits are alike with both.
    Source   Nagel et al. 2019, arXiv:1906.04721, eq. 17 and appendix D (the empirical form).
    Differs  Inputs of a layer that are rounded count as its own error. There, all rows are equal.
    """

    name: ClassVar[str] = "correct-biases"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    needs_calibration: ClassVar[bool] = True
    rows: Rows = "relative"
    include: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        used = context.calls(self.name)
        before = context.exact or program
        after = program.copy()
        selected = Selection(self.include, self.skip)
        notes = selected.idle_notes(program.constants)
        changed = False
        compressed = _Layers(before, after, selected, notes)
        for function, calls in used.items():
            layers = compressed.of(function)
            if layers:
                wanted = _wanted(before, function, calls, set(layers), self.rows, context)
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
@dataclass(frozen=True)
class _Wanted:
    """Of a layer before: its mean output f64[N], and what rows count, see `_counts`."""

    mean: Tensor
    counts: list[Tensor] | None


def _wanted(
    program: Program, function: str, calls: Calls, names: set[str], rows: Rows, context: Context
) -> dict[str, _Wanted]:
    """Of the named outputs of layers."""
    found = {}
    for visit in visits(program, function, calls, context.steps):
        if visit.node.output.name in names and visit.node.op.name in LAYERS:
            counts = _counts(visit, rows)
            found[visit.node.output.name] = _Wanted(_mean(visit, counts), counts)
    return found


def _outputs(visit: Visit) -> Iterator[Tensor]:
    """f64[S, N] of each call: the rows of a layer's outputs."""
    for operands in visit.operands:
        y: Any = visit.node.op.evaluate(*operands)
        y = y.movedim(1 if visit.node.op.name == "conv" else -1, -1)
        yield y.reshape(-1, y.shape[-1]).double()


def _counts(visit: Visit, rows: Rows) -> list[Tensor] | None:
    """f64[S] of each call; None where all rows count 1."""
    if rows == "equal":
        return None
    powers = [y.square().sum(1) for y in _outputs(visit)]
    least = LEAST * float(torch.cat(powers).mean()) or 1.0
    return [1 / p.clamp_min(least) for p in powers]


def _mean(visit: Visit, counts: list[Tensor] | None) -> Tensor:
    """The mean output of a layer f64[N], over all calls and places; NaN of nothing."""
    total, mass = torch.zeros(()).double(), 0.0
    for i, y in enumerate(_outputs(visit)):
        count = y.new_ones(len(y)) if counts is None else counts[i]
        total, mass = total + count @ y, mass + float(count.sum())
    return total / mass


def _correct(
    program: Program,
    function: str,
    calls: Calls,
    layers: dict[str, str],
    wanted: Mapping[str, _Wanted],
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
        error = _mean(visit, wanted[name].counts) - wanted[name].mean
        if not bool(error.isfinite().all()):
            notes.append(f"%{name}: NaN or infinite outputs; left")
            continue
        bias = program.constants[layers[name]].encoding.decode()
        made = (bias.double() - error).float()
        if not torch.equal(made, bias):
            program.constants[layers[name]] = Constant(layers[name], Dense(made))
            changed = True
    return changed
