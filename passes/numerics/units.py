"""Units of a layer y = x w^T: how much each gives, which may go, and weights of those that stay.

x[S, K] are inputs, w[N, K] the weight that sums over units; `units` i64[K] says of which unit each
of the K columns is, -1 of none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


# ------------------------------------------------------------------ scores
def contribution(x: Tensor, w: Tensor, units: Tensor, count: int) -> Tensor:
    """f64[count]: sum over the rows of x of ||w_u x_u||, what each unit adds to y."""
    if _single(units, count):
        found = torch.zeros(count, dtype=torch.float64)
        powers = x.abs().double().sum(0) * w.double().norm(dim=0)
        return found.index_add(0, units[units >= 0], powers[units >= 0])
    parts = ((x[:, units == u] @ w[:, units == u].T).double() for u in range(count))
    return torch.stack([part.norm(dim=1).sum() for part in parts])


def magnitude(weights: Sequence[tuple[Tensor, Tensor]], count: int) -> Tensor:
    """f64[count]: product of the Frobenius norms of each unit's part of (w[.., K], units)."""
    found = torch.ones(count, dtype=torch.float64)
    for w, units in weights:
        power = torch.zeros(count, dtype=torch.float64)
        columns = w.double().reshape(-1, w.shape[-1]).square().sum(0)
        found *= power.index_add(0, units[units >= 0], columns[units >= 0]).sqrt()
    return found


def elimination(
    w: Tensor, gram: Tensor, units: Tensor, count: int, most: int, damping: float = 0.01
) -> Tensor:
    """f64[count]: the power that y loses when each unit goes, one after the other.

    gram   sum of x x^T, f64[K, K]
    most   units that go at most; those that stay have what is lost if they went next

    The unit that costs least goes first, and the weights of the others make up for it: Hassibi,
    Stork 1992 (optimal brain surgeon) for blocks, as Kurtic et al. 2023, arXiv:2302.04089, eq. 3.
    Costs never fall from one unit to the next, so that their order is the order of going.
    """
    w = w.double().clone()
    inverse = torch.linalg.inv(_damped(gram, damping))
    found = torch.zeros(count, dtype=torch.float64)
    last = torch.zeros((), dtype=torch.float64)
    members = [(units == u).nonzero().flatten() for u in range(count)]
    left = list(range(count))
    for _ in range(min(most, count - 1)):
        costs = _costs(w, inverse, members, left)
        best = int(costs.argmin())
        last = torch.maximum(costs[best], last * (1 + 1e-9))
        found[left[best]] = last
        own = members[left.pop(best)]
        solved = torch.linalg.solve(inverse[own][:, own], inverse[own])
        w -= w[:, own] @ solved
        inverse -= inverse[:, own] @ solved
        inverse[own, own] = 1.0
    found[left] = torch.maximum(_costs(w, inverse, members, left), last * (1 + 1e-9))
    return found


def weighted(w: Tensor, moments: Tensor) -> Tensor:
    """f64[N, K]: what has the power, in its products, that y has with y^T G y; G = `moments`."""
    values, vectors = torch.linalg.eigh(moments)
    made: Tensor = (vectors * values.clamp(min=0).sqrt()).mT @ w.double()
    return made


def _costs(w: Tensor, inverse: Tensor, members: list[Tensor], left: list[int]) -> Tensor:
    """tr(w_u (H^-1)_uu^-1 w_u^T) of the units that are left."""
    if all(len(m) == 1 for m in members):
        own = torch.cat([members[u] for u in left])
        return w[:, own].square().sum(0) / inverse[own, own]
    costs = []
    for u in left:
        own = members[u]
        costs.append((torch.linalg.solve(inverse[own][:, own], w[:, own].T) * w[:, own].T).sum())
    return torch.stack(costs)


def _single(units: Tensor, count: int) -> bool:
    return bool((torch.bincount(units[units >= 0], minlength=count) <= 1).all())


def _damped(gram: Tensor, damping: float) -> Tensor:
    """H with a part of the mean of its diagonal added, and something where all is 0."""
    add = damping * float(gram.diagonal().mean()) or 1.0
    return gram + add * torch.eye(len(gram), dtype=gram.dtype)


