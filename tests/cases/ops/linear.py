"""Cases of matrix products, attention and norms."""

from __future__ import annotations

from tests.cases.case import Case

BATCHES = ({"b": 1}, {"b": 3})
SEQUENCES = ({"b": 1, "t": 1}, {"b": 2, "t": 5})
ROUNDS = "rounds x"

LINEAR = (
    Case("linear", "", ("f32[3, 5]", "const f32[4, 5]", "const f32[4]")),
    Case("linear", "", ("f32[b, t, 5]", "const f32[4, 5]", "const f32[4]"), SEQUENCES),
    Case("linear", "", ("f32[b, t, 7]", "const f32[3, 7]", "_"), SEQUENCES),
    Case("linear", "", ("f32[6]", "const f32[4, 6]", "const f32[4]")),
    Case("linear", "", ("f32[2, 5]", "f32[4, 5]", "_")),
    Case("linear", "", ("f32[2, 1]", "const f32[1, 1]", "const f32[1]")),
    *(
        Case("linear", f"activations={kind}", (x, "const f32[4, 8]", bias), sizes, ROUNDS)
        for kind in ("dynamic", "dynamic_token")
        for x, bias, sizes in (
            ("f32[b, t, 8]", "const f32[4]", SEQUENCES),
            ("f32[3, 8] 0.5..2", "_", ({},)),
            ("f32[3, 8] -2..-0.5", "_", ({},)),
            ("f32[2, 8] 0..0", "const f32[4]", ({},)),
        )
    ),
    *(
        Case("linear", f"activations=static, {given}", (x, "const f32[4, 8]", bias), sizes, ROUNDS)
        for given, x, bias, sizes in (
            ("x_scale=0.015625, x_zero=128", "f32[b, t, 8]", "const f32[4]", SEQUENCES),
            ("x_scale=0.0078125", "f32[3, 8] 0..2", "_", ({},)),
            ("x_scale=0.0029296875, x_zero=255", "f32[8] -2..2", "_", ({},)),  # clipped
        )
    ),
    Case("matmul", "", ("f32[3, 5]", "f32[5, 4]")),
    Case("matmul", "", ("f32[2, 3, 5]", "const f32[5, 4]")),
    Case("matmul", "", ("f32[b, 2, t, 5]", "f32[b, 2, 5, t]"), SEQUENCES),
    Case("matmul", "", ("f32[b, 1, 3, 5]", "f32[2, 5, 4]"), BATCHES),
    Case("matmul", "", ("f32[1, 7]", "f32[7, 1]")),
)

_QKV = ("f32[b, 4, t, 8]", "f32[b, 4, s, 8]", "f32[b, 4, s, 8]")
_GROUPED = ("f32[b, 6, t, 4]", "f32[b, 2, s, 4]", "f32[b, 2, s, 5]")
_SELF = ("f32[b, 2, t, 4]", "f32[b, 2, t, 4]", "f32[b, 2, t, 4]")
_SIZES = ({"b": 1, "t": 1, "s": 3}, {"b": 2, "t": 5, "s": 7})

ATTENTION = (
    Case("attention", "", ("f32[2, 3, 4, 8]", "f32[2, 3, 5, 8]", "f32[2, 3, 5, 6]", "_")),
    Case("attention", "", (*_QKV, "_"), _SIZES),
    Case("attention", "scale=0.3", (*_QKV, "bool[b, 1, 1, s]"), _SIZES),
    Case("attention", "scale=1.0", (*_QKV, "bool[b, 1, t, s]"), _SIZES),
    Case("attention", "", (*_QKV, "f32[1, 4, t, s]"), _SIZES),
    Case("attention", "", (*_QKV, "f32[t, s]"), _SIZES),
    Case("attention", "", (*_QKV, "bool[1, 1, 1, s] 0..0"), _SIZES),  # nothing is visible
    Case("attention", "causal=True", (*_SELF, "_"), SEQUENCES),
    Case("attention", "causal=True", (*_QKV, "_"), _SIZES),
    Case("attention", "causal=True", (*_SELF, "bool[b, 1, t, t]"), SEQUENCES),
    Case("attention", "causal=True", (*_SELF, "f32[1, 1, t, t]"), SEQUENCES),
    Case("attention", "", (*_GROUPED, "_"), _SIZES),
    Case("attention", "", (*_GROUPED, "bool[b, 1, t, s]"), _SIZES),
    Case("attention", "causal=True", (*_GROUPED, "bool[b, 6, t, s]"), _SIZES),
    Case("attention", "", (*_GROUPED, "f32[s]"), _SIZES),
)

_TOKENS = ({"b": 1, "n": 1}, {"b": 2, "n": 21})
_SAME = ("f32[b, 2, n, 4]", "f32[b, 2, n, 4]", "f32[b, 2, n, 3]")
_SHARED = ("f32[b, 4, n, 4]", "f32[b, 2, n, 4]", "f32[b, 2, n, 4]")

