"""Cases of reductions, running sums and the k largest."""

from __future__ import annotations

from tests.cases.case import Case

DYNAMIC = ({"n": 1}, {"n": 6})

_AXES: tuple[tuple[str, str, tuple[dict[str, int], ...]], ...] = (
    ("axes=[-1]", "f32[3, 7]", ({},)),
    ("axes=[0, 2], keep=True", "f32[2, 3, 5]", ({},)),
    ("axes=[0, 1, 2]", "f32[2, 3, 5]", ({},)),
    ("axes=[1], keep=True", "f32[2, n, 3]", DYNAMIC),
    ("axes=[-1, 0]", "f32[n, 2, 4]", DYNAMIC),
)
_FLOATS = ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min")
_ARGS = ("argmax", "argmin")

CASES = (
    *(Case(op, a, (x,), sizes) for op in _FLOATS for a, x, sizes in _AXES),
    *(
        Case(op, "axes=[0]", ("i64[4, 3] -9..9",))
        for op in ("reduce_sum", "reduce_max", "reduce_min")
    ),
    Case("reduce_sum", "axes=[0]", ("i32[4, 3] -9..9",)),
    *(
        Case(op, "axes=[1], keep=True", ("bool[3, n]",), DYNAMIC)
        for op in ("reduce_max", "reduce_min")
    ),
    *(
        Case(op, attributes, operands, sizes)
        for op in _ARGS
        for attributes, operands, sizes in (
            ("axis=-1", ("f32[3, 7]",), ({},)),
            ("axis=0, keep=True", ("f32[n, 3]",), DYNAMIC),
            ("axis=1", ("i64[4, 9] 0..3",), ({},)),  # equal elements: the first counts
        )
    ),
    Case("cumsum", "axis=-1", ("f32[3, 7]",)),
    Case("cumsum", "axis=0", ("f32[n, 3]",), DYNAMIC),
    Case("cumsum", "axis=1", ("i64[2, 5, 3] -9..9",)),
    Case("topk", "k=3", ("f32[2, 7]",)),
    Case("topk", "k=2, axis=0, largest=False", ("f32[5, 3]",)),
    Case("topk", "k=1, axis=1", ("f32[n, 4, 2]",), DYNAMIC),
    Case("topk", "k=4", ("i64[3, 9] 0..3",)),
    Case("topk", "k=5", ("f32[2, 5]",)),
)
