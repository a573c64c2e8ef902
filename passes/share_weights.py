"""share-weights: constants that are equal, or nearly, are stored once for all functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from edgec.context import NOTHING, Context
from edgec.ir import Constant, Dense, Exactness, Node, Program, Value
from edgec.ir.graph import Graph, fresh_name
from edgec.ir.rewrite import rename_constants
from edgec.ops.elementwise import Add
from edgec.ops.linear import Matmul
from edgec.passes.numerics.sharing import cluster
from edgec.passes.vocabulary_use import count_uses
from edgec.passes.weight_pass import WeightPass, relative_error
from edgec.transform import PassResult


@dataclass(frozen=True)
class ShareWeights(WeightPass):
    """Store one constant in place of several that have the same values.

    Given    %y = linear(%x, @a)        %z = linear(%y, @b)         @a = @b
    Result   %y = linear(%x, @a)        %z = linear(%y, @a)

    tolerance   greatest relative error ||w - w'|| / ||w|| of a constant that is replaced by the
                mean of several, weighted by the number of their readers; 0: equal ones alone
    transposed  whether a matrix that only linear layers read may be one that is stored the other
                way round: linear(%x, @b) is then matmul(%x, @a)
    include, skip, min_numel   as in `quantize-weights`

    Keeps    every other node. Constants of any encoding are compared by what is stored; those that
             are replaced by a mean are plain floats, alike in shape and dtype.
    Effect   LOSSY; without a tolerance ROUNDING
    Source   the form that tied embeddings have: Press and Wolf 2016, arXiv:1608.05859.
    Differs  Nothing is trained; what is not alike already is not shared.
    """

    name: ClassVar[str] = "share-weights"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    tolerance: float = 0.0
    transposed: bool = True

    def wrong_options(self) -> list[str]:
        wrong = super().wrong_options()
        if not 0 <= self.tolerance < 1:
            wrong.append(f"tolerance={self.tolerance}, need 0 <= tolerance < 1")
        return wrong

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        after, errors = program.copy(), dict[str, float]()
        notes = self.selected.idle_notes(program.constants)
        after = rename_constants(after, _equal(self._chosen(after)))
        if self.transposed:
            for old, kept in _turned(after, self._chosen(after)):
                _multiply_turned(after, old, kept)
                after = after.drop_unused_constants()
        if self.tolerance:
            after = self._share_near(after, errors)
        changed = len(after.constants) < len(program.constants)
        if not changed:
            notes.append("nothing to do: no two weights are alike")
        return PassResult(after if changed else program, changed, tuple(notes), errors)

    def _chosen(self, program: Program) -> list[Constant]:
        """Constants in use that may be shared, in the order of the pool."""
        used, chosen = count_uses(program), self.selected
        return [
            c
            for name, c in program.constants.items()
            if name in used and name in chosen and not self.too_small(c.encoding.numel)
        ]

    def _share_near(self, program: Program, errors: dict[str, float]) -> Program:
        """One mean in place of constants that are within the tolerance of it."""
        uses, renames = count_uses(program), dict[str, str]()
        alike: dict[tuple[str, object], list[str]] = {}
        for constant in self._chosen(program):
            stored = constant.encoding
            plain = isinstance(stored, Dense) and stored.type.dtype.is_float
            if plain and bool(stored.decode().isfinite().all()):
                key = str(stored.type), getattr(stored, "as_dtype", None)
                alike.setdefault(key, []).append(constant.name)
        for names in alike.values():
            tensors = [program.constants[n].encoding.decode() for n in names]
            for group in cluster(tensors, [uses[n] for n in names], self.tolerance):
                first = names[group.members[0]]
                shared = program.constants[first].encoding.encode(group.mean)
                for i in group.members:
                    errors[names[i]] = relative_error(tensors[i], shared.decode())
                    renames[names[i]] = first
                program.constants[first] = Constant(first, shared)
        renames = {old: new for old, new in renames.items() if old != new}
        return rename_constants(program, renames)


# ------------------------------------------------------------------ equal ones
def _equal(constants: Sequence[Constant]) -> dict[str, str]:
    """Constant -> the first with the same stored values."""
    first: dict[str, str] = {}
    renames: dict[str, str] = {}
    for constant in constants:
        kept = first.setdefault(constant.encoding.digest, constant.name)
        if kept != constant.name:
            renames[constant.name] = kept
    return renames


def _turned(program: Program, constants: Sequence[Constant]) -> Iterator[tuple[str, str]]:
    """(matrix that only linear layers read, the one that is stored transposed)."""
    matrices = [c for c in constants if isinstance(c.encoding, Dense) and c.type.rank == 2]
    stored = {c.encoding.digest: c.name for c in matrices}
    gone: set[str] = set()
    for constant in matrices:
        dense = constant.encoding
        assert isinstance(dense, Dense)
        other = stored.get(replace(dense, values=dense.values.T.contiguous()).digest)
        if other in (None, constant.name) or {other, constant.name} & gone:
            continue
        if _only_layers(program, constant.ref):
            gone.add(constant.name)
            yield constant.name, str(other)


def _only_layers(program: Program, ref: str) -> bool:
    for graph in program.graphs.values():
        for node in graph.nodes:
            if ref not in node.operands:
                continue
            op: Any = node.op
            layer = op.name == "linear" and node.inputs[0] != ref and node.inputs[1] == ref
            x = node.inputs[0] or ""
            if not layer or op.activations != "none" or graph.type(x).rank < 2:
                return False
        if ref in graph.outputs:
            return False
    return True


def _multiply_turned(program: Program, old: str, kept: str) -> None:
    """linear(x, @old, bias) as x @kept + bias."""
    for graph in program.graphs.values():
        nodes: list[Node] = []
        taken = set(graph.value_types())
        for node in graph.nodes:
            made = _product(graph, node, kept, taken) if f"@{old}" in node.operands else [node]
            nodes += made
        graph.nodes[:] = nodes


def _product(graph: Graph, node: Node, kept: str, taken: set[str]) -> list[Node]:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    x, output = node.inputs[0], node.output
    if bias is None:
        return [Node(Matmul(), (x, f"@{kept}"), (output,), node.source)]
    value = Value(fresh_name(f"{output.name}_product", taken), output.type)
    taken.add(value.name)
    return [
        Node(Matmul(), (x, f"@{kept}"), (value,), node.source),
        Node(Add(), (value.name, bias), (output,), node.source),
    ]
