"""What passes that store weights as affine codes share: their options, and how a grid is filled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from edgec.ir import Affine, DType, Encoding, Outliers, Program, Sparse
from edgec.ir.encodings.rows import from_rows, rows_shape, to_rows
from edgec.passes.numerics.affine import Codes
from edgec.passes.numerics.grid import Grid, Rounded, Spared
from edgec.passes.numerics.outliers import choose, stored
from edgec.passes.weight_pass import Account, WeightPass, refuse_misfits
from edgec.passes.weights import Weight

Rounding = Callable[[Tensor, Grid, Tensor | None], Rounded | Spared]
"""Codes, scales and zero points of w f32[N, K], given the grid and a mask bool[N, K] or None."""

MOST_OUTLIERS = 0.01  # part of the weights: each takes three to four bytes


@dataclass(frozen=True)
class AffineWeights(WeightPass):
    """Options of the passes that store weights as affine codes; each documents them."""

    bits: int = 8
    group: int = 0
    misfits: Literal["leave", "rows", "fail"] = "leave"
    symmetric: bool = True
    scales: Literal["mse", "absmax", "percentile"] = "mse"
    percentile: float = 99.9
    scale_dtype: Literal["bf16", "f16", "f32"] = "bf16"
    embeddings: int = 0
    embedding_group: int | None = None
    outliers: float = 0.0

    def wrong_options(self) -> list[str]:
        """What does not go, alone or together."""
        wrong = super().wrong_options()
        if not 2 <= self.bits <= 8:
            wrong.append(f"bits={self.bits}, need 2 <= bits <= 8")
        if self.embeddings and not 2 <= self.embeddings <= 8:
            wrong.append(f"embeddings={self.embeddings}, need 0 or 2 <= embeddings <= 8")
        if not 0 <= self.outliers <= MOST_OUTLIERS:
            wrong.append(f"outliers={self.outliers}, need 0 <= outliers <= {MOST_OUTLIERS}")
        if not 0 < self.percentile <= 100:
            wrong.append(f"percentile={self.percentile}, need 0 < percentile <= 100")
        for option in ("group", "embedding_group"):
            if (getattr(self, option) or 0) < 0:
                wrong.append(f"{option}={getattr(self, option)}, need {option} >= 0")
        return wrong

    def requires(self, program: Program) -> None:
        if self.misfits == "fail":
            refuse_misfits(self, program, self.misfit, "set misfits, group or skip")

    def layout(self, weight: Weight) -> tuple[int, int]:
        """(bits, group) for a weight."""
        if not weight.is_table or (not self.embeddings and self.embedding_group is None):
            return self.bits, self.group
        bits = self.embeddings or self.bits
        same = self.group if bits == self.bits else 0
        return bits, same if self.embedding_group is None else self.embedding_group

    def misfit(self, stored: Encoding, weight: Weight) -> str:
        """How the group does not fit a weight that is large enough; "" where it does."""
        group = self.layout(weight)[1]
        shape = tuple(int(d) for d in stored.type.shape)
        if not group or self.too_small(stored.numel):
            return ""
        length = rows_shape(shape, weight.axis)[1]
        return f"K={length}; need a multiple of group={group}" if length % group else ""

    def grid(self, bits: int, group: int) -> Grid:
        codes = Codes.of(bits, narrow=self.symmetric and not group)
        dtype = DType(self.scale_dtype).torch_dtype
        return Grid(codes, group, dtype, self.symmetric, self.scales, self.percentile)

    def nearest(
        self, w: Tensor, grid: Grid, kept: Tensor | None, importance: Tensor | None = None
    ) -> Rounded | Spared:
        """Every weight by itself; importance f32 [N, K], or less of it, of squared errors."""
        if not self.outliers:
            return grid.nearest(w)
        aside = choose(w, grid, self.outliers, importance, kept)
        return Spared(grid.nearest(w.masked_fill(aside, 0)), aside, w)

    def round(self, account: Account, name: str, rounding: Rounding | None = None) -> None:
        """Give a weight of the account its codes, or note why it stays as it is.

        rounding   None: to nearest
        """

        def encode(stored: Encoding, weight: Weight) -> Encoding | str:
            misfit = self.misfit(stored, weight)
            if misfit and self.misfits == "leave":
                return misfit
            made = self._encode(stored, weight, bool(misfit), rounding or self.nearest)
            if misfit and not isinstance(made, str):
                account.notes.append(f"@{name}: {misfit}; one scale per row")
            if isinstance(made, Sparse) and made.nbytes >= made.values.nbytes:
                sizes = f"{made.nbytes} bytes with its mask, {made.values.nbytes} without"
                account.notes.append(f"@{name}: {sizes}; sparse all the same")
            return made

        account.store(name, encode)

    def _encode(
        self, stored: Encoding, weight: Weight, rows: bool, rounding: Rounding
    ) -> Encoding | str:
        """The codes of a weight, under its mask if it has one; `rows`: one scale per row."""
        bits, group = self.layout(weight)
        grid, axis = self.grid(bits, 0 if rows else group), weight.axis
        dense = stored.decode()
        mask = to_rows(stored.mask, axis) if isinstance(stored, Sparse) else None
        found = rounding(to_rows(dense.float(), axis), grid, mask)
        codes, scale, zero = found.rounded if isinstance(found, Spared) else found
        if not bool(scale.isfinite().all()):
            return f"scales beyond the range of {self.scale_dtype}; need bf16 or f32"
        laid = from_rows(codes, tuple(dense.shape), axis)
        made: Encoding = Affine(laid, scale, zero, bits, axis, grid.group, DType.of(dense.dtype))
        if isinstance(found, Spared) and bool(found.aside.any()):
            made = with_outliers(made, found.aside, found.values, axis)
        return replace(stored, values=made) if isinstance(stored, Sparse) else made


def with_outliers(base: Encoding, aside: Tensor, values: Tensor, axis: int) -> Outliers:
    """`base` with the weights in 16 bits that are kept aside from it; both [N, K] by its rows."""
    shape = tuple(int(d) for d in base.type.shape)
    positions = from_rows(aside, shape, axis).flatten().nonzero().flatten()
    kept = from_rows(values, shape, axis).flatten()[positions]
    return Outliers(base, positions, stored(kept))