# ------------------------------------------------------------------ the weights that stay
class Products:
    """Sums over rows of inputs: of those that there are, and of those that there were.

    gram    sum of x x^T, f64[K, K]     cross   sum of x0 x^T, f64[K, K]
    mean    sum of x, f64[K]            before  sum of x0, f64[K]         rows  their number
    """

    def __init__(self, length: int) -> None:
        self.gram, self.cross = (torch.zeros(length, length, dtype=torch.float64) for _ in "ab")
        self.mean, self.before = (torch.zeros(length, dtype=torch.float64) for _ in "ab")
        self.rows = 0

    def add(self, x: Tensor, original: Tensor) -> None:
        x, original = x.float(), original.float()
        self.gram += (x.T @ x).double()
        self.cross += (original.T @ x).double()
        self.mean += x.double().sum(0)
        self.before += original.double().sum(0)
        self.rows += len(x)


def refit(
    w: Tensor, bias: Tensor | None, products: Products, kept: Tensor, damping: float = 0.01
) -> tuple[Tensor, Tensor | None]:
    """w'[N, K], zero but for the columns `kept` i64, and bias'[N]: least squares for y before.

    Least ||w x0 + b - w' x - b'||^2 + d ||w' - w||^2 over the columns that stay, d the damping
    times the mean power of an input: without data the weights stay as they are. Without a bias
    there is none afterwards.
    """
    full = w.double()
    gram, cross = products.gram[kept][:, kept], products.cross[:, kept]
    if bias is not None and products.rows:
        gram = gram - torch.outer(products.mean[kept], products.mean[kept]) / products.rows
        cross = cross - torch.outer(products.before, products.mean[kept]) / products.rows
    strength = damping * float(products.gram.diagonal().mean()) or 1.0
    ridge = strength * torch.eye(len(kept), dtype=torch.float64)
    fitted = torch.linalg.solve(gram + ridge, (full @ cross + strength * full[:, kept]).T).T
    made = torch.zeros_like(full)
    made[:, kept] = fitted
    if bias is None or not products.rows:
        return made.to(w.dtype), bias
    drift = full @ products.before - fitted @ products.mean[kept]
    return made.to(w.dtype), (bias.double() + drift / products.rows).to(bias.dtype)


# ------------------------------------------------------------------ the choice
@dataclass(frozen=True)
class Candidates:
    """Units of one structure, to choose from.

    scores     f64[count]     even      runs of so many units lose equally many
    multiple   of which the number of units that stay is one, where it was before
    """

    scores: Tensor
    even: int = 1
    multiple: int = 1

    def items(self) -> list[tuple[float, tuple[int, ...]]]:
        """(score, units that go together), the least score first."""
        runs = self.scores.reshape(-1, self.even) if self.even > 1 else self.scores.reshape(1, -1)
        order = runs.argsort(dim=1, stable=True)
        if self.even == 1:
            return [(float(self.scores[u]), (int(u),)) for u in order[0]]
        start = torch.arange(len(runs)).unsqueeze(1) * self.even
        columns = (order + start).T.tolist()
        return [(float(self.scores[c].sum()), tuple(c)) for c in columns]

    def removable(self, wish: int) -> int:
        """How many items go at most where so many should: one stays, and a whole multiple."""
        total = len(self.items())
        left = max(total - wish, 1)
        if self.multiple > 1:
            left = min(-(-left // self.multiple) * self.multiple, total)
        return total - left

    def lowest(self, wish: int) -> frozenset[int]:
        return frozenset(u for _, us in self.items()[: self.removable(wish)] for u in us)


def choose(
    candidates: Sequence[Candidates], ratio: float, count: int, per_layer: bool, alike: bool = False
) -> list[frozenset[int]]:
    """The units of each that go: the lowest scores, `count` of each or `ratio` of them.

    per_layer   False: `ratio` (or `count` times their number) of all together, by scores divided by
                the Euclidean norm of those of one structure, as in Michel et al. 2019, section 4
    alike       scores of all structures are in one unit and are not divided
    """
    sizes = [len(c.items()) for c in candidates]
    if per_layer:
        wishes = [count or round(ratio * n) for n in sizes]
    else:
        total = count * len(sizes) if count else round(ratio * sum(sizes))
        wishes = _spread(candidates, total, alike)
    return [c.lowest(wish) for c, wish in zip(candidates, wishes, strict=True)]


def _spread(candidates: Sequence[Candidates], total: int, alike: bool) -> list[int]:
    ranked = []
    for i, c in enumerate(candidates):
        norm = 1.0 if alike else float(c.scores.norm()) or 1.0
        ranked += [(score / norm, i) for score, _ in c.items()[:-1]]
    wishes = [0] * len(candidates)
    for _, i in sorted(ranked)[:total]:
        wishes[i] += 1
    return wishes
