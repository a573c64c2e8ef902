"""factorize-embeddings: a table of V rows of E numbers as V rows of R, and one matrix R x E."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.ir import Dense, Encoding, Exactness, Node, Program, Value
from edgec.ir.graph import Graph, fresh_name, put_constant
from edgec.ops.linear import Linear, Matmul
from edgec.passes.hessians import hessians
from edgec.passes.low_rank_weights import LowRankWeights, Spectrum
from edgec.passes.numerics.low_rank import RowDecomposition, decompose_rows, row_factors
from edgec.passes.stream import visits
from edgec.passes.weight_pass import Account
from edgec.passes.weights import Weight
from edgec.transform import PassResult

Factors = tuple[Tensor, Tensor]
"""codes f32[V, R] and basis f32[R, E]."""


@dataclass(frozen=True)
class FactorizeEmbeddings(LowRankWeights):
    """Replace a table that is gathered from by one of R numbers a row, and a matrix R x E.

    Given    %x = gather(@t, %ids)                      @t = f32[V, E]
             %y = linear(%h, @t, @b)                    where the output layer shares it
    Result   %t_codes = gather(@t.codes, %ids)          @t.codes = f32[V, R]
             %x = matmul(%t_codes, @t.basis)            @t.basis = f32[R, E]
             %h_codes = linear(%h, @t.basis)
             %y = linear(%h_codes, @t.codes, @b)

    The table is stored once for all uses in all functions.

    rank, error, ratio   one of them: R; the greatest relative error of the table, with its score;
                         bytes of the table after / before (without any: 0.75)
    spread    what `ratio` is of: "all" tables together, or "each" by itself
    score     "plain": all rows count alike; "frequency": as often as calibration data read them;
              "activation": so too, and an output layer that shares the table is to give the same
              for its inputs in the data
    smoothing how often a row counts beyond that, as a part of the mean over the rows
    balance   what that output layer counts, against the rows that are read: 0 to 1, less than 1
    multiple, misfits, include, skip, min_numel   as in `factorize-weights`

    Keeps    every other node, and the names of results. Left and reported: tables that something
             else reads, or with one index at a time; compressed ones.
    Effect   LOSSY: no other table of that rank has a smaller error with its score
    Source   Lan et al. 2019, arXiv:1909.11942, sec. 3.1, for the form; Chen et al. 2018,
             arXiv:1806.06950, for factors weighted by frequency.
    Differs  One block for all rows; nothing is trained.
    """

    name: ClassVar[str] = "factorize-embeddings"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    score: Literal["plain", "frequency", "activation"] = "plain"
    smoothing: float = 1.0
    balance: float = 0.5

    @property
    def needs_calibration(self) -> bool:  # type: ignore[override]
        return self.score != "plain"

    def wrong_options(self) -> list[str]:
        wrong = super().wrong_options()
        if not 0 < self.smoothing < 1e6:
            wrong.append(f"smoothing={self.smoothing}, need smoothing > 0")
        if not 0 <= self.balance < 1:
            wrong.append(f"balance={self.balance}, need 0 <= balance < 1")
        return wrong

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        after = program.copy()
        account = Account(self, after)
        self._choose(account)
        counts = {} if self.score == "plain" else self._counts(account, context)
        metrics = self._metrics(account, context) if self.score == "activation" else {}
        found: dict[str, Factors] = {}
        decomposed = {
            name: decompose_rows(table, counts.get(name), metrics.get(name))
            for name in account.weights
            if (table := self._table(program, name)) is not None
        }
        ranks = None
        if self.part and self.spread == "all" and decomposed:
            ranks = self.allocated([self._spectrum(program, n, d) for n, d in decomposed.items()])
        for name in list(account.weights):
            made = self._factorize(account, name, decomposed.get(name), ranks)
            found.update({} if made is None else {name: made})
        for name, (codes, basis) in found.items():
            _split_table(after, program.constants[name].encoding, name, codes, basis)
        account.close("factorized")
        return PassResult(after, bool(found), tuple(account.notes), account.errors)

    def _choose(self, account: Account) -> None:
        """Keep the tables, note those that cannot be treated."""
        for name, weight in list(account.weights.items()):
            reason = _unfit(account.program, weight) if weight.is_table else "no table"
            if reason:
                del account.weights[name]
            if reason not in ("", "no table"):
                account.notes.append(f"@{name}: {reason}; left as it is")

    # -------------------------------------------------------------- what rows count
    def _counts(self, account: Account, context: Context) -> dict[str, Tensor]:
        """f64[V]: how often calibration data read each row of each table, smoothed."""
        program = account.program
        counts = {
            name: torch.zeros(int(program.constants[name].type.shape[0]), dtype=torch.float64)
            for name in account.weights
        }
        for function, calls in context.calls(self.name).items():
            for visit in visits(program, function, calls, context.steps):
                name = (visit.node.inputs or ("",))[0]
                if visit.node.op.name != "gather" or name is None or name[1:] not in counts:
                    continue
                seen = counts[name[1:]]
                for operands in visit.operands:
                    assert operands[1] is not None
                    seen += torch.bincount(operands[1].reshape(-1), minlength=len(seen))
        for name, seen in counts.items():
            if not float(seen.sum()):
                account.notes.append(f"@{name}: no calibration data read it; plain score")
        return {n: c + self.smoothing * (float(c.mean()) or 1.0) for n, c in counts.items()}

    def _metrics(self, account: Account, context: Context) -> dict[str, Tensor]:
        """f64[E, E], of mean diagonal 1: what errors of rows count in the output layers."""
        scratch = Account(self, account.program.copy())
        scratch.weights = dict(account.weights)
        found: dict[str, Tensor] = {}
        for name, hessian in hessians(scratch, context):
            del scratch.weights[name]
            mean = 0.0 if hessian is None else float(hessian.matrix.diagonal().mean())
            if hessian is not None and hessian.is_finite and mean > 0:
                identity = torch.eye(len(hessian.matrix), dtype=torch.float64)
                found[name] = identity.lerp(hessian.matrix / mean, self.balance)
        return found

    # -------------------------------------------------------------- one table
    def _table(self, program: Program, name: str) -> Tensor | None:
        """f32[V, E]; None for one that is too small or not finite."""
        stored = program.constants[name].encoding
        table = stored.decode().float()
        usable = not self.too_small(stored.numel) and bool(table.isfinite().all())
        return table if usable else None

    def _spectrum(self, program: Program, name: str, found: RowDecomposition) -> Spectrum:
        stored = program.constants[name].encoding
        return Spectrum.of(name, stored, stored.decode(), found.values)

    def _factorize(
        self,
        account: Account,
        name: str,
        found: RowDecomposition | None,
        ranks: dict[str, int] | None,
    ) -> Factors | None:
        made: Factors | None = None

        def encode(stored: Encoding, weight: Weight) -> Encoding | str:
            nonlocal made
            assert found is not None
            if ranks is None:
                rank = self.rank_of(self._spectrum(account.program, name, found))
            else:
                rank = ranks.get(name, "whole is the best use of its bytes")
            if isinstance(rank, str):
                return rank
            made = row_factors(stored.decode().float(), found, rank)
            codes, basis = (stored.encode(f).decode().float() for f in made)
            return Dense((codes @ basis).to(stored.decode().dtype))

        account.store(name, encode)
        return made


def _unfit(program: Program, weight: Weight) -> str:
    """Why not every reader of a table can read its factors; "" where all can."""
    ref = f"@{weight.name}"
    if program.constants[weight.name].type.rank != 2:
        return "rows that are no vectors"
    for graph in program.graphs.values():
        if ref in graph.outputs:
            return "an output"
        for node in graph.nodes:
            if reason := _unfit_use(graph, node, ref):
                return reason
    return ""


def _unfit_use(graph: Graph, node: Node, ref: str) -> str:
    """Why a node cannot read the factors instead of `ref`; "" where it can, or reads neither."""
    places = [i for i, name in enumerate(node.inputs) if name == ref]
    if not places:
        return ""
    op: Any = node.op
    gathers = op.name == "gather" and places == [0] and op.axis in (0, -2)
    if not (gathers or (op.name == "linear" and places == [1])):
        return f"read by {op.name}, in a way that factors cannot be"
    other = node.inputs[1 - places[0]]
    if other is None or graph.type(other).rank < (1 if gathers else 2):
        return f"read by {op.name} with one index or vector"
    return ""


def _split_table(
    program: Program, stored: Encoding, name: str, codes: Tensor, basis: Tensor
) -> None:
    """Let every reader of a table read its factors."""
    pool = program.constants
    refs = (
        put_constant(pool, f"{name}.codes", stored.encode(codes)).ref,
        put_constant(pool, f"{name}.basis", stored.encode(basis)).ref,
    )
    del pool[name]
    for graph in program.graphs.values():
        taken = set(graph.value_types())
        nodes: list[Node] = []
        for node in graph.nodes:
            if f"@{name}" in node.operands:
                nodes += _split(graph, node, refs, taken)
            else:
                nodes.append(node)
        graph.nodes[:] = nodes


def _split(graph: Graph, node: Node, refs: tuple[str, str], taken: set[str]) -> list[Node]:
    codes, basis = refs
    gathers, given = node.op.name == "gather", node.inputs[1 if node.op.name == "gather" else 0]
    assert given is not None
    inner, outer = (node.op, Matmul()) if gathers else (Linear(), node.op)
    first = (codes, given) if gathers else (given, basis)
    made: Any = inner.infer(*map(graph.type, first))
    value = Value(fresh_name(f"{node.output.name}_codes", taken), made)
    taken.add(value.name)
    second = (value.name, basis if gathers else codes, *node.inputs[2:])
    return [
        Node(inner, first, (value,), node.source),
        Node(outer, second, node.outputs, node.source),
    ]
