"""awq: inputs of layers scaled so that rounding their weights changes the outputs less."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.ir import Constant, Dense, DType, Exactness, Node, Program, Value
from edgec.ir.graph import Graph, fresh_name, put_constant
from edgec.ops.elementwise import Mul
from edgec.passes.affine_weights import AffineWeights
from edgec.passes.numerics.awq import search
from edgec.passes.numerics.gptq import Hessian
from edgec.passes.stream import Visit, visits
from edgec.passes.weights import Weight, find_weights
from edgec.transform import PassResult


@dataclass(frozen=True)
class Awq(AffineWeights):
    """Scale the inputs of linear layers down and their weights up, per input.

    Given    %x = layer_norm(%h, @g, @b)            %y = linear(%x, @w)
    Result   %x = layer_norm(%h, @g / s, @b / s)    %y = linear(%x, @w s)

    All linear layers that read a value get one s, found for the codes that the same options give in
    `quantize-weights` or `gptq`, one of which is to follow. s goes into the layer_norm, rms_norm or
    linear that makes the value, where nothing else reads it or its weights.

    bits ... min_numel   as in `quantize-weights`, of the pass that follows
    otherwise            where s has no place to go: "leave" the layers, or "multiply" %x by 1 / s

    Keeps    the function, up to rounding. Reported: layers that are left.
    Effect   ROUNDING
    Source   Lin et al. 2023, arXiv:2306.00978; `edgec.passes.numerics.awq`.
    Differs  s is not folded through attention, from the output projection into v.
    """

    name: ClassVar[str] = "awq"
    effect: ClassVar[Exactness] = Exactness.ROUNDING
    needs_calibration: ClassVar[bool] = True
    otherwise: Literal["leave", "multiply"] = "leave"

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        used = context.calls(self.name)
        after = program.copy()
        notes = [
            f"pattern {p!r} matches no constant" for p in self.selected.idle(program.constants)
        ]
        changed = False
        for function, calls in used.items():
            sites = _Sites(self, program, function)
            for visit in visits(program, function, calls, context.steps):
                if site := sites.first_at(visit.node):
                    changed |= self._scale(after, function, site, visit, notes)
        if not changed:
            notes.append("nothing to do: no inputs were scaled")
        return PassResult(after, changed, tuple(notes))

    def _scale(
        self, after: Program, function: str, site: Site, visit: Visit, notes: list[str]
    ) -> bool:
        """Scale one value; whether that was done."""
        name = site.value
        if site.folded is None and self.otherwise == "leave":
            notes.append(f"%{name}: read by more than linear layers, or made by no norm; left")
            return False
        weights = [after.constants[w.name].encoding.decode() for w in site.weights]
        grids = [self.grid(*self.layout(w)) for w in site.weights]
        magnitude, hessian = _statistics([o[0] for o in visit.operands])
        if not bool(hessian.isfinite().all()):
            notes.append(f"%{name}: infinite squares; left")
            return False
        s, left = search([w.float() for w in weights], magnitude, hessian, grids)
        if left >= 1:
            notes.append(f"%{name}: no scale loses less than none; left")
            return False
        for weight, w in zip(site.weights, weights, strict=True):
            _store(after, weight.name, w * s)
        if site.folded is None:
            _multiply(after, function, site, 1 / s)
        for ref in site.folded or ():
            vector = after.constants[ref].encoding.decode()
            _store(after, ref, vector / s.view(-1, *[1] * (vector.dim() - 1)))
        return True


@dataclass(frozen=True)
class Site:
    """A value, the weights of the linear layers that read it, the constants that can take 1 / s."""

    value: str
    weights: tuple[Weight, ...]
    folded: tuple[str, ...] | None


class _Sites:
    """The values of a function that selected linear layers read."""

    def __init__(self, options: Awq, program: Program, function: str) -> None:
        self.options, self.program, self.graph = options, program, program.graphs[function]
        self.found = {name: w for name, w in find_weights(program).items() if self._usable(w)}
        self.users, self.producers = self.graph.users(), self.graph.producers()
        self.done: set[str] = set()

    def _uses(self, ref: str) -> int:
        """Nodes of all functions that read a constant, and outputs."""
        return sum(
            sum(node.inputs.count(ref) for node in g.nodes) + list(g.outputs).count(ref)
            for g in self.program.graphs.values()
        )

    def _usable(self, weight: Weight) -> bool:
        """A plain f32 weight of one linear, which the pass that follows will round."""
        options, stored = self.options, self.program.constants[weight.name].encoding
        plain = _is_plain(self.program, weight.name) and stored.numel >= options.min_numel
        single = weight.ops == {"linear"} and self._uses(f"@{weight.name}") == 1
        chosen = weight.name in options.selected and not options.misfit(stored, weight)
        return plain and single and chosen and bool(stored.decode().isfinite().all())

    def first_at(self, node: Node) -> Site | None:
        """The site of what a linear reads, at the first of its layers."""
        x = node.inputs[0] if node.inputs else None
        if node.op.name != "linear" or x is None or x.startswith("@") or x in self.done:
            return None
        self.done.add(x)
        layers = list(self._layers(x))
        if not layers:
            return None
        alone = len(layers) == len(self.users[x]) and x not in self.graph.outputs
        return Site(x, tuple(layers), self._place(x) if alone else None)

    def _layers(self, x: str) -> Iterator[Weight]:
        for node in self.users[x]:
            w = node.inputs[1] if node.op.name == "linear" else None
            if w is not None and w[1:] in self.found and list(node.operands).count(x) == 1:
                yield self.found[w[1:]]

    def _place(self, x: str) -> tuple[str, ...] | None:
        """The constants of the node that makes x which 1 / s can go into."""
        node = self.producers.get(x)
        if node is None or len(node.inputs) < 2 or node.inputs[1] is None:
            return None
        op: Any = node.op
        norm = op.name == "layer_norm" and op.axes_count == 1
        root = op.name == "rms_norm" and op.axis in (-1, len(node.output.type.shape) - 1)
        if not (norm or root or op.name == "linear"):
            return None
        refs = [ref for ref in node.inputs[1:] if ref is not None]
        constant = all(ref.startswith("@") and self._uses(ref) == 1 for ref in refs)
        if not constant or not all(_is_plain(self.program, ref[1:]) for ref in refs):
            return None
        return tuple(ref[1:] for ref in refs)


def _is_plain(program: Program, name: str) -> bool:
    stored = program.constants[name].encoding
    return isinstance(stored, Dense) and stored.as_dtype is None and stored.type.dtype is DType.F32


def _store(program: Program, name: str, value: Tensor) -> None:
    program.constants[name] = Constant(name, Dense(value))


def _statistics(calls: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
    """Mean |x| f32[K] and X X^T f64[K, K]."""
    rows = [x.reshape(-1, x.shape[-1]) for x in calls if x is not None]
    hessian = Hessian(rows[0].shape[1])
    for x in rows:
        hessian.add(x)
    count = max(1, sum(len(x) for x in rows))
    total = sum((x.double().abs().sum(0) for x in rows), hessian.matrix.new_zeros(()))
    return (total / count).float(), hessian.matrix


def _multiply(program: Program, function: str, site: Site, factor: Tensor) -> None:
    """Let the layers of the site read the value times `factor`."""
    graph: Graph = program.graphs[function]
    constant = put_constant(program.constants, f"{site.value}.scale", Dense(factor))
    scaled = Value(fresh_name(f"{site.value}_scaled", graph.value_types()), graph.type(site.value))
    refs = {f"@{w.name}" for w in site.weights}
    nodes: list[Node] = []
    for node in graph.nodes:
        if refs & set(node.operands):
            if not any(scaled in n.outputs for n in nodes):
                nodes.append(Node(Mul(), (site.value, constant.ref), (scaled,), node.source))
            node = node.renamed({site.value: scaled.name})
        nodes.append(node)
    graph.nodes[:] = nodes
