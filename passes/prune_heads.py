"""prune-heads: attention heads that matter least, removed with all that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgec.ir import Program
from edgec.passes.structure.heads import Found, Grouped, find_heads
from edgec.passes.structure.pruning import PruneUnits


@dataclass(frozen=True)
class PruneHeads(PruneUnits):
    """Remove attention heads.

    Given    %y = attention(%q [B, H, T, D], %k, %v, mask?)        %z = linear(.. %y ..)
    Result   %y = attention(%q [B, H - n, T, D], %k, %v, mask?)    %z = linear(.. %y ..)

    With the heads go the rows of their projections, their part of masks and relative biases, of
    the caches in the signature of all functions, and the columns of the projection behind. How they
    are found: `edgec.passes.structure.heads`, `.trace`. Attentions that share weights lose the same
    heads; each other has its own number of them.

    ratio       part of the heads of each layer that goes; at least one head stays
    count       heads of each layer that go; 0: the ratio
    score       what is least of the heads that go, on the calibration data:
                "activation"   mean norm of what a head adds to the output of its layer
                "taylor"       mean of |x . dL/dx| over examples, x the head's output
                "relevance"    the same with the gradients of layer-wise relevance propagation
                "elimination"  power of the layer's output that is lost where the other heads make
                               up for it, heads taken one after the other
                "fisher"       the same, of outputs weighted by what errors in them cost the loss;
                               in one unit for all layers, so it suits `per_layer=False`
                "magnitude"    product of the norms of all weights of a head, without data
    per_layer   False: the least of all layers together, each layer's scores divided by their norm
    layers      numbers of the attentions to prune, in the order of the notes; (): all
    grouped     of grouped-query attention: "groups" of queries go with their keys and values, or
                equally many "queries" of each group
    refit       fit what stays of the projection behind to what it gave before, by least squares
    damping     how strongly its weights are held to what they were
    signature   "prune": also where keys and values are inputs that no state or function feeds

    Keeps    all names, and the outputs' types but for caches. Reported: what lost how many heads,
             what lost none, and why.
    Effect   LOSSY: without `refit` the program with the removed columns of the projection at zero
    Source   "taylor": Michel et al. 2019, arXiv:1905.10650, eq. 2 (losses: `.structure.gradients`);
             "relevance": Voita et al. 2019, arXiv:1905.09418, with the rules of Achtibat et al.
             2024, arXiv:2402.05602; "elimination": Kurtic et al. 2023, arXiv:2302.04089, eq. 3;
             "fisher": van der Ouderaa et al. 2023, arXiv:2312.17244.
    Differs  No labels, no retraining in between. Relevance begins at the loss, as "taylor" does.
    """

    name: ClassVar[str] = "prune-heads"
    grouped: Grouped = "groups"

    @property
    def unit(self) -> str:
        return "heads" if self.grouped == "groups" else "heads of queries"

    def find(self, program: Program) -> Found:
        return find_heads(program, self.signature, self.grouped)
