"""equalize-layers: channels between two layers scaled so that the weights of both are alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.errors import PassError
from edgec.ir import Constant, Dense, Exactness, Node, Program, dims
from edgec.ir.graph import Graph, put_constant
from edgec.passes.input_scaling import is_plain, uses
from edgec.passes.numerics.equalization import equalization, reads, scaled_inputs, writes
from edgec.passes.weight_pass import relative_error
from edgec.passes.weights import Selection
from edgec.transform import Pass, PassResult

ENOUGH = 1e-4  # a round whose greatest |log s| is less is the last one


@dataclass(frozen=True)
class EqualizeLayers(Pass):
    """Scale what flows between two layers, channel by channel, so that both have one range.

    Given    %y = conv(%x, @w, @b)            %a = relu(%y)    %z = conv(%a, @v)
    Result   %y = conv(%x, @w / s, @b / s)    %a = relu(%y)    %z = conv(%a, @v s)

    Layers are conv, in groups too, and linear, whose weights are plain and read by nothing else.
    Between two may be what gives c f(x) for c x, c > 0, channel by channel: relu, leaky_relu,
    prelu, pools, means over pixels, zeros around an image; and nothing else may read it. Chains of
    layers are treated pair by pair until no scale changes. Batch norms are folded by the clean-up.

    rounds          at most so many times over all pairs
    include, skip   patterns of names of weights; a pair is scaled where both are selected

    Keeps    the function, up to rounding. Reported: pairs with a clamp (relu6) between them.
    Effect   ROUNDING
    Source   Nagel et al. 2019, arXiv:1906.04721, eq. 11; `edgec.passes.numerics.equalization`.
    Differs  relu6 is not replaced by relu; high biases are not absorbed.
    """

    name: ClassVar[str] = "equalize-layers"
    effect: ClassVar[Exactness] = Exactness.ROUNDING
    rounds: int = 40
    include: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise PassError(self.name, f"rounds={self.rounds}", "rounds >= 1")

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        after = program.copy()
        selected = Selection(self.include, self.skip)
        notes = selected.idle_notes(program.constants)
        pairs = [p for g in after.graphs.values() for p in _Pairs(after, g, selected, notes)]
        for i in range(self.rounds if pairs else 0):
            context.steps(i, self.rounds)
            if max(_equalize(after, pair) for pair in pairs) < ENOUGH:
                break
        names = {n for pair in pairs for n in (pair.first, pair.second)}
        changed = [n for n in names if _moved(program, after, n)]
        if not changed:
            notes.append("nothing to do: no two layers whose channels differ in range")
            return PassResult(program.copy(), False, tuple(notes))
        return PassResult(after, True, tuple(notes))


@dataclass(frozen=True)
class Pair:
    """Names of two weights, of the first layer's bias, and the second's groups."""

    first: str
    bias: str | None
    second: str
    groups: int


def _moved(before: Program, after: Program, name: str) -> bool:
    return relative_error(*(p.constants[name].encoding.decode() for p in (before, after))) > 0


def _equalize(program: Program, pair: Pair) -> float:
    """Scale one pair; the greatest |log s|."""
    w, v = (program.constants[n].encoding.decode() for n in (pair.first, pair.second))
    s = equalization(writes(w), reads(v, pair.groups))
    _store(program, pair.first, w.double() / s.reshape(-1, *[1] * (w.dim() - 1)))
    _store(program, pair.second, scaled_inputs(v.double(), pair.groups, s))
    if pair.bias is not None:
        _store(program, pair.bias, program.constants[pair.bias].encoding.decode().double() / s)
    return float(s.log().abs().max())


def _store(program: Program, name: str, value: Tensor) -> None:
    program.constants[name] = Constant(name, Dense(value.float()))


# ------------------------------------------------------------------ which layers
class _Pairs:
    """The pairs of a function, and notes of clamps between two layers."""

    def __init__(
        self, program: Program, graph: Graph, selected: Selection, notes: list[str]
    ) -> None:
        self.program, self.graph, self.selected, self.notes = program, graph, selected, notes
        self.users = graph.users()

    def __iter__(self) -> Iterator[Pair]:
        for node in list(self.graph.nodes):
            if (first := self._weight(node)) is None:
                continue
            bias = node.inputs[2] if len(node.inputs) > 2 else None
            if bias is not None and not self._plain(bias):
                continue
            found = self._next(node)
            second = None if found is None else self._weight(found)
            if found is not None and second is not None:
                own = None if bias is None else self._own_bias(node, bias)
                yield Pair(first, own, second, getattr(found.op, "groups", 1))

    def _plain(self, ref: str) -> bool:
        """Whether an operand is a constant of plain, finite numbers."""
        if not ref.startswith("@") or not is_plain(self.program, ref[1:]):
            return False
        return bool(self.program.constants[ref[1:]].encoding.decode().isfinite().all())

    def _weight(self, node: Node) -> str | None:
        """The weight of a layer that can be scaled."""
        if node.op.name not in ("conv", "linear") or node.inputs[1] is None:
            return None
        ref, rounded = node.inputs[1], getattr(node.op, "activations", "none") == "static"
        own = self._plain(ref) and uses(self.program, ref) == 1
        return ref[1:] if own and ref[1:] in self.selected and not rounded else None

    def _own_bias(self, node: Node, ref: str) -> str:
        """The layer's bias; a copy of it where another layer has an equal one."""
        if uses(self.program, ref) == 1:
            return ref[1:]
        pool = self.program.constants
        copy = put_constant(pool, f"{ref[1:]}_own", pool[ref[1:]].encoding)
        self.graph.nodes[:] = [
            replace(n, inputs=(*n.inputs[:2], copy.ref)) if n is node else n
            for n in self.graph.nodes
        ]
        return copy.name

    def _next(self, node: Node) -> Node | None:
        """The layer that alone reads the channels of another one, nothing but scales between."""
        axis = 1 if node.op.name == "conv" else node.output.type.rank - 1
        clamped = ""
        while (reader := self._reader(node.output.name)) is not None:
            if reader.op.name in ("conv", "linear"):
                fits = reader.inputs[0] == node.output.name and axis == _channel_axis(reader, node)
                if fits and clamped and self._weight(reader):
                    self.notes.append(f"%{clamped}: a clamp between two layers; left")
                return reader if fits and not clamped else None
            if reader.op.name == "clamp":
                clamped = reader.output.name
            elif (moved := self._through(reader, node, axis)) is None:
                return None
            else:
                axis = moved
            node = reader
        return None

    def _reader(self, name: str) -> Node | None:
        readers = self.users.get(name, [])
        once = len(readers) == 1 and name not in self.graph.outputs
        return readers[0] if once and list(readers[0].operands).count(name) == 1 else None

    def _through(self, node: Node, before: Node, axis: int) -> int | None:
        """The axis of the channels behind a node that scales with its input; None for others."""
        op: Any = node.op
        if node.inputs[0] != before.output.name:
            return None
        match op.name:
            case "relu" | "leaky_relu" | "prelu" | "max_pool" | "avg_pool" | "adaptive_avg_pool":
                return axis
            case "pad" if op.mode == "constant" and op.value == 0 and op.pads[axis] == (0, 0):
                return axis
            case "reduce_mean":
                reduced = {a % before.output.type.rank for a in op.axes}
                gone = 0 if op.keep else sum(a < axis for a in reduced)
                return None if axis in reduced else axis - gone
            case "reshape":
                return _same_channels(before, node, axis)
        return None


def _channel_axis(layer: Node, before: Node) -> int:
    """Where a layer looks for channels in what it reads."""
    return 1 if layer.op.name == "conv" else before.output.type.rank - 1


def _same_channels(before: Node, node: Node, axis: int) -> int | None:
    """The axis, where a reshape only drops or adds axes of size 1 behind it."""
    old, new = before.output.type.shape, node.output.type.shape
    kept = len(new) > axis and all(map(dims.same, old[: axis + 1], new[: axis + 1]))
    return axis if kept and all(d == 1 for d in (*old[axis + 1 :], *new[axis + 1 :])) else None
