"""The weights of a program in the order of execution, each with H = X X^T of its inputs X.

What all passes share that look at the products of a layer: how the data flow, what happens to a
weight with several uses, and which weights no data reach.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Literal, TypeAlias

from torch import Tensor

from edgec.context import Calibration, Context
from edgec.errors import PassError
from edgec.ir import Program
from edgec.passes.inputs import inputs, is_product, source
from edgec.passes.numerics.gptq import Hessian
from edgec.passes.stream import Visit, visits
from edgec.passes.weight_pass import Account
from edgec.passes.weights import Weight

Calls: TypeAlias = Sequence[Sequence[Tensor]]
Target: TypeAlias = Literal["current", "original"]


def hessians(
    account: Account, context: Context, before: Program | None = None
) -> Iterator[tuple[str, Hessian | None]]:
    """Every weight of the account with its H, None where calibration data meet it in no product.

    The caller stores the weight before it goes on: what follows is computed with what is stored.
    The weights of linear, conv and matmul have an H; tables that are only gathered, convolutions in
    groups, recurrent layers and functions without calls have none and come last. A weight with
    several uses comes once, at the first use, with the H of them all as they were before the pass.

    Where S is less than K, some directions are seen by nothing: a note says so.

    before   a program of the same nodes: H says also how the inputs have drifted from those that
             it has
    Raises PassError without calls, and for nodes that are others in `before`.
    """
    used = context.calls(account.options.name)
    for function in used if before is not None else ():
        assert before is not None
        _check_nodes(account, before, function)
    shared, few = _Shared(account, used).hessians(), dict[str, Hessian]()
    for function, calls in used.items():
        befores = repeat(None) if before is None else visits(before, function, calls)
        now = visits(account.program, function, calls, context.steps)
        for name, hessian in _in_function(account, now, befores, shared):
            if hessian is not None and hessian.rows < len(hessian.matrix):
                few[name] = hessian
            yield name, hessian
    if few:
        account.notes.append(_few(few))
    for name in list(account.weights):
        yield name, None


def _few(few: Mapping[str, Hessian]) -> str:
    name, worst = min(few.items(), key=lambda item: item[1].rows / len(item[1].matrix))
    return (
        f"calibration data are few: {worst.rows} rows for the {len(worst.matrix)} inputs of "
        f"@{name}, and fewer rows than inputs for {len(few)} weights in all; give more data"
    )


def _check_nodes(account: Account, before: Program, function: str) -> None:
    now, then = (p.graphs.get(function) for p in (account.program, before))
    pairs = [[(n.inputs[:2], n.outputs) for n in g.nodes] if g else [] for g in (now, then)]
    if pairs[0] != pairs[1]:
        got = f"target=original, and {function} has other nodes than before compression"
        do = "use target=current, or put what changes the graph before all compression"
        raise PassError(account.options.name, got, "the same nodes", do)


def _in_function(
    account: Account,
    now: Iterable[Visit],
    befores: Iterable[Visit | None],
    shared: dict[str, Hessian],
) -> Iterator[tuple[str, Hessian | None]]:
    """The weights that are first used in one function."""
    key, hessian = None, Hessian(0)
    for visit, before in zip(now, befores, strict=False):
        if not account.weights:
            return
        for name in [r[1:] for r in visit.node.operands if r[1:] in account.weights]:
            weight = account.weights[name]
            if name in shared:
                yield name, shared.pop(name)
            elif not is_product(visit.node, weight):
                yield name, None
            else:  # q, k and v of an attention have one input
                shape = account.program.constants[name].type.shape
                if key != (key := source(visit.node, weight, shape)):
                    hessian = _sum(visit, before, weight)
                yield name, hessian


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


class _Shared:
    """Weights that are used more than once before or in the function of their first product."""

    def __init__(self, account: Account, used: Calibration) -> None:
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
