"""Cases of views, parts, indexing and data from nothing."""

from __future__ import annotations

from tests.cases.case import Case

DYNAMIC = ({"n": 2}, {"n": 7})

VIEWS = (
    Case("reshape", "shape=[6, 4]", ("f32[2, 3, 4]",)),
    Case("reshape", "shape=[]", ("f32[1, 1]",)),
    Case("reshape", "shape=[1, 3, 1]", ("f32[3]",)),
    Case("reshape", "shape=[n, 2, 2]", ("f32[n, 4]",), DYNAMIC),
    Case("reshape", "shape=[3*n]", ("f32[n, 3]",), DYNAMIC),
    Case("reshape", "shape=[b, n*m]", ("f32[b, n, m]",), ({"b": 1, "n": 3, "m": 2},)),
    Case("reshape", "shape=[4, 2]", ("i64[8] 0..9",)),
    Case("permute", "order=[1, 0]", ("f32[3, 5]",)),
    Case("permute", "order=[2, 0, 3, 1]", ("f32[2, n, 3, 5]",), DYNAMIC),
    Case("permute", "order=[0]", ("f32[4]",)),
    Case("permute", "order=[1, 0]", ("i64[3, 5] 0..9",)),
    Case("expand", "shape=[3, 5]", ("f32[3, 1]",)),
    Case("expand", "shape=[2, 3, 5]", ("f32[5]",)),
    Case("expand", "shape=[n, 4]", ("f32[1, 4]",), DYNAMIC),
    Case("expand", "shape=[2, n, 3]", ("f32[n, 1]",), DYNAMIC),
    Case("expand", "shape=[3, 2]", ("bool[3, 1]",)),
)

PARTS = (
    Case("slice", "axis=0, start=1, stop=3", ("f32[5, 2]",)),
    Case("slice", "axis=-1, start=1, stop=7, step=3", ("f32[2, 8]",)),
    Case("slice", "axis=1, start=2", ("i64[2, 5] 0..9",)),
    Case("slice", "axis=1, start=n - 1", ("f32[2, n]",), DYNAMIC),
    Case("slice", "axis=0, stop=n//2", ("f32[n, 3]",), DYNAMIC),
    Case("slice", "axis=0, step=2", ("f32[n, 3]",), DYNAMIC),
    Case("slice", "axis=0, start=2, stop=2", ("f32[5]",)),
    Case("scatter_slice", "axis=0, start=1, stop=3", ("f32[5, 2]", "f32[2, 2]")),
    Case("scatter_slice", "axis=1, start=1, stop=7, step=3", ("f32[2, 8]", "f32[2, 2]")),
    Case("scatter_slice", "axis=1, start=n - 1", ("f32[2, n]", "f32[2, 1]"), DYNAMIC),
    Case("scatter_slice", "axis=0, step=2", ("f32[n, 3]", "f32[(n + 1)//2, 3]"), DYNAMIC),
    Case("scatter_slice", "axis=0", ("i64[4] 0..9", "i64[4] 0..9")),
    Case("flip", "axes=[0]", ("f32[5]",)),
    Case("flip", "axes=[-1, 0]", ("f32[3, 2, 4]",)),
    Case("flip", "axes=[1]", ("f32[2, n, 3]",), DYNAMIC),
    Case("concat", "axis=0", ("f32[2, 3]", "f32[1, 3]", "f32[4, 3]")),
    Case("concat", "axis=-1", ("f32[n, 3]", "f32[n, 1]"), DYNAMIC),
    Case("concat", "axis=1", ("f32[2, n]", "f32[2, 3]", "f32[2, n]"), DYNAMIC),
    Case("concat", "axis=0", ("f32[past, 3]", "f32[1, 3]"), ({"past": 0}, {"past": 4})),
    Case("concat", "axis=0", ("i64[2] 0..9",)),
    Case("pad", "pads=[[1, 2], [0, 3]]", ("f32[2, 3]",)),
    Case("pad", "pads=[[0, 0], [2, 1]], value=-1.5", ("f32[n, 3]",), DYNAMIC),
    Case("pad", "pads=[[0, 8 - n]]", ("f32[n]",), DYNAMIC),
    Case("pad", "pads=[[1, 1]], value=7.0", ("i64[3] 0..9",)),
    Case("pad", "pads=[[1, 0]], value=1.0", ("bool[4]",)),
    Case("pad", "pads=[[0, 0], [0, 0], [3, 2]], mode=reflect", ("f32[2, 3, 5]",)),
    Case("pad", "pads=[[0, 0], [1, 1], [1, 0]], mode=reflect", ("f32[2, n, 3]",), DYNAMIC),
    Case("pad", "pads=[[0, 0], [0, 0], [2, 3], [1, 0]], mode=edge", ("f32[1, 2, n, 1]",), DYNAMIC),
)

INDEXED = (
    Case("gather", "", ("const f32[9, 4]", "i64[2, 3] 0..8")),
    Case("gather", "", ("const f32[9, 4]", "i64[n, 5] 0..8"), DYNAMIC),
    Case("gather", "", ("f32[9, 4]", "i32[3] 0..8")),
    Case("gather", "axis=1", ("f32[2, 5, 3]", "i64[4] 0..4")),
    Case("gather", "axis=-1", ("f32[n, 5]", "i64[2, 2] 0..4"), DYNAMIC),
    Case("gather", "axis=0", ("f32[5, 3]", "i64[] 0..4")),
    Case("gather", "axis=0", ("i64[5] 0..9", "i64[7] 0..4")),
    Case("take_along", "axis=1", ("f32[3, 5]", "i64[3, 2] 0..4")),
    Case("take_along", "axis=0", ("f32[4, 3]", "i64[6, 2] 0..3")),
    Case("take_along", "axis=-1", ("f32[n, 5]", "i64[n, 7] 0..4"), DYNAMIC),
    Case("take_along", "axis=1", ("i64[3, 5] 0..9", "i32[3, 2] 0..4")),
    Case("gather_nd", "", ("f32[4, 5]", "i64[7] 0..3", "i64[7] 0..4")),
    Case("gather_nd", "", ("f32[4, 5, 3]", "i64[2, 1] 0..3", "i64[3] 0..4")),
    Case("gather_nd", "", ("f32[n, 5, 2]", "i64[3] 0..1", "i64[3] 0..4"), DYNAMIC),
    Case("gather_nd", "", ("f32[4, n]", "i64[6] 0..3", "i64[6] 0..1"), DYNAMIC),
    Case("gather_nd", "", ("f32[4, 5]", "i32[6] 0..3")),
)

MADE = (
    Case("full", "shape=[2, 3], value=1.5, dtype=f32"),
    Case("full", "shape=[n], value=-3, dtype=i64", (), DYNAMIC),
    Case("full", "shape=[], value=True, dtype=bool"),
    Case("full", "shape=[2], value=-inf, dtype=f32"),
    Case("iota", "size=5"),
    Case("iota", "size=n, start=n - 1, step=-1", (), DYNAMIC),
    Case("iota", "size=4, dtype=f32, start=2, step=3"),
    Case("iota", "size=n + 1, dtype=i32", (), DYNAMIC),
    Case("dim_value", "dim=2*n + 1", (), DYNAMIC),
    Case("dim_value", "dim=7, dtype=f32"),
)

CASES = (*VIEWS, *PARTS, *INDEXED, *MADE)
