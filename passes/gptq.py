"""gptq: weights as integer codes, rounded so that their products with real inputs change least."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from edgec.errors import PassError
from edgec.ir import Exactness, Program
from edgec.passes.affine_weights import Account, AffineWeights
from edgec.passes.inputs import inputs, is_product, source
from edgec.passes.numerics.gptq import Hessian, Order, gptq
from edgec.passes.numerics.grid import Grid, Rounded
from edgec.passes.stream import visits
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
    damping           see `edgec.passes.numerics.gptq.gptq`
    order             likewise

    Keeps    every node, type and name; zero exactly. Left and reported as by `quantize-weights`.
    Effect   LOSSY: no row of a weight loses more on the calibration data than by rounding to
             nearest
    Source   Frantar et al. 2022, arXiv:2210.17323.
    Differs  Weights that several functions use are rounded for the first with calls. See
             `edgec.passes.numerics.gptq`.
    """

    name: ClassVar[str] = "gptq"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    needs_calibration: ClassVar[bool] = True
    damping: float = 0.01
    order: Order = "activation"

    def wrong_options(self) -> list[str]:
        wrong = super().wrong_options()
        if not 0 < self.damping < 100:
            wrong.append(f"damping={self.damping}, need 0 < damping < 100")
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
            self._function(account, function, calls, shared)
        for name in list(account.weights):
            _nearest(account, name)
        account.close()
        if not account.errors:
            account.notes.append("nothing to do: no weight was quantized")
        return PassResult(after, bool(account.errors), tuple(account.notes), account.errors)

    def _function(
        self, account: Account, function: str, calls: Calls, shared: dict[str, Tensor]
    ) -> None:
        """Round the weights that are first used in `function`."""
        key, hessian = None, torch.empty(0)
        for visit in visits(account.program, function, calls):
            for name in [r[1:] for r in visit.node.operands if r[1:] in account.weights]:
                weight = account.weights[name]
                if name in shared:
                    self._round(account, name, shared.pop(name))
                elif not is_product(visit.node, weight):
                    _nearest(account, name)
                else:  # q, k and v of an attention have one input
                    if key != (key := source(visit.node, weight)):
                        hessian = _sum(inputs(visit, weight))
                    self._round(account, name, hessian)

    def _round(self, account: Account, name: str, hessian: Tensor) -> None:
        if not bool(hessian.isfinite().all()):
            account.notes.append(f"@{name}: inputs with infinite squares; rounded to nearest")
            account.round(name)
            return

        def rounding(w: Tensor, grid: Grid, kept: Tensor | None) -> Rounded:
            return gptq(w, hessian, grid, self.damping, self.order, kept)

        account.round(name, rounding)


def _sum(rows: Iterable[Tensor]) -> Tensor:
    hessian: Hessian | None = None
    for x in rows:
        hessian = hessian or Hessian(x.shape[1])
        hessian.add(x)
    assert hessian is not None
    return hessian.matrix


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

    def hessians(self) -> dict[str, Tensor]:
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
        return {name: hessian.matrix for name, hessian in found.items()}
