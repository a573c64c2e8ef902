"""palettize-weights: weights as indices into palettes of values or of short vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.ir import DType, Encoding, Exactness, Lut, Program, Sparse
from edgec.ir.encodings.rows import from_rows, rows_shape, to_rows
from edgec.passes.affine_weights import MOST_OUTLIERS, with_outliers
from edgec.passes.hessians import hessians
from edgec.passes.lookups import counts, hessians_of_outputs
from edgec.passes.numerics.gptq import Hessian
from edgec.passes.numerics.palette import Layout, Method
from edgec.passes.numerics.palette_walk import Made, palettes
from edgec.passes.weight_pass import Account, WeightPass, refuse_misfits
from edgec.passes.weights import Weight
from edgec.transform import PassResult

UNSEEN = 0.1  # lookups that every row of a table is taken to have beside those of the data
TABLE_DAMPING = 0.1  # an H of outputs is an estimate


@dataclass(frozen=True)
class Data:
    """What calibration data say of a weight.

    hessian   of the inputs of its rows, or of what its rows do to outputs
    lookups   f32[N], how often each row of a table is gathered
    """

    hessian: Hessian | None = None
    lookups: Tensor | None = None
    damping: float = 0.01

    @property
    def importance(self) -> Tensor | None:
        """f32 that broadcasts to [N, K]."""
        if self.lookups is not None:
            return (self.lookups + UNSEEN).unsqueeze(1)
        if self.hessian is None:
            return None
        return self.hessian.matrix.diagonal().float().unsqueeze(0)


@dataclass(frozen=True)
class PalettizeWeights(WeightPass):
    """Store weights as indices into palettes, the values that stand for all with the least error.

    Given    @w = const f32[N, K] dense                          %y = linear(%x, @w)
    Result   @w = const f32[N, K] lut(bits=4, table=f16)         %y = linear(%x, @w)

    bits          1..8, of an index; a palette has 2^bits entries at most
    method        "kmeans", or "nf4": the 16 quantiles of a normal distribution, scaled by the
                  greatest |w| of each group (bits=4, one palette, scalar entries)
    vector        neighbouring weights that an entry stands for
    rows          rows that share a palette; 0: all
    chunks        palettes along a row, each for an equal run of it; 0: one for every vector,
                  which with vector > 1 is product quantization
    group         weights of a row that share a scale; 0: none have one
    importance    of a squared error: "inputs", mean x^2 of the weight's input on calibration data,
                  or how often they look the row of a table up; "none"; "auto": "inputs" with data
    feedback      with data, choose indices in turns so that later weights of a row make up for
                  earlier ones (GPTQ), for the layer's inputs; damping: of their X X^T
    tables        that are only gathered from: "nearest" entries; "outputs": with feedback, for what
                  their rows do to the program's outputs
    outliers      part of the weights, at most 0.01, that are kept in 16 bits: those that cost most
    misfits       a weight that rows, chunks, vector or group do not divide: "leave" it, or "fail"
    table_dtype, scale_dtype   that entries and scales are stored in, rounded before indices
    include, skip, min_numel   as in `quantize-weights`

    Keeps    every node, type and name. Left and reported: what would not be smaller than 8-bit
             codes with a scale per row, and what `quantize-weights` leaves.
    Effect   LOSSY: with scalar entries and without feedback, each weight gets the nearest entry
    Source   Palettes: Han et al. 2016, arXiv:1510.00149; weighted: Kim et al. 2023,
             arXiv:2306.07629 (SqueezeLLM), eq. 3. nf4: Dettmers et al. 2023, arXiv:2305.14314.
             Vectors in chunks: Jégou et al. 2011, "Product quantization for nearest neighbor
             search". Feedback: van Baalen et al. 2024, arXiv:2402.15319 (GPTVQ).
    Differs  Weighted by X X^T of inputs, not by gradients. Scales of nf4 are not quantized again.
    """

    name: ClassVar[str] = "palettize-weights"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    bits: int = 4
    method: Method = "kmeans"
    vector: int = 1
    rows: int = 0
    chunks: int = 1
    group: int = 0
    importance: Literal["auto", "none", "inputs"] = "auto"
    feedback: bool = True
    damping: float = 0.01
    tables: Literal["nearest", "outputs"] = "nearest"
    outliers: float = 0.0
    misfits: Literal["leave", "fail"] = "leave"
    table_dtype: Literal["f16", "bf16", "f32"] = "f16"
    scale_dtype: Literal["bf16", "f16", "f32"] = "bf16"

    @property
    def uses_calibration(self) -> bool:
        return self.importance != "none"

    def wrong_options(self) -> list[str]:
        wrong = super().wrong_options()
        if not 1 <= self.bits <= 8:
            wrong.append(f"bits={self.bits}, need 1 <= bits <= 8")
        for option, least in (("vector", 1), ("rows", 0), ("chunks", 0), ("group", 0)):
            if getattr(self, option) < least:
                wrong.append(f"{option}={getattr(self, option)}, need {option} >= {least}")
        if self.group and self.vector > 0 and self.group % self.vector:
            wrong.append(f"group={self.group}, need a multiple of vector={self.vector}")
        if not 0 < self.damping < 100:
            wrong.append(f"damping={self.damping}, need 0 < damping < 100")
        if not 0 <= self.outliers <= MOST_OUTLIERS:
            wrong.append(f"outliers={self.outliers}, need 0 <= outliers <= {MOST_OUTLIERS}")
        if self.tables == "outputs" and (self.importance == "none" or not self.feedback):
            wrong.append("tables=outputs, need feedback and importance")
        plain = self.bits == 4 and self.vector == 1 and self.rows == 0 and self.chunks == 1
        if self.method == "nf4" and not (plain and self.group > 0):
            wrong.append("method=nf4, need bits=4 and a group, no vector, rows or chunks")
        return wrong

    def requires(self, program: Program) -> None:
        if self.misfits == "fail":
            do = "set misfits, skip, or what does not divide"
            refuse_misfits(self, program, lambda stored, _: self.misfit(stored), do)

    def misfit(self, stored: Encoding) -> str:
        """What does not divide the weight; "" where all does."""
        shape = tuple(int(d) for d in stored.type.shape)
        (n, k), last = rows_shape(shape, 0), shape[-1]
        wrong = []
        if last % self.vector:
            wrong.append(f"last axis {last}; need a multiple of vector={self.vector}")
        elif self.chunks and (k // self.vector) % self.chunks:
            wrong.append(f"{k // self.vector} vectors in a row; need a multiple of {self.chunks}")
        if self.rows and n % self.rows:
            wrong.append(f"{n} rows; need a multiple of rows={self.rows}")
        if self.group and k % self.group:
            wrong.append(f"K={k}; need a multiple of group={self.group}")
        if isinstance(stored, Sparse) and self.vector > 1:
            wrong.append("a mask over single weights; need vector=1")
        return "; ".join(wrong)

    # ------------------------------------------------------------------ the pass
    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        after = program.copy()
        account = Account(self, after)
        for name, data in self._data(account, context):
            self._store(account, name, data)
        account.close("palettized")
        return PassResult(after, bool(account.errors), tuple(account.notes), account.errors)

    def _data(self, account: Account, context: Context) -> Iterator[tuple[str, Data]]:
        """The weights in the order in which they are to be stored."""
        some = any(context.calibration.values())
        if self.importance == "none" or (self.importance == "auto" and not some):
            if self.importance == "auto":
                account.notes.append("no calibration data: all weights are equally important")
            yield from ((name, Data()) for name in list(account.weights))
            return
        context.calls(self.name, "set importance=none")
        tables = {n for n, w in account.weights.items() if w.ops == {"gather"}}
        place = account.program, context, self.name, tables
        hits = counts(*place)
        moved = hessians_of_outputs(*place) if self.tables == "outputs" else {}
        for name, hessian in hessians(account, context):
            if name in tables:
                yield name, Data(moved.get(name), hits.get(name), max(self.damping, TABLE_DAMPING))
                continue
            if hessian is None:
                account.notes.append(f"@{name}: no product with calibration data; not weighted")
            elif not hessian.is_finite:
                account.notes.append(f"@{name}: inputs with infinite squares; not weighted")
                hessian = None
            yield name, Data(hessian, None, self.damping)

    def _store(self, account: Account, name: str, data: Data) -> None:
        def encode(stored: Encoding, weight: Weight) -> Encoding | str:
            if wrong := self.misfit(stored):
                return wrong
            made = self._encoded(account, stored, weight, data)
            if isinstance(made, str):
                return made
            count = stored.kept_count if isinstance(stored, Sparse) else stored.numel
            rows = int(stored.type.shape[weight.axis])
            mask = stored.nbytes - stored.values.nbytes if isinstance(stored, Sparse) else 0
            most = min(stored.nbytes, count + 2 * rows + max(0, mask))
            if made.nbytes < most:
                return made
            return f"{made.nbytes} bytes as palettes; need fewer than {most}, of 8-bit codes"

        account.store(name, encode)

    def _encoded(
        self, account: Account, stored: Encoding, weight: Weight, data: Data
    ) -> Encoding | str:
        dense, shape = stored.decode(), tuple(int(d) for d in stored.type.shape)
        # Palettes and scales lie along the first axis, what a row is multiplied with along its own.
        axis = weight.axis if self._is_plain or weight.axis == 0 else 0
        w, importance = to_rows(dense.float(), axis), data.importance
        hessian = data.hessian.matrix if data.hessian and self.feedback else None
        if axis != weight.axis and importance is not None:
            n, k = rows_shape(shape, weight.axis)
            importance = to_rows(from_rows(importance.expand(n, k), shape, weight.axis), 0)
            account.notes.append(f"@{weight.name}: rows of axis {weight.axis}; nearest entries")
            hessian = None
        kept = to_rows(stored.mask, axis) if isinstance(stored, Sparse) else None
        made = palettes(w, self._layout(w), importance, hessian, data.damping, self.outliers, kept)
        return self._laid(made, stored, shape, axis)

    @property
    def _is_plain(self) -> bool:
        """Whether one palette of scalars stands for all, whatever the order of the weights."""
        return self.vector == 1 and self.rows == 0 and self.chunks == 1 and self.group == 0

    def _layout(self, w: Tensor) -> Layout:
        n, k = w.shape
        runs = n // (self.rows or n), self.chunks or k // self.vector
        table, scale = (DType(d).torch_dtype for d in (self.table_dtype, self.scale_dtype))
        return Layout(2**self.bits, runs, self.vector, self.group, self.method, table, scale)

    def _laid(
        self, made: Made, stored: Encoding, shape: tuple[int, ...], axis: int
    ) -> Encoding | str:
        found = made.palettes
        scales = found.scale
        finite = scales is None or bool(scales.isfinite().all())
        if not (finite and bool(found.table.isfinite().all())):
            return f"beyond the range of {self.table_dtype} or {self.scale_dtype}; need f32"
        laid = from_rows(found.codes, (*shape[:-1], shape[-1] // self.vector), axis)
        base: Encoding = Lut(laid, found.table, self.bits, scales, stored.type.dtype)
        if made.spared is not None and bool(made.spared.any()):
            base = with_outliers(base, made.spared, made.values, axis)
        return replace(stored, values=base) if isinstance(stored, Sparse) else base
