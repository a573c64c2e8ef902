"""fuse: find the ops that a model writes out, and fold constants into weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgec.context import NOTHING, Context
from edgec.errors import PassError
from edgec.ir import Exactness, Program
from edgec.ir.rewrite import Rule, rewrite
from edgec.passes.rules import activations, affine, algebra, attention, norms
from edgec.transform import Pass, PassResult

# Rule sets by name, in phases: a scale in front of attention belongs to it, not to the weight.
PHASES: tuple[dict[str, tuple[Rule, ...]], ...] = (
    {"activations": activations.RULES, "norms": norms.RULES, "attention": attention.RULES},
    {"affine": affine.RULES},
)
NAMES = tuple(name for phase in PHASES for name in phase)


@dataclass(frozen=True)
class Fuse(Pass):
    """Replace written-out formulas by the op that they are.

    Given    %s = mul(matmul(%q, %kt), @scale)    %p = softmax(%s)    %y = matmul(%p, %v)
    Result   %y = attention(%q, permute(%kt), %v)

    activations  silu, gelu (erf, tanh and sigmoid forms), hardsigmoid, hardswish
    norms        rms_norm and layer_norm with their weight and bias
    attention    softmax of a product with any scale and mask; repeated heads become grouped ones,
                 a mask of positions the attribute `causal`
    affine       matmul with a stored matrix -> linear; bias, scale and batch norm into linear, conv

    Keeps    names; formulas of which another node reads an inner value
    Effect   ROUNDING. Queries whose keys are all hidden by minus infinity give zeros, not NaN.

    sets   the names of the rule sets to use
    """

    name: ClassVar[str] = "fuse"
    effect: ClassVar[Exactness] = Exactness.ROUNDING
    sets: tuple[str, ...] = NAMES

    def requires(self, program: Program) -> None:
        unknown = [s for s in self.sets if s not in NAMES]
        if unknown:
            raise PassError(self.name, f"sets {', '.join(unknown)}", f"some of {', '.join(NAMES)}")

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        modified = False
        for phase in PHASES:
            rules = [r for name, rules in phase.items() if name in self.sets for r in rules]
            result = rewrite(program, [*algebra.RULES, *rules])
            program, modified = result.program, modified or bool(result.fired)
        return PassResult(program, modified)
