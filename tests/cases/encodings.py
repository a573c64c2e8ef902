"""Random encodings of every kind and nesting, for property tests."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from edgec.ir import Affine, Dense, DType, Encoding, Lut, Outliers, Sparse
from edgec.ir.encodings.rows import from_rows, rows_shape

SCALES = (torch.float32, torch.float16, torch.bfloat16)
seeds = st.integers(0, 2**31).map(lambda seed: torch.Generator().manual_seed(seed))


@st.composite
def shapes(draw, multiple: int = 1):
    """Shapes of rank 1 to 4 whose last axis is a multiple of `multiple`."""
    leading = draw(st.lists(st.integers(1, 5), max_size=3))
    return (*leading, draw(st.integers(1, 4)) * multiple)


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def positive(shape, dtype, generator):
    return (torch.rand(shape, generator=generator) * 0.9 + 0.1).to(dtype)


@st.composite
def affine(draw, shape=None):
    shape = shape or draw(shapes())
    generator, bits = draw(seeds), draw(st.integers(2, 8))
    axis = draw(st.sampled_from([None, *range(len(shape))]))
    rows, length = rows_shape(shape, axis)
    group = draw(st.sampled_from([0, *divisors(length)]))
    blocks = (rows, length // (group or length))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    codes = torch.randint(low, high, shape, generator=generator, dtype=torch.int8)
    zero = None
    if draw(st.booleans()):
        zero = torch.randint(low, high, blocks, generator=generator, dtype=torch.int8)
    scale = positive(blocks, draw(st.sampled_from(SCALES)), generator)
    return Affine(codes, scale, zero, bits, axis, group)


@st.composite
def lut(draw, shape=None, scalar=False):
    vector = 1 if scalar else draw(st.integers(1, 3))
    shape = shape or draw(shapes(vector))
    vector = vector if shape[-1] % vector == 0 else 1
    generator, bits = draw(seeds), draw(st.integers(1, 8))
    codes_shape = (*shape[:-1], shape[-1] // vector)
    count = torch.Size(codes_shape).numel()
    rows = shape[0] if len(shape) > 1 else 1
    entries = draw(st.integers(1, 2**bits))
    r, c = (draw(st.sampled_from(divisors(n))) for n in (rows, count // rows))
    table = torch.randn(r, c, entries, vector, generator=generator)
    table = table.to(draw(st.sampled_from(SCALES)))
    codes = torch.randint(0, entries, codes_shape, generator=generator, dtype=torch.uint8)
    scale = None
    if draw(st.booleans()):
        blocks = draw(st.sampled_from(divisors(count // rows)))
        scale = positive((rows, blocks), draw(st.sampled_from(SCALES)), generator)
    return Lut(codes, table, bits, scale)


@st.composite
def dense(draw, shape=None):
    values = torch.randn(shape or draw(shapes()), generator=draw(seeds))
    dtype = draw(st.sampled_from([None, torch.float16, torch.bfloat16]))
    return Dense(values) if dtype is None else Dense(values.to(dtype), DType.F32)


def elementwise(shape=None):
    """Encodings that can stand under a mask."""
    return st.one_of(dense(shape), affine(shape), lut(shape, scalar=True))


def two_four_mask(shape, axis, generator):
    rows, length = rows_shape(shape, axis)
    order = torch.rand(rows, length // 4, 4, generator=generator).argsort(-1)
    return from_rows((order < 2).flatten(1), shape, axis)


@st.composite
def sparse(draw):
    generator = draw(seeds)
    if draw(st.booleans()):
        shape = (draw(st.integers(1, 5)), *draw(shapes(4)))
        fitting = [a for a in range(len(shape)) if rows_shape(shape, a)[1] % 4 == 0]
        values, axis = draw(elementwise(shape)), draw(st.sampled_from(fitting))
        return Sparse("two_four", two_four_mask(shape, axis, generator), values, axis)
    values = draw(elementwise())
    mask = torch.rand(tuple(values.type.shape), generator=generator) < 0.3
    return Sparse("bitmask", mask, values)


@st.composite
def outliers(draw, base=None):
    base = base if base is not None else draw(st.one_of(dense(), affine(), lut(), sparse()))
    generator = draw(seeds)
    chosen = torch.rand(base.numel, generator=generator) < 0.2
    positions = chosen.nonzero().reshape(-1)
    values = torch.randn(positions.numel(), generator=generator)
    return Outliers(base, positions, values.to(draw(st.sampled_from(SCALES[1:]))))


@st.composite
def sparse_outliers(draw):
    """A mask over outliers over a base."""
    inner = draw(outliers(draw(elementwise())))
    shape = tuple(inner.type.shape)
    mask = torch.rand(shape, generator=draw(seeds)) < 0.5
    mask.view(-1)[inner.positions] = True
    return Sparse("bitmask", mask, inner)


def encodings() -> st.SearchStrategy[Encoding]:
    return st.one_of(dense(), affine(), lut(), sparse(), outliers(), sparse_outliers())
