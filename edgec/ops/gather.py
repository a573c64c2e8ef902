"""Ops that select by index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edgec.ir import dims
from edgec.ir.op import axis_of, broadcast, op, require
from edgec.ir.types import DType, TensorType
from edgec.ops.indexing import along, flat_index
from edgec.ops.movement import Movement, is_negative, listed

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value

INDICES = (DType.I64, DType.I32)


@op("gather")
@dataclass(frozen=True)
class Gather(Movement):
    """y = slices of the table at `ids`; an embedding, or a selection of indices.

    y[*a, *i, *c] = table[*a, ids[*i], *c],   a the axes before `axis`, c those behind

    Inputs       table : T[*A, n, *C]     T any
                 ids : i64 or i32 [*I], values in [0, n)
    Outputs      y : T[*A, *I, *C]
    Attributes   axis : int
    Constraints  (C1) -rank(table) <= axis < rank(table)    (C2) ids are i64 or i32
    Exactness    EXACT
    """

    axis: int = 0

    def infer(self, table: TensorType, ids: TensorType) -> TensorType:
        axis = axis_of(self, self.axis, table.rank)
        require(self, ids.dtype in INDICES, "C2", f"ids: {ids}", "i64 or i32")
        return table.with_shape(*table.shape[:axis], *ids.shape, *table.shape[axis + 1 :])

    def evaluate(self, table: Tensor, ids: Tensor) -> Tensor:
        axis = self.axis % table.dim()
        rows = torch.index_select(table, axis, ids.reshape(-1))
        return rows.reshape(*table.shape[:axis], *ids.shape, *table.shape[axis + 1 :])


@op("take_along")
@dataclass(frozen=True)
class TakeAlong(Movement):
    """y[i_0, .., i_r] = x[i_0, .., ids[i_0, .., i_r], .., i_r], the index at `axis` replaced.

    Inputs       x : T[*S]            T any
                 ids : i64 or i32 [*I], values in [0, S[axis])
    Outputs      y : T[*I]
    Attributes   axis : int
    Constraints  (C1) -rank(x) <= axis < rank(x)    (C2) ids are i64 or i32
                 (C3) ids has the rank of x, and no larger dimension but along the axis
    Exactness    EXACT
    """

    axis: int

    def infer(self, x: TensorType, ids: TensorType) -> TensorType:
        axis = axis_of(self, self.axis, x.rank)
        require(self, ids.dtype in INDICES, "C2", f"ids: {ids}", "i64 or i32")
        fits = ids.rank == x.rank and all(
            i == axis or not is_negative(dims.normal(a - b))
            for i, (a, b) in enumerate(zip(x.shape, ids.shape, strict=True))
        )
        require(self, fits, "C3", f"ids: {ids}", f"dimensions within those of x: {x}")
        return x.with_shape(*ids.shape)

    def evaluate(self, x: Tensor, ids: Tensor) -> Tensor:
        return torch.gather(x, self.axis, ids.long())

    def decompose(self, b: Builder, x: Value, ids: Value) -> Value:
        rank = x.type.rank
        places = [
            ids if i == self.axis % rank else along(b, b.iota(size=d), i, rank)
            for i, d in enumerate(ids.type.shape)
        ]
        flat = b.reshape(x, shape=(x.type.numel,))
        result: Value = b.gather(flat, flat_index(b, places, x.type.shape), axis=0)
        return result


@op("gather_nd")
@dataclass(frozen=True)
class GatherNd(Movement):
    """y[*i, *c] = x[ids_0[*i], .., ids_m[*i], *c]: advanced indexing of the leading axes.

    Inputs       x : T[n_0, .., n_m, *C]        T any
                 ids_k : i64 or i32 [*I_k], values in [0, n_k); broadcast to one shape I
    Outputs      y : T[*I, *C]
    Constraints  (C1) 1 .. rank(x) index operands    (C2) ids are i64 or i32    I_k broadcast
    Exactness    EXACT
    """

    def infer(self, x: TensorType, *ids: TensorType) -> TensorType:
        proper = 1 <= len(ids) <= x.rank
        require(self, proper, "C1", f"{len(ids)} index operands", f"1 .. {x.rank}")
        kinds = all(i.dtype in INDICES for i in ids)
        require(self, kinds, "C2", listed(ids), "i64 or i32")
        shape = broadcast(self, *(i.shape for i in ids))
        return x.with_shape(*shape, *x.shape[len(ids) :])

    def evaluate(self, x: Tensor, *ids: Tensor) -> Tensor:
        result: Tensor = x[tuple(i.long() for i in ids)]
        return result

    def decompose(self, b: Builder, x: Value, *ids: Value) -> Value:
        sizes, rest = x.type.shape[: len(ids)], x.type.shape[len(ids) :]
        table = b.reshape(x, shape=(dims.product(sizes), *rest))
        result: Value = b.gather(table, flat_index(b, ids, sizes), axis=0)
        return result
