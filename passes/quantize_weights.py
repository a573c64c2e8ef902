"""quantize-weights: weights as integer codes of 2 to 8 bits with scales, by rounding to nearest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch

from edgec.errors import PassError
from edgec.ir import Affine, Constant, Dense, DType, Encoding, Exactness, Node, Program, Sparse
from edgec.ir.encodings.rows import from_rows, rows_shape, to_rows
from edgec.passes.numerics.affine import Codes, choose_scales, quantize
from edgec.passes.weights import Selection, Weight, find_other_matrices, find_weights
from edgec.transform import Pass, PassResult


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Store weights as affine codes; what a node computes with is scale * (code - zero).

    Given    @w = const f32[N, K] dense                          %y = linear(%x, @w)
    Result   @w = const f32[N, K] affine(bits=4, group=32)       %y = linear(%x, @w)

    Weights are the operands of linear, conv, conv_transpose, lstm, gru, rnn, matrices of a matmul,
    and the tables of gather; a matrix shared by an embedding and an output layer is stored once,
    scaled per row, for both. The values of a Sparse are quantized under its mask.

    bits              2..8
    group             G: weights of a row that share a scale; 0: the whole row
    misfits           a weight whose K the group does not divide: "leave" it as it is, give it one
                      scale for whole "rows", or "fail"
    symmetric         False: a zero point per scale
    scales            "mse": the least squared error; "absmax": the whole range, nothing is clipped
    scale_dtype       dtype that scales are stored in, rounded before the codes are computed
    embeddings        bits of tables that are gathered from; 0: as all others
    embedding_group   their group; None: as all others, or whole rows where their bits differ
    activations       how linear and conv quantize what flows into an 8-bit weight when they run
    include, skip     patterns of names of constants
    min_numel         smaller weights stay as they are

    Keeps    every node, type and name; zero exactly. Left as they are and reported: weights whose K
             the group does not divide, small ones, ones with NaN or inf, other matrices.
    Effect   LOSSY: |w - w'| <= scale / 2 with absmax
    Source   Jacob et al. 2017, arXiv:1712.05877, eq. 1; scales: `edgec.passes.numerics.affine`.
    Differs  Symmetric codes of whole rows leave out -2^(bits-1), which some kernels misread.
    """

    name: ClassVar[str] = "quantize-weights"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    bits: int = 8
    group: int = 0
    misfits: Literal["leave", "rows", "fail"] = "leave"
    symmetric: bool = True
    scales: Literal["mse", "absmax"] = "mse"
    scale_dtype: Literal["bf16", "f16", "f32"] = "bf16"
    embeddings: int = 0
    embedding_group: int | None = None
    activations: Literal["none", "dynamic", "dynamic_token"] = "none"
    include: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    min_numel: int = 256

    def __post_init__(self) -> None:
        wrong = []
        if not 2 <= self.bits <= 8:
            wrong.append(f"bits={self.bits}, need 2 <= bits <= 8")
        if self.embeddings and not 2 <= self.embeddings <= 8:
            wrong.append(f"embeddings={self.embeddings}, need 0 or 2 <= embeddings <= 8")
        for option in ("group", "embedding_group", "min_numel"):
            if (getattr(self, option) or 0) < 0:
                wrong.append(f"{option}={getattr(self, option)}, need {option} >= 0")
        if self.activations != "none" and self.bits != 8:
            wrong.append(f"activations={self.activations} with bits={self.bits}, need bits=8")
        if wrong:
            raise PassError(self.name, "; ".join(wrong))

    def requires(self, program: Program) -> None:
        if self.misfits == "fail":
            selected = Selection(self.include, self.skip)
            weights = (w for n, w in find_weights(program).items() if n in selected)
            wrong = [f"@{w.name}: {m}" for w in weights if (m := self._misfit(program, w))]
            if wrong:
                raise PassError(self.name, "; ".join(wrong), "", "set misfits, group or skip")

    def apply(self, program: Program) -> PassResult:
        after = program.copy()
        selected = Selection(self.include, self.skip)
        notes = [f"pattern {p!r} matches no constant" for p in selected.idle(program.constants)]
        errors = self._quantize(after, selected, notes)
        notes += [
            f"@{name}: used by {', '.join(ops)}, as the weight of none; left dense"
            for name, ops in find_other_matrices(program, self.min_numel).items()
            if name in selected
        ]
        changed = self._set_activations(after, selected)
        if not errors and not changed:
            notes.append("nothing to do: no weight was quantized")
        return PassResult(after, bool(errors) or changed, tuple(notes), errors)

    def _quantize(
        self, program: Program, selected: Selection, notes: list[str]
    ) -> dict[str, float]:
        """Replace the constants of `program`; their relative errors. Adds notes on what is left."""
        errors: dict[str, float] = {}
        compressed: list[str] = []
        for name, weight in find_weights(program).items():
            if name not in selected:
                continue
            before = program.constants[name].encoding
            if not isinstance(before, Dense) and not _is_sparse_dense(before):
                compressed.append(f"@{name}")
                continue
            misfit = self._misfit(program, weight)
            leave = misfit and self.misfits == "leave"
            made = misfit if leave else self._encode(before, weight, rows=bool(misfit))
            if isinstance(made, str):
                notes.append(f"@{name}: {made}; left {before.describe()}")
                continue
            if misfit:
                notes.append(f"@{name}: {misfit}; one scale per row")
            program.constants[name] = Constant(name, made)
            errors[name] = relative_error(before.decode(), made.decode())
        if compressed:
            notes.append(f"compressed already, left as they are: {', '.join(compressed)}")
        return errors

    def _layout(self, weight: Weight) -> tuple[int, int]:
        """(bits, group) for a weight."""
        if not weight.is_table or (not self.embeddings and self.embedding_group is None):
            return self.bits, self.group
        bits = self.embeddings or self.bits
        same = self.group if bits == self.bits else 0
        return bits, same if self.embedding_group is None else self.embedding_group

    def _misfit(self, program: Program, weight: Weight) -> str:
        """How the group does not fit a weight that is large enough; "" where it does."""
        stored, group = program.constants[weight.name].encoding, self._layout(weight)[1]
        shape = tuple(int(d) for d in stored.type.shape)
        if not group or stored.numel < max(1, self.min_numel):
            return ""
        length = rows_shape(shape, weight.axis)[1]
        return f"K={length}; need a multiple of group={group}" if length % group else ""

    def _encode(self, before: Encoding, weight: Weight, rows: bool) -> Encoding | str:
        """The compressed form of one weight, or why it has none; `rows`: one scale per row."""
        bits, group = self._layout(weight)
        made = self._encode_dense(before.decode(), weight.axis, bits, 0 if rows else group)
        if isinstance(before, Sparse) and not isinstance(made, str):
            return replace(before, values=made)
        return made

    def _encode_dense(self, dense: torch.Tensor, axis: int, bits: int, group: int) -> Affine | str:
        w = dense.float()
        if w.numel() < max(1, self.min_numel):
            return f"{w.numel()} weights; need {self.min_numel} (min_numel)"
        if not bool(w.isfinite().all()):
            return "NaN or infinite weights; need finite ones"
        rows = to_rows(w, axis)
        blocks = rows.unflatten(1, (-1, group or rows.shape[1]))
        codes = Codes.of(bits, narrow=self.symmetric and not group)
        dtype = DType(self.scale_dtype).torch_dtype
        scale, zero = choose_scales(blocks, codes, dtype, self.symmetric, self.scales)
        if not bool(scale.isfinite().all()):
            return f"scales beyond the range of {self.scale_dtype}; need bf16 or f32"
        rounded = quantize(blocks, scale, zero, codes).flatten(1)
        stored = from_rows(rounded, tuple(w.shape), axis)
        return Affine(stored, scale, zero, bits, axis, group, DType.of(dense.dtype))

    def _set_activations(self, program: Program, selected: Selection) -> bool:
        """Set the attribute of the nodes whose weight has 8-bit codes; whether one changed."""
        if self.activations == "none":
            return False
        changed = False

        def rewritten(node: Node) -> Node:
            nonlocal changed
            if not self._takes_activations(node, program, selected):
                return node
            changed = True
            op: Any = node.op
            return replace(node, op=replace(op, activations=self.activations))

        for graph in program.graphs.values():
            graph.nodes[:] = [rewritten(n) for n in graph.nodes]
        return changed

    def _takes_activations(self, node: Node, program: Program, selected: Selection) -> bool:
        ref = node.inputs[1] if len(node.inputs) > 1 else None
        current = getattr(node.op, "activations", self.activations)
        if ref is None or not ref.startswith("@") or current == self.activations:
            return False
        stored = program.constants[ref[1:]].encoding
        if isinstance(stored, Sparse):
            stored = stored.values
        return ref[1:] in selected and isinstance(stored, Affine) and stored.bits == 8


def _is_sparse_dense(stored: Encoding) -> bool:
    """A mask over plain values, which can be quantized under it."""
    return isinstance(stored, Sparse) and isinstance(stored.values, Dense)


def relative_error(before: torch.Tensor, after: torch.Tensor) -> float:
    """||before - after|| / ||before||, 0 for no difference."""
    before, after = before.double(), after.double()
    return float((before - after).norm() / before.norm().clamp_min(torch.finfo(torch.float64).tiny))
