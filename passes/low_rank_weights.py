"""What passes that replace a matrix by two of lower rank share: how the rank is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from edgec.errors import PassError
from edgec.ir import Dense, Encoding
from edgec.passes.numerics.low_rank import Curve, allocate, losses, rank_within
from edgec.passes.weight_pass import WeightPass

USUAL = 0.75  # of the bytes, where nothing is asked for


@dataclass(frozen=True)
class Spectrum:
    """A matrix [N, K] and the singular values of it, or of it with its inputs.

    size   bytes of an element
    """

    name: str
    shape: tuple[int, int]
    size: int
    values: Tensor

    @staticmethod
    def of(name: str, stored: Encoding, w: Tensor, values: Tensor) -> Spectrum:
        """Of the rows w[N, K] of a constant."""
        size = stored.nbytes // max(1, stored.numel)
        return Spectrum(name, (w.shape[0], w.shape[1]), size, values)

    def stored(self, rank: int) -> int:
        """Bytes of the factors."""
        return rank * sum(self.shape) * self.size

    @property
    def whole(self) -> int:
        """Bytes of the matrix."""
        return self.shape[0] * self.shape[1] * self.size


@dataclass(frozen=True)
class LowRankWeights(WeightPass):
    """Options of the passes that store weights as two factors; each documents them."""

    rank: int = 0
    error: float = 0.0
    ratio: float = 0.0
    spread: Literal["all", "each"] = "all"
    multiple: int = 8
    misfits: Literal["leave", "fail"] = "leave"

    def wrong_options(self) -> list[str]:
        """What does not go, alone or together."""
        wrong = super().wrong_options()
        given = [o for o in ("rank", "error", "ratio") if getattr(self, o)]
        if len(given) > 1:
            wrong.append(f"{' and '.join(given)}, need one of rank, error, ratio")
        if self.rank < 0:
            wrong.append(f"rank={self.rank}, need rank >= 1")
        for option in ("error", "ratio"):
            value = getattr(self, option)
            if value and not 0 < value < 1:
                wrong.append(f"{option}={value}, need 0 < {option} < 1")
        if self.multiple < 1:
            wrong.append(f"multiple={self.multiple}, need multiple >= 1")
        return wrong

    @property
    def part(self) -> float:
        """Bytes after / before that are asked for; 0 where the rank or the error is."""
        return self.ratio or (0.0 if self.rank or self.error else USUAL)

    def takes(self, stored: Encoding) -> bool:
        return isinstance(stored, Dense)

    # -------------------------------------------------------------- ranks
    def rank_of(self, found: Spectrum) -> int | str:
        """The rank of one matrix by itself, or why it has none that saves bytes."""
        if self.rank:
            rank, limit = self.rank, min(found.shape)
            if rank > limit:
                return self._misfit(found, f"rank={rank} of {list(found.shape)}")
        elif self.error:
            rank = self._multiple(rank_within(found.values, self.error), up=True)
        else:
            rank = self._multiple(int(self.part * found.whole) // found.stored(1))
            if not rank:
                need = f"need ratio >= {found.stored(self.multiple) / found.whole:.3g}"
                return self._misfit(found, f"ratio={self.part} of {list(found.shape)}", need)
        if found.stored(rank) >= found.whole:
            told = "" if self.rank else f" for error={self.error}"
            return self._misfit(found, f"rank={rank} of {list(found.shape)}{told}")
        return rank

    def _misfit(self, found: Spectrum, got: str, need: str = "") -> str:
        need = need or f"need a rank <= {(found.whole - 1) // found.stored(1)}, which saves bytes"
        if self.misfits == "fail":
            raise PassError(self.name, f"@{found.name}: {got}", need.removeprefix("need "))
        return f"{got}; {need}"

    def _multiple(self, rank: int, up: bool = False) -> int:
        return (rank + (self.multiple - 1) * up) // self.multiple * self.multiple

    def allocated(self, found: Sequence[Spectrum]) -> dict[str, int]:
        """Ranks for all matrices together within `ratio` of their bytes; those left have none.

        What is minimized is the sum of the squared relative errors.
        Raises PassError where even the least ranks need more.
        """
        limit = int(self.part * sum(s.whole for s in found))
        choices = [self._choices(s) for s in found]
        least = sum(s.stored(c[0]) if c else s.whole for s, c in zip(found, choices, strict=True))
        if least > limit:
            whole = sum(s.whole for s in found)
            names = ", ".join(f"@{s.name}" for s in found[:5]) + (", .." if len(found) > 5 else "")
            got = f"ratio={self.part} of the {whole} bytes of {names}"
            need = f"at least {least} bytes, with ranks of {self.multiple}"
            do = "set a greater ratio, a smaller multiple, or spread=each, which leaves misfits"
            raise PassError(self.name, got, need, do)
        curves = [_curve(s, c) for s, c in zip(found, choices, strict=True)]
        picked = allocate(curves, limit)
        return {
            s.name: ranks[i]
            for s, ranks, i in zip(found, choices, picked, strict=True)
            if i < len(ranks)
        }

    def _choices(self, found: Spectrum) -> list[int]:
        ranks = range(self.multiple, min(found.shape) + 1, self.multiple)
        return [r for r in ranks if found.stored(r) < found.whole]


def _curve(found: Spectrum, ranks: list[int]) -> Curve:
    """Bytes and losses by rank, and of the matrix as it is."""
    left = losses(found.values)
    lost = [float(left[r]) for r in ranks]
    return Curve((*map(found.stored, ranks), found.whole), (*lost, 0.0))