PATTERNS = tuple(
    Case("attention", f"{more}pattern='{pattern}'", (*operands, mask), _TOKENS)
    for more, pattern, operands, mask in (
        ("", "block_local(4)", _SAME, "_"),
        ("", "block_local(3, 1)", _SHARED, "bool[b, 1, 1, n]"),
        ("", "window(3)", _SAME, "_"),
        ("scale=0.3, ", "window(2)", _SHARED, "f32[1, 4, n, n]"),
        ("causal=True, ", "window(5)", _SAME, "bool[b, 1, n, n]"),
        ("", "window(3, causal=True)", _SHARED, "_"),
        ("", "strided(2, 3)", _SAME, "bool[b, 1, 1, n]"),
        ("", "dilated(6, 2)", _SHARED, "_"),
        ("causal=True, ", "dilated(9, 3) + window(1)", _SAME, "_"),
        ("", "global(2, 1)", _SAME, "_"),
        ("", "random(2, 3, 5)", _SAME, "_"),
        ("", "window(2) + global(3)", _SAME, "bool[b, 1, 1, n]"),
        ("", "window(2) + global(2) + random(1, 4, 7)", _SHARED, "f32[n]"),
        ("causal=True, ", "window(2) + global(2, 2) + random(1, 4)", _SAME, "_"),
        ("", "block_local(4) + strided(2, 2) + dilated(8, 4)", _SAME, "bool[1, 1, n, 1]"),
        ("", "causal() + global(2)", _SAME, "_"),
    )
)

NORMS = (
    *(
        Case(op, attributes, (x,), sizes)
        for op in ("softmax", "log_softmax")
        for attributes, x, sizes in (
            ("", "f32[3, 7] -9..9", ({},)),
            ("axis=1", "f32[2, 3, 4]", ({},)),
            ("axis=-1", "f32[b, t]", SEQUENCES),
            ("axis=1", "f32[b, t, 3]", SEQUENCES),
            ("axis=0", "f32[5]", ({},)),
        )
    ),
    Case("layer_norm", "", ("f32[3, 8]", "const f32[8]", "const f32[8]")),
    Case("layer_norm", "eps=1e-12", ("f32[b, t, 8]", "const f32[8]", "const f32[8]"), SEQUENCES),
    Case("layer_norm", "eps=0.1", ("f32[b, t, 7]", "const f32[7]", "_"), SEQUENCES),
    Case("layer_norm", "", ("f32[b, 5]", "_", "_"), BATCHES),
    Case(
        "layer_norm",
        "axes_count=2",
        ("f32[b, 3, 5]", "const f32[3, 5]", "const f32[3, 5]"),
        BATCHES,
    ),
    Case("rms_norm", "", ("f32[3, 8]", "const f32[8]")),
    Case("rms_norm", "eps=0.1", ("f32[b, t, 7]", "const f32[7]"), SEQUENCES),
    Case("rms_norm", "", ("f32[b, t, 7]", "_"), SEQUENCES),
    Case("rms_norm", "axis=1", ("f32[b, 6, 3]", "const f32[6]"), BATCHES),
    Case("group_norm", "groups=2", ("f32[2, 6, 3, 5]", "const f32[6]", "const f32[6]")),
    Case(
        "group_norm",
        "groups=6, eps=0.01",
        ("f32[b, 6, t]", "const f32[6]", "_"),
        ({"b": 1, "t": 3}, {"b": 2, "t": 4}),
    ),
    Case("group_norm", "groups=1", ("f32[b, 4, 3]", "_", "_"), BATCHES),
    Case("group_norm", "groups=2", ("f32[b, 6]", "_", "const f32[6]"), BATCHES),
    Case("batch_norm", "", ("f32[2, 3, 4, 5]", *["const f32[3]", "const f32[3] 0.5..2"] * 2)),
    Case(
        "batch_norm",
        "eps=0.01",
        ("f32[b, 3, t]", "const f32[3]", "const f32[3] 0.5..2", "_", "_"),
        SEQUENCES,
    ),
    Case(
        "batch_norm",
        "",
        ("f32[b, 5]", "const f32[5]", "const f32[5] 0.5..2", "_", "const f32[5]"),
        BATCHES,
    ),
    Case(
        "batch_norm",
        "",
        ("f32[1, 3, 2, 2]", "const f32[3]", "const f32[3] 0.5..2", "const f32[3]", "_"),
    ),
    Case("dft_real", "axes=[-1]", ("f32[3, 8]",)),
    Case("dft_real", "axes=[-1, -2]", ("f32[2, 5, 7]",)),
    Case("dft_real", "axes=[1, 2]", ("f32[b, t, 6]",), SEQUENCES),
    Case("dft_real", "axes=[0]", ("f32[9]",)),
    Case("dft_real", "axes=[0, 2, 1]", ("f32[3, 4, 5]",)),
)

CASES = (*LINEAR, *ATTENTION, *PATTERNS, *NORMS)
