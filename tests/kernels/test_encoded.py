"""Packed weights of every encoding: bit for bit what the encoding decodes to, and in products."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgec.errors import UnsupportedError
from edgec.ir import Affine, Dense, DType, Lut, Outliers, Sparse
from edgec.kernels.activation_rounding import ActivationRange, RoundActivations
from edgec.kernels.calling import host_sets
from edgec.kernels.decode import Decode, DecodeRows
from edgec.kernels.linear import Linear
from edgec.kernels.panel_packing import pack
from edgec.kernels.weight_matrices import matrix_shape, transposed
from edgec.ops.activation_quantization import quantized
from edgec.ops.linear import Linear as LinearOp
from tests.cases.encodings import encodings
from tests.kernels.guarded import check, run

SETS = host_sets()

#: Code for this machine as it is for those whose instructions have no code of their own.
PLAIN = replace(SETS[-1], name="plain", lanes=4)


def affine(n, k, bits=8, group=0, zero=False, scale=torch.float32):
    blocks = (n, k // (group or k))
    high = 2 ** (bits - 1)
    codes = torch.randint(-high, high, (n, k), dtype=torch.int8)
    zeros = torch.randint(-high, high, blocks, dtype=torch.int8) if zero else None
    return Affine(codes, (torch.rand(blocks) + 0.1).to(scale), zeros, bits, 0, group)


def lut(n, k, bits=4, vector=1, table=(1, 1), blocks=0, dtype=torch.float32, entries=0):
    entries = entries or 2**bits
    codes = torch.randint(0, entries, (n, k // vector), dtype=torch.uint8)
    scale = torch.rand(n, blocks) + 0.1 if blocks else None
    values = torch.randn(*table, entries, vector) * (40 if dtype is torch.int8 else 1)
    return Lut(codes, values.to(dtype), bits, scale)


def two_four(values):
    n, k = values.type.shape
    mask = (torch.rand(n, k // 4, 4).argsort(-1) < 2).flatten(1)
    return Sparse("two_four", mask, values)


def with_outliers(base):
    places = (torch.rand(base.numel) < 0.02).nonzero().reshape(-1)
    return Outliers(base, places, torch.randn(len(places)).half())


def masked(values, kept=0.4):
    return Sparse("bitmask", torch.rand(values.type.shape) < kept, values)


#: Longer than a part (192) along k, and than a panel (32) along n.
FORMS = {
    "bf16": lambda: Dense(torch.randn(70, 300).bfloat16(), DType.F32),
    "int8": lambda: affine(70, 300),
    "int4 in groups, zero points": lambda: affine(70, 320, 4, 32, True, torch.bfloat16),
    "int7": lambda: affine(33, 301, 7, scale=torch.float16),
    "palette": lambda: lut(70, 300),
    "palette of 8 bits": lambda: lut(70, 300, 8),
    "palette of 8 bits in f16": lambda: lut(70, 300, 8, dtype=torch.float16),
    "palette of 147 in bf16": lambda: lut(70, 300, 8, dtype=torch.bfloat16, entries=147),
    "palette of 100": lambda: lut(70, 300, 7, entries=100),
    "palette of 8 bits in int8": lambda: lut(70, 320, 8, dtype=torch.int8, blocks=10),
    "palettes of 32 rows in f16": lambda: lut(64, 300, 6, table=(2, 1), dtype=torch.float16),
    "palettes of 16 rows in f16": lambda: lut(64, 384, 5, table=(4, 3), dtype=torch.float16),
    "a palette for each row": lambda: lut(35, 384, 3, table=(35, 2), dtype=torch.float16),
    "palettes along rows, scaled": lambda: lut(40, 384, 3, table=(1, 2), blocks=6),
    "palettes of vectors, scaled": lambda: lut(64, 384, 3, 2, (4, 3), 4),
    "2:4 of int4": lambda: two_four(affine(70, 308, 4)),
    "2:4 of groups": lambda: two_four(affine(40, 384, 8, 32)),
    "2:4 of a palette": lambda: two_four(lut(40, 384, 2, table=(1, 2))),
    "mask of int3": lambda: masked(affine(70, 300, 3)),
    "mask of f32": lambda: masked(Dense(torch.randn(70, 300))),
    "mask of bf16": lambda: masked(Dense(torch.randn(70, 300).bfloat16(), DType.F32)),
    "mask of groups, zero points": lambda: masked(affine(70, 320, 8, 32, True)),
    "mask of a palette": lambda: masked(lut(70, 300, 8, dtype=torch.float16)),
    "mask of a palette for each row": lambda: masked(lut(35, 384, 3, table=(35, 1))),
    "mask of nothing": lambda: masked(affine(70, 300, 7), 0),
    "mask of everything": lambda: masked(affine(64, 400, 7), 1),
    "outliers on int4": lambda: with_outliers(affine(70, 300, 4)),
    "outliers on 2:4": lambda: with_outliers(two_four(affine(33, 384, 8))),
}


def decoded(weight, isa):
    n, k = matrix_shape(weight)
    spec, arrays = pack(weight)
    arrays = {p.name: arrays[p.name] for p in spec.pointers()}
    return run(Decode(spec), isa, arrays, {"n": n, "k": k, "y_stride": k}, {"y": (n, k)})["y"]


def same_bits(got, want):
    want = want.numpy().reshape(got.shape)
    return np.array_equal(got.view("i4"), want.view("i4"))


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(encodings(), st.integers(0, 1))
def test_any_encoding_decodes_bit_for_bit(weight, which):
    assert same_bits(decoded(weight, SETS[which % len(SETS)]), weight.decode())


@pytest.mark.parametrize("form", FORMS)
def test_long_rows_decode_bit_for_bit(form):
    torch.manual_seed(3)
    weight = FORMS[form]()
    for isa in (*SETS, PLAIN):
        assert same_bits(decoded(weight, isa), weight.decode())


@pytest.mark.parametrize("form", FORMS)
def test_packed_bytes_are_about_those_of_the_encoding(form):
    weight = FORMS[form]()
    n, k = matrix_shape(weight)
    _, arrays = pack(weight)
    filled = (-(-n // 32) * 32 / n) * (-(-k // 12) * 12 / k)
    more = 4 * (k // 192 + 2) * (n // 32 + 1) + n + 64  # starts, zero points of a byte, table
    assert sum(a.nbytes for a in arrays.values()) <= weight.nbytes * filled * 1.02 + more


@pytest.mark.parametrize("form", ["int8", "int4 in groups, zero points", "mask of int3"])
@pytest.mark.parametrize("m", [1, 40])
def test_a_linear_layer_with_an_encoded_weight(form, m):
    weight = FORMS[form]()
    n, k = matrix_shape(weight)
    spec, arrays = pack(weight)
    x = torch.randn(m, k)
    arrays = {"x": x.numpy(), **arrays}
    sizes = {"m": m, "n": n, "k": k, "x_stride": k, "y_stride": n}
    want = x.double() @ weight.decode().double().T
    for isa in SETS:
        made = run(Linear(spec, bias=False), isa, arrays, sizes, {"y": (m, n)})["y"]
        check(LinearOp(), made, want, k)


@pytest.mark.parametrize("form", ["bf16", "int7", "outliers on int4"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_rows_by_index(form, dtype):
    weight = FORMS[form]()
    n, k = matrix_shape(weight)
    spec, arrays = pack(weight)
    index = torch.tensor([0, n - 1, 31, 32, 5, 5], dtype=dtype)
    arrays = {**arrays, "index": index.numpy()}
    sizes = {"m": len(index), "n": n, "k": k, "y_stride": k}
    kernel = DecodeRows(spec, str(dtype).removeprefix("torch."))
    made = run(kernel, SETS[0], arrays, sizes, {"y": (len(index), k)})["y"]
    assert same_bits(made, weight.decode()[index.long()])


def test_a_constant_of_another_type_is_refused():
    with pytest.raises(UnsupportedError, match=r"f16\[2\]"):
        pack(Dense(torch.zeros(2, dtype=torch.float16)))


def test_a_turned_weight_of_matmul_has_the_same_values():
    weight = Affine(torch.randint(-8, 8, (6, 9), dtype=torch.int8), torch.rand(9, 1) + 0.1, axis=1)
    turned = transposed(weight)
    assert turned is not None
    assert torch.equal(turned.decode(), weight.decode().T)
    assert transposed(affine(6, 9)) is None


@pytest.mark.parametrize("kind", ["dynamic", "dynamic_token", "static"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 37), (2, 130)])
def test_activations_are_rounded_as_the_op_says(kind, shape):
    scale = float(torch.tensor(0.0473).item())
    op = LinearOp(kind, scale, 11) if kind == "static" else LinearOp(kind)
    for x in (torch.randn(shape) * 3, torch.zeros(shape), torch.rand(shape) - 2):
        m, k = shape
        arrays, sizes = {"x": x.numpy()}, {"m": m, "k": k}
        if kind == "dynamic":
            found = run(ActivationRange(), SETS[0], arrays, sizes, {"range": (m, 2)})
            arrays |= found
        more = {"scale": scale, "zero": 11.0} if kind == "static" else {}
        for isa in SETS:
            made = run(RoundActivations(kind), isa, arrays, {**sizes, **more}, {"y": shape})["y"]
            assert np.array_equal(made, quantized(x, op, (-1,)).numpy())
