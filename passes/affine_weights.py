"""What passes that store weights as affine codes share: options, choice of weights, reports."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from edgec.errors import PassError
from edgec.ir import Affine, Constant, Dense, DType, Encoding, Program, Sparse
from edgec.ir.encodings.rows import from_rows, rows_shape, to_rows
from edgec.passes.numerics.affine import Codes
from edgec.passes.numerics.grid import Grid, Rounded
from edgec.passes.weights import Selection, Weight, find_other_matrices, find_weights
from edgec.transform import Pass

Rounding = Callable[[Tensor, Grid, Tensor | None], Rounded]
"""Codes, scales and zero points of w f32[N, K], given the grid and a mask bool[N, K] or None."""


def nearest(w: Tensor, grid: Grid, kept: Tensor | None) -> Rounded:
    """Every weight by itself."""
    return grid.nearest(w)


@dataclass(frozen=True)
class AffineWeights(Pass):
    """Options of the passes that store weights as affine codes; each documents them."""

    bits: int = 8
    group: int = 0
    misfits: Literal["leave", "rows", "fail"] = "leave"
    symmetric: bool = True
    scales: Literal["mse", "absmax"] = "mse"
    scale_dtype: Literal["bf16", "f16", "f32"] = "bf16"
    embeddings: int = 0
    embedding_group: int | None = None
    include: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    min_numel: int = 256

    def __post_init__(self) -> None:
        if wrong := self.wrong_options():
            raise PassError(self.name, "; ".join(wrong))

    def wrong_options(self) -> list[str]:
        """What does not go, alone or together."""
        wrong = []
        if not 2 <= self.bits <= 8:
            wrong.append(f"bits={self.bits}, need 2 <= bits <= 8")
        if self.embeddings and not 2 <= self.embeddings <= 8:
            wrong.append(f"embeddings={self.embeddings}, need 0 or 2 <= embeddings <= 8")
        for option in ("group", "embedding_group", "min_numel"):
            if (getattr(self, option) or 0) < 0:
                wrong.append(f"{option}={getattr(self, option)}, need {option} >= 0")
        return wrong

    @property
    def selected(self) -> Selection:
        return Selection(self.include, self.skip)

    def requires(self, program: Program) -> None:
        if self.misfits == "fail":
            weights = (w for n, w in find_weights(program).items() if n in self.selected)
            wrong = [f"@{w.name}: {m}" for w in weights if (m := self.misfit(program, w))]
            if wrong:
                raise PassError(self.name, "; ".join(wrong), "", "set misfits, group or skip")

    def layout(self, weight: Weight) -> tuple[int, int]:
        """(bits, group) for a weight."""
        if not weight.is_table or (not self.embeddings and self.embedding_group is None):
            return self.bits, self.group
        bits = self.embeddings or self.bits
        same = self.group if bits == self.bits else 0
        return bits, same if self.embedding_group is None else self.embedding_group

    def misfit(self, program: Program, weight: Weight) -> str:
        """How the group does not fit a weight that is large enough; "" where it does."""
        stored, group = program.constants[weight.name].encoding, self.layout(weight)[1]
        shape = tuple(int(d) for d in stored.type.shape)
        if not group or stored.numel < max(1, self.min_numel):
            return ""
        length = rows_shape(shape, weight.axis)[1]
        return f"K={length}; need a multiple of group={group}" if length % group else ""

    def grid(self, bits: int, group: int) -> Grid:
        codes = Codes.of(bits, narrow=self.symmetric and not group)
        dtype = DType(self.scale_dtype).torch_dtype
        return Grid(codes, group, dtype, self.symmetric, self.scales)


@dataclass
class Account:
    """The weights of a program that become affine one by one, and what there is to say of them.

    options   of the pass
    program   whose constants are replaced
    weights   the selected ones that were not treated yet
    errors    constant -> relative error, of those that were
    notes     what was left, and why
    """

    options: AffineWeights
    program: Program
    weights: dict[str, Weight] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    compressed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        selected = self.options.selected
        self.notes += [
            f"pattern {p!r} matches no constant" for p in selected.idle(self.program.constants)
        ]
        for name, weight in find_weights(self.program).items():
            stored = self.program.constants[name].encoding
            if name not in selected:
                continue
            if isinstance(stored, Dense) or _is_sparse_dense(stored):
                self.weights[name] = weight
            else:
                self.compressed.append(f"@{name}")

    def round(self, name: str, rounding: Rounding = nearest) -> None:
        """Give one of `weights` its codes, or note why it stays as it is."""
        weight, options = self.weights.pop(name), self.options
        before = self.program.constants[name].encoding
        misfit = options.misfit(self.program, weight)
        leave = misfit and options.misfits == "leave"
        made = misfit if leave else self._encode(before, weight, bool(misfit), rounding)
        if isinstance(made, str):
            self.notes.append(f"@{name}: {made}; left {before.describe()}")
            return
        if misfit:
            self.notes.append(f"@{name}: {misfit}; one scale per row")
        self.program.constants[name] = Constant(name, made)
        self.errors[name] = relative_error(before.decode(), made.decode())

    def _encode(
        self, before: Encoding, weight: Weight, rows: bool, rounding: Rounding
    ) -> Encoding | str:
        """The compressed form of one weight, or why it has none; `rows`: one scale per row."""
        bits, group = self.options.layout(weight)
        grid = self.options.grid(bits, 0 if rows else group)
        kept = before.mask if isinstance(before, Sparse) else None
        made = self._affine(before.decode(), weight.axis, bits, grid, kept, rounding)
        if isinstance(before, Sparse) and not isinstance(made, str):
            return replace(before, values=made)
        return made

    def _affine(
        self,
        dense: Tensor,
        axis: int,
        bits: int,
        grid: Grid,
        kept: Tensor | None,
        rounding: Rounding,
    ) -> Affine | str:
        w, least = dense.float(), max(1, self.options.min_numel)
        if w.numel() < least:
            return f"{w.numel()} weights; need {self.options.min_numel} (min_numel)"
        if not bool(w.isfinite().all()):
            return "NaN or infinite weights; need finite ones"
        mask = None if kept is None else to_rows(kept, axis)
        codes, scale, zero = rounding(to_rows(w, axis), grid, mask)
        if not bool(scale.isfinite().all()):
            return f"scales beyond the range of {self.options.scale_dtype}; need bf16 or f32"
        stored = from_rows(codes, tuple(w.shape), axis)
        return Affine(stored, scale, zero, bits, axis, grid.group, DType.of(dense.dtype))

    def close(self) -> None:
        """Note what has codes already, and the matrices that are the weight of nothing."""
        if self.compressed:
            self.notes.append(f"compressed already, left as they are: {', '.join(self.compressed)}")
        others = find_other_matrices(self.program, self.options.min_numel)
        self.notes += [
            f"@{name}: used by {', '.join(ops)}, as the weight of none; left dense"
            for name, ops in others.items()
            if name in self.options.selected
        ]


def _is_sparse_dense(stored: Encoding) -> bool:
    """A mask over plain values, which can be quantized under it."""
    return isinstance(stored, Sparse) and isinstance(stored.values, Dense)


def relative_error(before: Tensor, after: Tensor) -> float:
    """||before - after|| / ||before||, 0 for no difference; in f64, a part of them at a time."""
    lost = power = 0.0
    parts = (t.reshape(-1).split(2**20) for t in (before, after))
    for x, y in zip(*parts, strict=True):
        x = x.double()
        lost += float((x - y.double()).square_().sum())
        power += float(x.square_().sum())
    return math.sqrt(lost / power) if power else math.sqrt(lost)
