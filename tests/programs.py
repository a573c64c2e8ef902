"""Small programs for tests of everything above the ops: seeded, built by hand."""

from __future__ import annotations

import torch

import edgec.ops  # noqa: F401 - registers the ops
from edgec.ir import Builder, Constant, DType, Program, Range, State, TensorType, symbol

BATCH, LENGTH, PAST = symbol("batch"), symbol("length"), symbol("past")
VOCABULARY, WIDTH = 40, 32


def classifier(width: int = 64, classes: int = 10) -> Program:
    """main(x: f32[batch, width]) -> logits: two linear layers and a gelu."""
    generator = torch.Generator().manual_seed(0)
    b = Builder.new(
        "main", [("x", TensorType(DType.F32, (BATCH, width)))], {}, {"batch": Range(1, 64)}
    )
    weights = [torch.randn(n, width, generator=generator) / 8 for n in (width, classes)]
    w1, w2 = (b.constant(w, f"layer{i}.weight") for i, w in enumerate(weights))
    bias = b.constant(torch.randn(width, generator=generator), "layer0.bias")
    hidden = b.gelu(b.linear(b.input("x"), w1, bias), _name="hidden")
    graph = b.finish([b.linear(hidden, w2, None, _name="scores")], ["logits"])
    return Program({"main": graph}, graph.constants).verify()


def embedder() -> Program:
    """main(ids, mask: i64[batch, length]) -> y: a table with two rows in front, read at ids + 2."""
    generator = torch.Generator().manual_seed(0)
    tokens = TensorType(DType.I64, (BATCH, LENGTH))
    sizes = {"batch": Range(1, 8), "length": Range(1, 32)}
    b = Builder.new("main", [("ids", tokens), ("mask", tokens)], {}, sizes)
    table = b.constant(torch.randn(VOCABULARY + 2, WIDTH, generator=generator), "table")
    rows = b.gather(table, b.add(b.input("ids"), b.scalar(2, DType.I64)))
    weights = b.reshape(b.cast(b.input("mask"), dtype=DType.F32), shape=(BATCH, LENGTH, 1))
    total = b.reduce_sum(b.mul(rows, weights), axes=(1,))
    mean = b.div(total, b.reduce_sum(weights, axes=(1,)))
    graph = b.finish([mean], ["y"])
    return Program({"main": graph}, graph.constants).verify()


def decoder() -> Program:
    """encode(ids) -> memory, and step(token, memory, cache) -> logits and a cache that grows."""
    generator = torch.Generator().manual_seed(0)
    pool: dict[str, Constant] = {}
    ids = TensorType(DType.I64, (BATCH, LENGTH))
    memory = TensorType(DType.F32, (BATCH, LENGTH, WIDTH))
    sizes = {"batch": Range(1, 8), "length": Range(1, 16)}
    encode = Builder.new("encode", [("ids", ids)], pool, dict(sizes))
    table = encode.constant(torch.randn(VOCABULARY, WIDTH, generator=generator), "table")
    encode.finish([encode.tanh(encode.gather(table, encode.input("ids")))], ["memory"])
    inputs = [
        ("token", TensorType(DType.I64, (BATCH, 1))),
        ("memory", memory),
        ("cache", TensorType(DType.F32, (BATCH, PAST, WIDTH))),
    ]
    step = Builder.new("step", inputs, pool, sizes | {"past": Range(0, 15)})
    row = step.gather("@table", step.input("token"))
    cache = step.concat(step.input("cache"), row, axis=1)
    seen = step.concat(step.input("memory"), cache, axis=1)
    mean = step.reduce_mean(seen, axes=(1,))
    step.finish([step.linear(mean, "@table", None), cache], ["logits", "grown"])
    step.graph.states = (State("cache", "grown"),)
    return Program({"encode": encode.graph, "step": step.graph}, pool).verify()


def residual(layers: int = 2) -> Program:
    """main(x: f32[batch, 6, 32]) -> y: layers of x + w2 gelu(w1 norm(x))."""
    b = Builder.new(
        "main", [("x", TensorType(DType.F32, (BATCH, 6, WIDTH)))], {}, {"batch": Range(1, 64)}
    )
    x = b.input("x")
    for i in range(layers):
        generator = torch.Generator().manual_seed(i)
        gain, bias = (
            b.constant(torch.ones(WIDTH), f"n{i}.g"),
            b.constant(torch.zeros(WIDTH), f"n{i}.b"),
        )
        shapes = {"1": (4 * WIDTH, WIDTH), "2": (WIDTH, 4 * WIDTH)}
        w1, w2 = (
            b.constant(torch.randn(shape, generator=generator) / shape[1] ** 0.5, f"w{i}.{n}")
            for n, shape in shapes.items()
        )
        hidden = b.gelu(b.linear(b.layer_norm(x, gain, bias), w1, None))
        x = b.add(x, b.linear(hidden, w2, b.constant(torch.zeros(WIDTH), f"b{i}.2")))
    graph = b.finish([x], ["y"])
    return Program({"main": graph}, graph.constants).verify()
