"""k-means: the few values, or short vectors, that stand for many with the least squared error.

The loss is sum_i m_i ||x_i - c(x_i)||^2 for the nearest entry c of a palette and masses m_i >= 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 256  # runs of sorted values that dynamic programming puts together, at least
VALUES = 2**20  # that a palette is fitted to, drawn from more
SAMPLE = 64  # vectors per entry that Lloyd's iterations look at
LEAST_GAIN = 1e-3  # part of the loss that an iteration has to gain to be followed by another
MOST_STEPS = 200
CHUNK = 2**22  # distances that are held at once


# ------------------------------------------------------------------ values
def scalars(values: Tensor, masses: Tensor | None, count: int) -> Tensor:
    """f32[P], ascending, P <= count: the palette of values f32[n], finite, with masses f32[n].

    Exact where there are no more than `BINS` different values; else the best palette that keeps
    runs of neighbours together, from which Lloyd's iterations go down. Values without mass do not
    count; P is less than `count` where there are fewer different ones.

    Source   Wang and Song 2011, "Ckmeans.1d.dp", The R Journal 3/2 (dynamic programming); Lloyd
             1982, "Least squares quantization in PCM".
    Differs  At most `VALUES` values, drawn with a fixed seed. Runs of neighbours, of equal count or
             equal width, instead of all values: n^2 of them.
             An iteration costs P searches in the sorted values and their cumulative sums.
    """
    if values.numel() > VALUES:
        drawn = torch.randint(values.numel(), (VALUES,), generator=torch.Generator().manual_seed(0))
        values = values.reshape(-1)[drawn]
        masses = None if masses is None else masses.reshape(-1)[drawn]
    line = _Line(values, masses)
    if line.distinct.numel() <= count:
        return line.distinct.float()
    return line.lloyd(line.divided(count)).float()


class _Line:
    """Sorted values with their cumulative mass, and moments around their mean, all f64."""

    def __init__(self, values: Tensor, masses: Tensor | None) -> None:
        values = values.reshape(-1).double()
        weight = torch.ones_like(values) if masses is None else masses.reshape(-1).double()
        if not bool((weight > 0).any()):
            weight = torch.ones_like(values)
        x, order = values[weight > 0].sort()
        self.distinct: Tensor = x.unique_consecutive()
        weight = weight[weight > 0][order]
        self.mean = float((x * weight).sum() / weight.sum())
        self.x = x - self.mean
        self.mass, self.first, self.second = (
            torch.cat([torch.zeros(1).double(), part.cumsum(0)])
            for part in (weight, weight * self.x, weight * self.x.square())
        )

    def divided(self, count: int) -> Tensor:
        """Ends i64[P] of the runs [0, e_0), [e_0, e_1), ... of least loss, by dynamic programming.

        least[k][j] = min_i least[k-1][i] + loss of [i, j), over the edges i < j.
        """
        edges = self._edges(max(BINS, 2 * count))
        spread = self._loss(edges)
        least, came = spread[0], []
        for _ in range(count - 1):
            least, best = (least.unsqueeze(1) + spread).min(0)
            came.append(best)
        at, ends = len(edges) - 1, []
        for best in reversed(came):
            ends.append(at)
            at = int(best[at])
        return edges[torch.tensor([*ends, at]).flip(0)]

    def _edges(self, bins: int) -> Tensor:
        """Ends of runs of equal values, of equal count or equal width where there are too many."""
        n = len(self.x)
        ends = torch.cat([(self.x[1:] != self.x[:-1]).nonzero().flatten() + 1, torch.tensor([n])])
        if len(ends) > bins:
            parts = torch.arange(1, bins // 2 + 1).double() / (bins // 2)
            span = self.x[-1] - self.x[0]
            wide = torch.searchsorted(self.x, self.x[0] + parts * span, right=True)
            even = ends[torch.searchsorted(ends, (parts * n).long().clamp_max(n))]
            spaced = ends[(parts * (len(ends) - 1)).long()]
            ends = torch.cat([wide, even, spaced]).unique()
        return torch.cat([torch.zeros(1, dtype=torch.int64), ends[ends > 0]])

    def _loss(self, edges: Tensor) -> Tensor:
        """f64[E, E]: the loss of [i, j) around its mean; infinite for j <= i but 0 for none."""
        mass, first, second = (t[edges] for t in (self.mass, self.first, self.second))
        m = (mass.unsqueeze(0) - mass.unsqueeze(1)).clamp_min(1e-300)
        f, s = (t.unsqueeze(0) - t.unsqueeze(1) for t in (first, second))
        spread = (s - f.square() / m).clamp_min_(0)
        below = torch.ones(spread.shape, dtype=torch.bool).tril()
        return spread.masked_fill_(below, torch.inf)

    def lloyd(self, ends: Tensor) -> Tensor:
        """f64[P]: means of runs, whose ends move half-way between the means until they stay."""
        for _ in range(MOST_STEPS):
            centers = self._means(ends)
            inner = torch.searchsorted(self.x, (centers[1:] + centers[:-1]) / 2)
            moved = torch.cat([inner, ends[-1:]])
            empty = bool((moved.diff(prepend=moved.new_zeros(1)) == 0).any())
            if empty or torch.equal(moved, ends):
                break
            ends = moved
        return self._means(ends) + self.mean

    def _means(self, ends: Tensor) -> Tensor:
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), ends[:-1]])
        mass = self.mass[ends] - self.mass[starts]
        return (self.first[ends] - self.first[starts]) / mass


# ------------------------------------------------------------------ vectors
def vectors(
    points: Tensor, masses: Tensor | None, count: int, generator: torch.Generator
) -> Tensor:
    """f32[P, v], P <= count: the palette of points f32[n, v], finite, with masses f32[n].

    Lloyd's iterations on at most `SAMPLE` points per entry, from k-means++ seeds. Entries that
    stand for nothing move to the points that lose most.

    Source   Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding"; a sample
             as in Jégou et al. 2011, "Product quantization for nearest neighbor search".
    """
    points, mass = _sample(points.float(), masses, count * SAMPLE, generator)
    entries = _seeds(points, mass, count, generator)
    before = float("inf")
    for _ in range(MOST_STEPS):
        index, lost = assign(points, entries)
        total = float((lost * mass).sum())
        if not total < before * (1 - LEAST_GAIN):
            break
        before = total
        entries = _means(points, mass, index, lost * mass, entries)
    return entries


def assign(points: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """Index i64[n] of the nearest of entries f32[P, v] for points f32[n, v], and f32[n], the
    squared distances.
    """
    if entries.shape[1] == 1:
        ordered, order = entries[:, 0].sort(stable=True)
        between = (ordered[1:] + ordered[:-1]) / 2
        index = order[torch.bucketize(points[:, 0].contiguous(), between)]
        return index, (points - entries[index]).square().sum(1)
    power = entries.square().sum(1) / 2
    found = [
        torch.addmm(power, part, entries.T, alpha=-1).argmin(1)
        for part in points.split(max(1, CHUNK // len(entries)))
    ]
    index = torch.cat(found)
    return index, (points - entries[index]).square().sum(1)


def _sample(
    points: Tensor, masses: Tensor | None, most: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    mass = torch.ones(len(points)) if masses is None else masses.float()
    some = (mass > 0).nonzero().flatten()
    if not len(some):
        mass, some = torch.ones(len(points)), torch.arange(len(points))
    if len(some) > most:
        some = some[torch.randperm(len(some), generator=generator)[:most]]
    return points[some], mass[some]


def _seeds(points: Tensor, mass: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Points, each taken with a chance as its mass times the squared distance to those before."""
    chances = mass.double()
    chosen: list[int] = []
    nearest = torch.full((len(points),), torch.inf)
    while len(chosen) < count and float(chances.sum()) > 0:
        drawn = torch.rand((), generator=generator, dtype=torch.float64) * chances.sum()
        at = int(torch.searchsorted(chances.cumsum(0), drawn, right=True).clamp_max(len(mass) - 1))
        at = int(chances.argmax()) if float(chances[at]) == 0 else at
        chosen.append(at)
        nearest = torch.minimum(nearest, (points - points[at]).square().sum(1))
        chances = (nearest * mass).double()
    return points[chosen]


def _means(points: Tensor, mass: Tensor, index: Tensor, lost: Tensor, entries: Tensor) -> Tensor:
    total = torch.zeros(len(entries)).index_add_(0, index, mass)
    sums = torch.zeros_like(entries).index_add_(0, index, points * mass.unsqueeze(1))
    empty = (total == 0).nonzero().flatten()
    made = sums / total.clamp_min(1e-30).unsqueeze(1)
    worst = lost.topk(min(len(empty), len(lost))).indices
    made[empty[: len(worst)]] = points[worst]
    return made
