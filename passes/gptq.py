"""gptq: weights as integer codes, rounded so that their products with real inputs change least."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import ClassVar, Literal, TypeAlias

from torch import Tensor

from edgec.errors import PassError
from edgec.ir import Exactness, Program
from edgec.passes.affine_weights import Account, AffineWeights
from edgec.passes.inputs import inputs, is_product, source
from edgec.passes.numerics.gptq import Hessian, Order, gptq
from edgec.passes.numerics.grid import Grid, Rounded
from edgec.passes.stream import Visit, visits
from edgec.passes.weights import Weight
from edgec.transform import Calibration, PassResult

Calls: TypeAlias = Sequence[Sequence[Tensor]]


@dataclass(frozen=True)
class Gptq(AffineWeights):
    """Store weights as affine codes that keep the layer's outputs on calibration data.

    Given    @w = const f32[N, K] dense                          %y = linear(%x, @w)
    Result   @w = const f32[N, K] affine(bits=4, group=32)       %y = linear(%x, @w)

    Layer by layer in the order of execution, each with the inputs that it gets from the layers that
    have been rounded before. The operands of linear, conv and matmul are treated so; other weights
    (tables that are only gathered, convolutions in groups, recurrent layers, functions without
    calls) are rounded to nearest, and all but the tables are reported. A weight with several uses
    in its function is rounded once, at the first use, for the inputs of them all as they were
    before the pass.

    bits, group, misfits, symmetric, scales, scale_dtype, embeddings, embedding_group, include,
    skip, min_numel   as in `quantize-weights`
    damping, order, sweeps
              see `edgec.passes.numerics.gptq.gptq`
    target    what a layer is to give with the inputs that it gets: "current" outputs, those of its
              weights before; "original" outputs, those of the program before the pass, which makes
              up for the layers before it and needs more data

    Keeps    every node, type and name; zero exactly. Left and reported as by `quantize-weights`.
    Effect   LOSSY: no row of a weight loses more on the calibration data than by rounding the
             target's weights to nearest
    Source   Frantar et al. 2022, arXiv:2210.17323; "original": Li et al. 2025, arXiv:2504.02692.
    Differs  "original" rounds the weights of least squares, see `numerics.gptq.Hessian`. What
             several functions use is rounded for the first of them with calls.
    """

    name: ClassVar[str] = "gptq"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    needs_calibration: ClassVar[bool] = True
    damping: float = 0.01
    order: Order = "activation"
    sweeps: int = 0
    target: Literal["current", "original"] = "current"

    def wrong_options(self) -> list[str]:
        wrong = super().wrong_options()
        if not 0 < self.damping < 100:
            wrong.append(f"damping={self.damping}, need 0 < damping < 100")
        if self.sweeps < 0:
            wrong.append(f"sweeps={self.sweeps}, need sweeps >= 0")
        return wrong

    def apply(self, program: Program) -> PassResult:
        do = "give the recipe a [calibration] table, or use quantize-weights"
        raise PassError(self.name, "no calibration data", "inputs of the model", do)

    def calibrated(self, program: Program, calibration: Calibration) -> PassResult:
        after = program.copy()
        account = Account(self, after)
        used = {name: calls for name in after.graphs if (calls := calibration.get(name))}
        shared = _Shared(account, used).hessians()
        for function, calls in used.items():
            self._function(account, program, function, calls, shared)
        for name in list(account.weights):
            _nearest(account, name)
        account.close()
        if not account.errors:
            account.notes.append("nothing to do: no weight was quantized")
        return PassResult(after, bool(account.errors), tuple(account.notes), account.errors)

    def _function(
        self,
        account: Account,
        program: Program,
        function: str,
        calls: Calls,
        shared: dict[str, Hessian],
    ) -> None:
        """Round the weights that are first used in `function`."""
        key, hessian = None, Hessian(0)
        befores: Iterable[Visit | None] = repeat(None)
        if self.target == "original":
            befores = visits(program, function, calls)
        for visit, before in zip(visits(account.program, function, calls), befores, strict=False):
            for name in [r[1:] for r in visit.node.operands if r[1:] in account.weights]:
                weight = account.weights[name]
                if name in shared:
                    self._round(account, name, shared.pop(name))
                elif not is_product(visit.node, weight):
                    _nearest(account, name)
                else:  # q, k and v of an attention have one input
                    if key != (key := source(visit.node, weight)):
                        hessian = _sum(visit, before, weight)
                    self._round(account, name, hessian)

    def _round(self, account: Account, name: str, hessian: Hessian) -> None:
        if not hessian.is_finite:
            account.notes.append(f"@{name}: inputs with infinite squares; rounded to nearest")
            account.round(name)
            return

        def rounding(w: Tensor, grid: Grid, kept: Tensor | None) -> Rounded:
            w = hessian.corrected(w)
            return gptq(w, hessian.matrix, grid, self.damping, self.order, self.sweeps, kept)

        account.round(name, rounding)


def _sum(visit: Visit, before: Visit | None, weight: Weight) -> Hessian:
    """Over all calls; `before` has what flowed before the pass."""
    rows = inputs(visit, weight)
    originals = repeat(None) if before is None else inputs(before, weight)
    hessian: Hessian | None = None
    for x, original in zip(rows, originals, strict=False):
        hessian = hessian or Hessian(x.shape[1])
        hessian.add(x, original)
    assert hessian is not None
    return hessian


def _nearest(account: Account, name: str) -> None:
    """Round to nearest, and say so where that is not what is to be expected."""
    if account.weights[name].ops != {"gather"}:
        account.notes.append(f"@{name}: no product with calibration data; rounded to nearest")
    account.round(name)


class _Shared:
    """Weights that are used more than once before or in the function of their first product."""

    def __init__(self, account: Account, used: Mapping[str, Calls]) -> None:
        self.account, self.used = account, used
        self.homes: dict[str, str] = {}
        counts: Counter[str] = Counter()
        for function in used:
            nodes = account.program.graphs[function].nodes
            new = [n for n in account.weights if n not in self.homes]
            for name in new:
                weight = account.weights[name]
                counts[name] += sum(f"@{name}" in node.inputs for node in nodes)
                if any(is_product(node, weight) for node in nodes):
                    self.homes[name] = function
        self.names = {name for name in self.homes if counts[name] > 1}

    def hessians(self) -> dict[str, Hessian]:
        """Each weight's, over all its products in that function."""
        found: dict[str, Hessian] = {}
        for function, calls in self.used.items():
            names = {n for n in self.names if self.homes[n] == function}
            if not names:
                continue
            for visit in visits(self.account.program, function, calls):
                for name in names & {ref[1:] for ref in visit.node.operands}:
                    weight = self.account.weights[name]
                    if is_product(visit.node, weight):
                        for x in inputs(visit, weight):
                            found.setdefault(name, Hessian(x.shape[1])).add(x)
        return found
