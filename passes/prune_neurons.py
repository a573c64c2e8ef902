"""prune-neurons: hidden units of feed-forward blocks and channels between convolutions, removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from edgec.ir import Program
from edgec.passes.numerics.units import Candidates
from edgec.passes.structure.feed_forward import find_neurons
from edgec.passes.structure.heads import Found, Structure
from edgec.passes.structure.pruning import PruneUnits


@dataclass(frozen=True)
class PruneNeurons(PruneUnits):
    """Remove hidden units between two layers.

    Given    %h = relu(linear(%x, @a [F, E], ..))        %y = linear(%h, @b [E, F], ..)
    Result   %h = relu(linear(%x, @a [F - n, E], ..))    %y = linear(%h, @b [E, F - n], ..)

    Also gated blocks, with the products for gate and value in one or two, 1x1 and other
    convolutions with batch norms, depthwise ones and activations between. How they are found:
    `edgec.passes.structure.feed_forward`.

    ratio, count, score, per_layer, layers, refit, damping, signature   as in `prune-heads`
    multiple    the number of units that stay is one of it
    least       layers with fewer units stay

    Keeps    every node, all names, and the types of inputs and outputs. Reported: what lost units.
    Effect   LOSSY: without `refit` the program with the removed columns of the second layer at zero
    Source   as `prune-heads`; fit: He et al. 2017, arXiv:1707.06168, eq. 4, and the bias as An et
             al. 2023, arXiv:2312.11983, eq. 6.
    Differs  The fit is to the outputs of the program before the pass, with the inputs that the
             layer gets after all layers in front of it were pruned.
    """

    name: ClassVar[str] = "prune-neurons"
    multiple: int = 8
    least: int = 16

    def wrong_options(self) -> list[str]:
        wrong = super().wrong_options()
        if self.multiple < 1:
            wrong.append(f"multiple={self.multiple}, need multiple >= 1")
        if self.least < 2:
            wrong.append(f"least={self.least}, need least >= 2")
        return wrong

    @property
    def unit(self) -> str:
        return "hidden units"

    def find(self, program: Program) -> Found:
        found = find_neurons(program, self.least, self.signature)
        return Found(found.structures, [])  # what is refused is no feed-forward block

    def candidates(self, structure: Structure, scores: Tensor) -> Candidates:
        return Candidates(scores, multiple=self.multiple)
