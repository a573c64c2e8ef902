"""quantize-weights: weights as integer codes of 2 to 8 bits with scales, by rounding to nearest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from edgec.context import NOTHING, Context
from edgec.ir import Exactness, Node, Program
from edgec.passes.affine_weights import AffineWeights
from edgec.passes.byte_weights import byte_weight
from edgec.passes.weight_pass import Account
from edgec.passes.weights import Selection
from edgec.transform import PassResult


@dataclass(frozen=True)
class QuantizeWeights(AffineWeights):
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
    scales            "mse": the least squared error; "absmax": the whole range, nothing is clipped;
                      "percentile": that of `percentile` % of them, by |w|, or with zero points
                      without the same part at either end
    scale_dtype       dtype that scales are stored in, rounded before the codes are computed
    embeddings        bits of tables that are gathered from; 0: as all others
    embedding_group   their group; None: as all others, or whole rows where their bits differ
    outliers          part of the weights, at most 0.01, that are kept in 16 bits beside the codes:
                      those whose removal gains most, see `edgec.passes.numerics.outliers`
    activations       how linear and conv quantize what flows into an 8-bit weight when they run
    include, skip     patterns of names of constants
    min_numel         smaller weights stay as they are

    Keeps    every node, type and name; zero exactly. Left as they are and reported: weights whose K
             the group does not divide, small ones, ones with NaN or inf, other matrices.
    Effect   LOSSY: |w - w'| <= scale / 2 with absmax
    Source   Jacob et al. 2017, arXiv:1712.05877, eq. 1; scales: `edgec.passes.numerics.affine`;
             outliers: Dettmers et al. 2022, arXiv:2208.07339, and 2023, arXiv:2306.03078.
    Differs  Symmetric codes of whole rows leave out -2^(bits-1), which some kernels misread.
    """

    name: ClassVar[str] = "quantize-weights"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    activations: Literal["none", "dynamic", "dynamic_token"] = "none"

    def wrong_options(self) -> list[str]:
        wrong = super().wrong_options()
        if self.activations != "none" and self.bits != 8:
            wrong.append(f"activations={self.activations} with bits={self.bits}, need bits=8")
        if self.activations != "none" and self.outliers:
            wrong.append(f"activations={self.activations}, need outliers=0: integer products")
        return wrong

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        after = program.copy()
        account = Account(self, after)
        for name in list(account.weights):
            self.round(account, name)
        errors, notes = account.errors, account.notes
        changed = self._set_activations(after, self.selected)
        account.close("" if changed else "quantized")
        return PassResult(after, bool(errors) or changed, tuple(notes), errors)

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
        """Where the attribute is none: a scale that was calibrated is kept."""
        current = getattr(node.op, "activations", self.activations)
        if current in (self.activations, "static"):
            return False
        name = byte_weight(node, program)
        return name is not None and name in selected
