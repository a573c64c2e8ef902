"""Weights [N, K] in every encoding by name, and programs of one op that read such a weight."""

from __future__ import annotations

import dataclasses

import torch

import edgec.ops  # noqa: F401 - registers the op set
from edgec.ir import (
    Affine,
    Builder,
    Constant,
    Dense,
    DType,
    Encoding,
    Lut,
    Outliers,
    Program,
    Range,
    Sparse,
    TensorType,
)

N, K = 24, 96


def program_with(encoding: Encoding, op: str, rows: str = "batch, 1") -> Program:
    """One op that reads a constant `w` of [N, K] (conv: [N, K/9, 3, 3])."""
    constants = {"w": Constant("w", encoding)}
    kinds = {
        "linear": f"f32[{rows}, {K}]",
        "gather": "i64[batch, 5]",
        "conv": f"f32[batch, {int(encoding.type.shape[1])}, 6, 6]",
        "output": "f32[batch]",
    }
    names = {"batch": Range(1, 64), "length": Range(1, 64)}
    inputs = [("x", TensorType.parse(kinds[op]))]
    b = Builder.new("main", inputs, constants, names)
    x, w = b.input("x"), constants["w"]
    if op == "output":
        graph = b.finish([w])
    elif op == "gather":
        graph = b.finish([b.gather(w, x)])
    elif op == "conv":
        pads = ((1, 1), (1, 1))
        graph = b.finish([b.conv(x, w, None, stride=(1, 1), padding=pads, dilation=(1, 1))])
    else:
        graph = b.finish([b.linear(x, w, None)])
    return Program({"main": graph}, constants).verify()


def reshaped(encoding: Encoding, shape: tuple[int, ...]) -> Encoding:
    """The same rows as a tensor of another shape."""
    match encoding:
        case Dense():
            return Dense(encoding.values.reshape(shape), encoding.as_dtype)
        case Affine() | Lut():
            return dataclasses.replace(encoding, codes=encoding.codes.reshape(shape))
        case Sparse():
            values = reshaped(encoding.values, shape)
            return dataclasses.replace(encoding, mask=encoding.mask.reshape(shape), values=values)
        case Outliers():
            return dataclasses.replace(encoding, base=reshaped(encoding.base, shape))
    raise AssertionError(encoding.kind)


def random_affine(bits: int, group: int = 0, zero: bool = False, scale: str = "bf16") -> Affine:
    g = torch.Generator().manual_seed(bits * 1000 + group)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    blocks = (N, K // (group or K))
    codes = torch.randint(low, high, (N, K), generator=g, dtype=torch.int8)
    zeros = torch.randint(low, high, blocks, generator=g, dtype=torch.int8) if zero else None
    scales = (torch.rand(blocks, generator=g) * 0.02 + 0.001).to(DType(scale).torch_dtype)
    return Affine(codes, scales, zeros, bits, 0, group)


def random_lut(bits: int) -> Lut:
    g = torch.Generator().manual_seed(bits)
    codes = torch.randint(0, 2**bits, (N, K), generator=g, dtype=torch.uint8)
    return Lut(codes, torch.randn(1, 1, 2**bits, 1, generator=g).half(), bits)


def random_sparse(values: Encoding) -> Sparse:
    mask = torch.rand(N, K // 4, 4, generator=torch.Generator().manual_seed(3)).argsort(-1) < 2
    return Sparse("two_four", mask.reshape(N, K), values)


def random_outliers(base: Encoding) -> Outliers:
    positions = torch.arange(7, N * K, 41)
    return Outliers(base, positions, torch.linspace(-3, 3, len(positions)).half())


WEIGHTS = torch.randn(N, K, generator=torch.Generator().manual_seed(0))
ENCODINGS: dict[str, Encoding] = {
    "f32": Dense(WEIGHTS),
    "f16": Dense(WEIGHTS.half(), DType.F32),
    "bf16": Dense(WEIGHTS.bfloat16(), DType.F32),
    **{f"affine{bits}": random_affine(bits) for bits in range(2, 9)},
    "affine8 f16 scales": random_affine(8, scale="f16"),
    "affine8 zero": random_affine(8, zero=True),
    "affine8 g32": random_affine(8, 32),
    "affine8 g32 zero": random_affine(8, 32, zero=True),
    "affine4 f32 scales": random_affine(4, 32, scale="f32"),
    **{f"affine4 g{g}": random_affine(4, g) for g in (16, 32, 48, 96, 6)},
    **{f"affine4 g{g} zero": random_affine(4, g, zero=True) for g in (16, 32, 48, 96, 0)},
    "affine2 g32": random_affine(2, 32),
    "affine2 g32 zero": random_affine(2, 32, zero=True),
    "affine3 g32 zero": random_affine(3, 32, zero=True),
    **{f"lut{bits}": random_lut(bits) for bits in (1, 4, 5, 8)},
    "two_four f32": random_sparse(Dense(WEIGHTS)),
    "two_four affine4": random_sparse(random_affine(4, 32)),
    "two_four affine8": random_sparse(random_affine(8)),
    "outliers affine4": random_outliers(random_affine(4, 32)),
}
