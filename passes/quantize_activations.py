"""quantize-activations: inputs of 8-bit layers as 8-bit codes, by a scale from calibration data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.errors import PassError
from edgec.ir import Exactness, Node, Program
from edgec.passes.byte_weights import byte_weight
from edgec.passes.numerics.observers import Observer, observe, scale_and_zero
from edgec.passes.stream import Visit, visits
from edgec.passes.weights import Selection
from edgec.transform import Pass, PassResult


@dataclass(frozen=True)
class QuantizeActivations(Pass):
    """Round what 8-bit layers read to 256 values that calibration data asked for.

    Given    @w = const f32[N, K] affine(bits=8)    %y = linear(%x, @w)
    Result   @w = const f32[N, K] affine(bits=8)    %y = linear(%x, @w) {activations=static, ...}

    The nodes are those linear and conv whose weight has 8-bit codes: `quantize-weights{bits=8}` or
    `gptq{bits=8}` comes before. One scale and zero point for all of %x, found for %x as it is
    without any rounding of activations.

    observer        how the range of %x is found: all of it "minmax", a "percentile" of it, the
                    least "entropy" of what is lost, or the least squared error "mse"; see
                    `edgec.passes.numerics.observers`
    percent         part of the values that "percentile" keeps
    include, skip   patterns of names of weights

    Keeps    every weight, type and name. Left, and reported: nodes that quantize their inputs
             already, and inputs that no finite data reach. All else stays in floating point:
             products of attention, norms, layers with other weights.
    Effect   LOSSY
    Source   Jacob et al. 2017, arXiv:1712.05877, sec. 3; Migacz 2017 ("entropy").
    Differs  What layers read is rounded, not what they give: sums and biases stay as they are.
    """

    name: ClassVar[str] = "quantize-activations"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    needs_calibration: ClassVar[bool] = True
    observer: Observer = "mse"
    percent: float = 99.99
    include: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 50 < self.percent <= 100:
            raise PassError(self.name, f"percent={self.percent}", "50 < percent <= 100")

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        used = context.calls(self.name)
        after = program.copy()
        selected = Selection(self.include, self.skip)
        notes = selected.idle_notes(program.constants)
        changed = False
        for name, graph in after.graphs.items():
            chosen = {
                n.output.name for n in graph.nodes if self._takes(n, program, selected, notes)
            }
            if chosen and name not in used:
                notes.append(f"{name}: no calibration data; {len(chosen)} layers left")
            elif chosen:
                found = _observed(self, program, name, chosen, context, notes)
                graph.nodes[:] = [_static(n, found) for n in graph.nodes]
                changed |= bool(found)
        if not changed:
            notes.append("nothing to do: no layer with 8-bit weights and inputs to observe")
        return PassResult(after, changed, tuple(notes))

    def _takes(self, node: Node, program: Program, selected: Selection, notes: list[str]) -> bool:
        weight = byte_weight(node, program)
        if weight is None or weight not in selected:
            return False
        op: Any = node.op
        if op.activations != "none":
            notes.append(f"%{node.output.name}: activations={op.activations} already; left")
        return bool(op.activations == "none")


Found = dict[str, tuple[float, int]]
"""Scale and zero point of the inputs of a layer, by the name of its output."""


def _observed(
    options: QuantizeActivations,
    program: Program,
    function: str,
    chosen: set[str],
    context: Context,
    notes: list[str],
) -> Found:
    """Of the chosen layers of a function, those whose inputs can be quantized."""
    found: Found = {}
    seen: dict[str | None, tuple[float, int] | str] = {}  # q, k and v of an attention read one x
    calls = context.calls(options.name)[function]
    for visit in visits(program, function, calls, context.steps):
        name, x = visit.node.output.name, next(iter(visit.node.inputs), None)
        if name not in chosen:
            continue
        if x not in seen:
            seen[x] = _range(options, _first(visit))
        made = seen[x]
        if isinstance(made, str):
            notes.append(f"%{name}: {made}; left")
        else:
            found[name] = made
    return found


def _first(visit: Visit) -> list[Tensor]:
    """The first operand in all calls."""
    return [o[0] for o in visit.operands if o[0] is not None]


def _range(options: QuantizeActivations, xs: Sequence[Tensor]) -> tuple[float, int] | str:
    """Scale and zero point of what a layer reads, or why there is none."""
    if not any(x.numel() for x in xs):
        return "its inputs are empty in all calls"
    if not all(bool(x.isfinite().all()) for x in xs):
        return "NaN or infinite inputs"
    return scale_and_zero(*observe(xs, options.observer, options.percent))


def _static(node: Node, found: Found) -> Node:
    if node.output.name not in found:
        return node
    scale, zero = found[node.output.name]
    op: Any = node.op
    return replace(node, op=replace(op, activations="static", x_scale=scale, x_zero=zero))
