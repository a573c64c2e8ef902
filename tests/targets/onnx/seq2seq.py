"""A small program for tests: an encoder and a cached decoder step that share a tied table."""

from __future__ import annotations

from collections.abc import Callable

import torch

import edgec.ops  # noqa: F401 - registers the op set
from edgec.ir import (
    Affine,
    Builder,
    Constant,
    Dense,
    Encoding,
    Program,
    Range,
    State,
    TensorType,
)

V, E = 60, 64
DIMS = {"batch": Range(1, 8), "src": Range(1, 32), "past": Range(0, 32)}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.2


def int4(w: torch.Tensor, group: int = 32) -> Affine:
    blocks = w.unflatten(1, (-1, group))
    scale = (blocks.abs().amax(-1) / 7).bfloat16()
    codes = (blocks / scale.float().unsqueeze(-1)).round().clamp(-8, 7).to(torch.int8)
    return Affine(codes.flatten(1), scale, None, 4, 0, group)


def int8(w: torch.Tensor) -> Affine:
    scale = (w.abs().amax(1, keepdim=True) / 127).bfloat16()
    codes = (w / scale.float()).round().clamp(-127, 127).to(torch.int8)
    return Affine(codes, scale, None, 8, 0)


FORMS: dict[str, Callable[[torch.Tensor], Encoding]] = {"f32": Dense, "int8": int8, "int4": int4}


def program(form: str = "f32") -> Program:
    """encode(ids) -> memory;   step(token, past keys, memory) -> logits, keys of all positions."""
    encode = FORMS[form]
    weights: dict[str, Encoding] = {
        "embed": encode(random(V, E, seed=1)),
        "up": encode(random(2 * E, E, seed=2)),
        "down": encode(random(E, 2 * E, seed=3)),
        "norm": Dense(torch.ones(E)),
        "bias": Dense(random(E, seed=4)),
    }
    pool = {n: Constant(n, e) for n, e in weights.items()}
    graphs = {"encode": _encode(pool), "step": _step(pool)}
    return Program(graphs, pool, {"task": "translate"}).verify()


def _block(b, x, pool):
    hidden = b.gelu(b.linear(x, pool["up"], None))
    y = b.add(x, b.linear(hidden, pool["down"], pool["bias"]))
    return b.layer_norm(y, pool["norm"], None)


def _encode(pool):
    dims = {n: DIMS[n] for n in ("batch", "src")}
    b = Builder.new("encode", [("ids", TensorType.parse("i64[batch, src]"))], pool, dims)
    x = b.gather(pool["embed"], b.input("ids"))
    return b.finish([_block(b, x, pool)], ["memory"])


def _step(pool):
    inputs = [
        ("token", TensorType.parse("i64[batch, 1]")),
        ("past_key", TensorType.parse(f"f32[batch, 2, past, {E // 2}]")),
        ("memory", TensorType.parse(f"f32[batch, src, {E}]")),
    ]
    b = Builder.new("step", inputs, pool, dict(DIMS))
    batch, one = b.input("token").type.shape
    x = b.gather(pool["embed"], b.input("token"))
    heads = b.permute(b.reshape(x, shape=(batch, one, 2, E // 2)), order=(0, 2, 1, 3))
    keys = b.concat(b.input("past_key"), heads, axis=2)
    y = b.attention(heads, keys, keys, None)
    y = b.reshape(b.permute(y, order=(0, 2, 1, 3)), shape=(batch, one, E))
    y = b.add(y, b.reduce_mean(b.input("memory"), axes=(1,), keep=True))
    y = _block(b, y, pool)
    logits = b.reshape(b.linear(y, pool["embed"], None), shape=(batch, V))
    graph = b.finish([logits, keys], ["logits", "present_key"])
    graph.states = (State("past_key", "present_key"),)
    return graph


def inputs(function: str, batch: int = 2, src: int = 5, past: int = 3) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(7)
    if function == "encode":
        return [torch.randint(0, V, (batch, src), generator=g)]
    return [
        torch.randint(0, V, (batch, 1), generator=g),
        torch.randn((batch, 2, past, E // 2), generator=g),
        torch.randn((batch, src, E), generator=g),
    ]
