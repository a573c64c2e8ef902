"""Encodings: exact decoding, exact bytes, and a file form that gives the same constant back."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.errors import FormatError, VerifyError
from edgec.ir import Affine, Dense, DType, Encoding, Lut, Outliers, Sparse
from edgec.ir.encoding import read_encoding, to_json
from edgec.ir.encodings.rows import from_rows, to_rows
from tests.cases.encodings import (
    affine,
    elementwise,
    encodings,
    lut,
    outliers,
    sparse,
    sparse_outliers,
)

half = settings(max_examples=50)


# ------------------------------------------------------------------ properties of all encodings
@half
@given(encodings())
def test_bytes_are_the_sum_of_the_packed_parts(encoding: Encoding):
    parts = encoding.parts().values()
    assert encoding.nbytes == sum(t.numel() * t.element_size() for t in parts)


@half
@given(encodings())
def test_parts_and_attributes_give_the_same_constant_back(encoding: Encoding):
    description = json.loads(json.dumps(to_json(encoding)))
    again = read_encoding(description, encoding.parts())
    assert again.digest == encoding.digest
    assert again.describe() == encoding.describe()
    assert str(again.type) == str(encoding.type)
    assert torch.equal(again.decode(), encoding.decode())


@half
@given(encodings())
def test_decoding_gives_the_declared_type(encoding: Encoding):
    decoded = encoding.decode()
    assert DType.of(decoded.dtype) is encoding.type.dtype
    assert tuple(decoded.shape) == encoding.type.shape


@half
@given(st.one_of(affine(), sparse(), lut(), outliers(), sparse_outliers()))
def test_encoding_what_was_decoded_changes_nothing(encoding: Encoding):
    again = encoding.encode(encoding.decode())
    assert torch.equal(again.decode(), encoding.decode())
    assert again.nbytes == encoding.nbytes


@half
@given(encodings(), st.data())
def test_a_flipped_bit_of_any_part_changes_the_digest(encoding: Encoding, data):
    parts = {k: v.clone() for k, v in encoding.parts().items() if v.numel()}
    name = data.draw(st.sampled_from(sorted(parts)))
    flat = parts[name].view(-1).view(torch.uint8)
    at, bit = data.draw(st.integers(0, flat.numel() - 1)), data.draw(st.integers(0, 7))
    flat[at] ^= 1 << bit
    try:
        changed = read_encoding(to_json(encoding), {**encoding.parts(), **parts})
    except FormatError:
        return
    assert changed.digest != encoding.digest


# ------------------------------------------------------------------ affine
@half
@given(affine())
def test_affine_decodes_by_its_formula(e: Affine):
    """Against the definition in float64, element by element of the rows."""
    codes = to_rows(e.codes.double(), e.axis)
    size = codes.shape[1] // e.scale.shape[1]
    scale = e.scale.double().repeat_interleave(size, 1)
    zero = 0 if e.zero is None else e.zero.double().repeat_interleave(size, 1)
    want = from_rows(scale * (codes - zero), tuple(e.codes.shape), e.axis)
    if e.scale.dtype == torch.float32:
        assert torch.equal(e.decode(), want.float())
    else:  # an integer of 9 bits times 11 significant bits fits into float32
        assert torch.equal(e.decode().double(), want)


@half
@given(affine(), st.integers(0, 2**31))
def test_affine_is_off_by_half_a_step_within_its_range(e: Affine, seed: int):
    """|w - w'| <= scale / 2, up to the rounding of w / scale (2^-24 of at most 255 steps)."""
    step = e.blocks(e.decode()) * 0 + e.scale.float().unsqueeze(-1)
    zero = 0.0 if e.zero is None else e.zero.float().unsqueeze(-1)
    share = torch.rand(step.shape, generator=torch.Generator().manual_seed(seed))
    blocks = step * (e.low + share * (e.high - e.low) - zero)
    w = from_rows(blocks.flatten(1), tuple(e.codes.shape), e.axis)
    error = e.blocks((e.encode(w).decode() - w).abs())
    assert bool((error <= step * (0.5 + 255 * 2**-22)).all())


@half
@given(affine())
def test_affine_codes_are_found_again(e: Affine):
    again = e.encode(e.decode())
    assert torch.equal(again.codes, e.codes)


@half
@given(affine())
def test_affine_zero_is_exact(e: Affine):
    assert not e.encode(torch.zeros(e.codes.shape)).decode().any()


def test_affine_bytes_of_int4_in_groups():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(-8, 8, (512, 2048), generator=generator, dtype=torch.int8)
    scale = torch.ones(512, 64, dtype=torch.bfloat16)
    plain = Affine(codes, scale, bits=4, group=32)
    assert plain.nbytes == 512 * 2048 // 2 + 512 * 64 * 2 == 589_824
    zero = torch.zeros(512, 64, dtype=torch.int8)
    assert dataclasses.replace(plain, zero=zero).nbytes == 589_824 + 512 * 64 // 2
    mask = torch.tensor([True, False, True, False]).repeat(512, 512)
    kept, choices, scales = 512 * 2048 // 2 // 2, -(-512 * 2048 // 12), 512 * 64 * 2
    assert Sparse("two_four", mask, plain).nbytes == kept + choices + scales == 415_062
    bits = 512 * 2048 // 8
    assert Sparse("bitmask", mask, plain).nbytes == kept + bits + scales == 458_752


def test_affine_gradients_reach_the_scales():
    scale = torch.ones(2, 1, requires_grad=True)
    Affine(torch.tensor([[1, -2], [3, 4]], dtype=torch.int8), scale).decode().sum().backward()
    assert scale.grad is not None
    assert scale.grad.tolist() == [[-1.0], [7.0]]


def test_affine_decodes_to_the_dtype_that_is_asked_for():
    e = Affine(torch.ones(2, 2, dtype=torch.int8), torch.full((2, 1), 0.5), dtype=DType.F16)
    assert e.type.dtype is DType.F16
    assert e.decode().dtype == torch.float16


CODES = torch.zeros(4, 6, dtype=torch.int8)
ONES = torch.ones(4, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Affine(CODES, ONES, bits=1), "2 <= bits <= 8"),
        (lambda: Affine(CODES, ONES, bits=9), "2 <= bits <= 8"),
        (lambda: Affine(CODES + 8, ONES, bits=4), r"codes in \[8, 8\]"),
        (lambda: Affine(CODES.int(), ONES), "int8"),
        (lambda: Affine(CODES, ONES, axis=2), "an axis of shape"),
        (lambda: Affine(CODES, ONES, group=4), "a divisor of K=6"),
        (lambda: Affine(CODES, ONES, group=3), r"\[4, 2\] for codes"),
        (lambda: Affine(CODES, ONES * 0), "scales > 0"),
        (lambda: Affine(CODES, ONES * float("nan")), "scales > 0"),
        (lambda: Affine(CODES, ONES * float("inf")), "scales > 0"),
        (lambda: Affine(CODES, ONES.double()), "one of f32, f16, bf16"),
        (lambda: Affine(CODES, ONES, torch.zeros(4, 2, dtype=torch.int8)), "like the scales"),
        (lambda: Affine(CODES, ONES, torch.full((4, 1), 8, dtype=torch.int8), 4), "zero points in"),
        (lambda: Affine(CODES, ONES, dtype=DType.I8), "a float dtype"),
        (lambda: Affine(CODES[:0], ONES[:0]), "at least one element"),
    ],
)
def test_affine_refuses_what_does_not_fit(make, message):
    with pytest.raises(VerifyError, match=message):
        make()


# ------------------------------------------------------------------ lut
@half
@given(lut())
def test_lut_decodes_by_its_formula(e: Lut):
    """Against a loop over the definition."""
    r, c, _, vector = e.table.shape
    rows = e.codes.shape[0] if e.codes.dim() > 1 else 1
    codes = e.codes.reshape(rows, -1)
    want = torch.empty(rows, codes.shape[1] * vector)
    for n in range(rows):
        for m in range(codes.shape[1]):
            entry = e.table[n // (rows // r), m // (codes.shape[1] // c), int(codes[n, m])].float()
            if e.scale is not None:
                size = want.shape[1] // e.scale.shape[1]
                entry = entry * e.scale[n, m * vector // size].float()
            want[n, m * vector : (m + 1) * vector] = entry
    assert torch.equal(e.decode(), want.reshape(e.shape))


@half
@given(lut(), st.integers(0, 2**31))
def test_lut_encodes_to_the_nearest_entry(e: Lut, seed: int):
    """No other choice of codes comes nearer, in float32."""
    w = torch.randn(e.shape, generator=torch.Generator().manual_seed(seed))
    found = (e.encode(w).decode() - w).square()
    vector = e.table.shape[3]
    found = found.reshape(*e.codes.shape, vector).sum(-1)
    for code in range(e.table.shape[2]):
        other = Lut(torch.full_like(e.codes, code), e.table, e.bits, e.scale)
        error = (other.decode() - w).square().reshape(*found.shape[:-1], -1, vector).sum(-1)
        assert bool((found <= error * (1 + 1e-5) + 1e-6).all())


def test_lut_gradients_reach_table_and_scale():
    table = torch.tensor([0.0, 2.0]).view(1, 1, 2, 1).requires_grad_()
    scale = torch.tensor([[1.0], [3.0]], requires_grad=True)
    codes = torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8)
    Lut(codes, table, 1, scale).decode().sum().backward()
    assert table.grad is not None and scale.grad is not None
    assert table.grad.view(-1).tolist() == [1.0, 7.0]
    assert scale.grad.view(-1).tolist() == [2.0, 4.0]


INDEX = torch.zeros(4, 6, dtype=torch.uint8)
TABLE = torch.zeros(1, 1, 4, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lut(INDEX, TABLE, 0), "1 <= bits <= 8"),
        (lambda: Lut(INDEX + 4, TABLE, 3), "codes below P=4"),
        (lambda: Lut(INDEX, TABLE, 1), "1 <= P <= 2"),
        (lambda: Lut(INDEX.int(), TABLE, 2), "uint8"),
        (lambda: Lut(INDEX, TABLE.view(1, 4), 2), r"need \[R, C, P, v\]"),
        (lambda: Lut(INDEX, TABLE.repeat(3, 1, 1, 1), 2), "R that divides 4 rows"),
        (lambda: Lut(INDEX, TABLE.repeat(1, 4, 1, 1), 2), "C that divides 6 codes"),
        (lambda: Lut(INDEX, TABLE + float("nan"), 2), "finite entries"),
        (lambda: Lut(INDEX, TABLE, 2, torch.ones(4, 4)), r"need \[4, 6/B\]"),
        (lambda: Lut(INDEX, TABLE.repeat(1, 1, 1, 2), 2, torch.ones(4, 4)), "multiple of v=2"),
        (lambda: Lut(INDEX, TABLE, 2, -torch.ones(4, 1)), "scales > 0"),
    ],
)
def test_lut_refuses_what_does_not_fit(make, message):
    with pytest.raises(VerifyError, match=message):
        make()


# ------------------------------------------------------------------ sparse
@half
@given(sparse())
def test_sparse_keeps_weights_bit_for_bit_and_nothing_else(e: Sparse):
    decoded, values = e.decode(), e.values.decode()
    assert torch.equal(decoded[e.mask], values[e.mask])
    assert not decoded[~e.mask].any()


@half
@given(sparse())
def test_two_four_has_at_most_two_non_zeros_in_four(e: Sparse):
    if e.pattern == "two_four":
        fours = to_rows(e.decode(), e.axis).unflatten(1, (-1, 4))
        assert int((fours != 0).sum(-1).max()) <= 2


@half
@given(elementwise())
def test_a_full_mask_costs_one_bit_per_weight(values: Encoding):
    mask = torch.ones(tuple(values.type.shape), dtype=torch.bool)
    assert Sparse("bitmask", mask, values).nbytes == values.nbytes + -(-mask.numel() // 8)


def test_two_four_follows_the_rows_of_its_axis():
    mask = torch.zeros(4, 3, dtype=torch.bool)
    mask[:2] = True  # [K, N] of a matmul: two of the four in each column
    Sparse("two_four", mask, Dense(torch.ones(4, 3)), axis=1)
    with pytest.raises(VerifyError, match="a multiple of 4"):
        Sparse("two_four", mask, Dense(torch.ones(4, 3)), axis=0)


MASK = torch.tensor([[True, True, False, False]] * 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sparse("two_four", ~MASK & MASK, Dense(torch.ones(2, 4))), "exactly two kept"),
        (lambda: Sparse("bitmask", MASK.int(), Dense(torch.ones(2, 4))), "bool"),
        (lambda: Sparse("bitmask", MASK, Dense(torch.ones(4, 2))), "the mask's shape"),
        (lambda: Sparse("bitmask", MASK, Dense(torch.ones(2, 4).int())), "floats"),
        (
            lambda: Sparse("bitmask", MASK, Sparse("bitmask", MASK, Dense(torch.ones(2, 4)))),
            "their conjunction",
        ),
        (
            lambda: Sparse(
                "bitmask",
                MASK,
                Lut(torch.zeros(2, 2, dtype=torch.uint8), torch.zeros(1, 1, 2, 2), 1),
            ),
            "several neighbours",
        ),
        (
            lambda: Sparse(
                "bitmask",
                MASK,
                Outliers(Dense(torch.ones(2, 4)), torch.tensor([3]), torch.ones(1).half()),
            ),
            "outliers under the mask",
        ),
    ],
)
def test_sparse_refuses_what_does_not_fit(make, message):
    with pytest.raises(VerifyError, match=message):
        make()


# ------------------------------------------------------------------ outliers
@half
@given(outliers())
def test_outliers_are_exact_and_the_rest_is_the_base(e: Outliers):
    decoded, base = e.decode().reshape(-1), e.base.decode().reshape(-1).clone()
    assert torch.equal(decoded[e.positions], e.values.to(decoded.dtype))
    base[e.positions] = decoded[e.positions]
    assert torch.equal(decoded, base)


def test_outliers_cost_less_than_32_bits_at_one_percent():
    generator = torch.Generator().manual_seed(0)
    positions = (torch.rand(10**6, generator=generator) < 0.01).nonzero().view(-1)
    values = torch.ones(positions.numel(), dtype=torch.bfloat16)
    base = Dense(torch.zeros(1000, 1000))
    e = Outliers(base, positions, values)
    bits_each = 8 * (e.nbytes - base.nbytes) / positions.numel()
    assert 16 + 7 < bits_each <= 16 + 12


BASE = Dense(torch.ones(2, 4))
ONE = torch.ones(2).half()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Outliers(BASE, torch.tensor([1, 1]), ONE), "ascending"),
        (lambda: Outliers(BASE, torch.tensor([1, 8]), ONE), r"in \[0, 8\)"),
        (lambda: Outliers(BASE, torch.tensor([-1, 2]), ONE), "ascending"),
        (lambda: Outliers(BASE, torch.tensor([0, 1]), ONE.float()), "f16 or bf16"),
        (lambda: Outliers(BASE, torch.tensor([0, 1], dtype=torch.int32), ONE), "int64"),
        (lambda: Outliers(BASE, torch.tensor([0, 1]), ONE * float("inf")), "finite"),
        (lambda: Outliers(Dense(torch.ones(4).int()), torch.tensor([0, 1]), ONE), "floats"),
    ],
)
def test_outliers_refuse_what_does_not_fit(make, message):
    with pytest.raises(VerifyError, match=message):
        make()


# ------------------------------------------------------------------ descriptions from outside
SAMPLE = Affine(CODES, ONES, bits=4)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "magic"},
        {"kind": None},
        {"bits": 3},
        {"bits": True},
        {"bits": "4"},
        {"shape": [4, 7]},
        {"shape": [4, -6]},
        {"shape": [2**40, 2**40]},
        {"shape": "4x6"},
        {"axis": 7},
        {"axis": 1.0},
        {"group": 5},
        {"group": -1},
        {"dtype": "f8"},
        {"dtype": "i64"},
        {"extra": 1},
    ],
)
def test_damaged_descriptions_are_refused(change):
    with pytest.raises(FormatError):
        read_encoding({**to_json(SAMPLE), **change}, SAMPLE.parts())


@pytest.mark.parametrize("missing", sorted(to_json(SAMPLE)))
def test_missing_fields_are_refused(missing):
    description = {k: v for k, v in to_json(SAMPLE).items() if k != missing}
    with pytest.raises(FormatError):
        read_encoding(description, SAMPLE.parts())


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"codes": SAMPLE.parts()["codes"]},
        {**SAMPLE.parts(), "more": ONES},
        {**SAMPLE.parts(), "scale": ONES.double()},
        {**SAMPLE.parts(), "scale": ONES[:3]},
        {**SAMPLE.parts(), "codes": SAMPLE.parts()["codes"].view(2, -1)},
        {**SAMPLE.parts(), "zero": ONES},
    ],
)
def test_missing_foreign_and_misshapen_parts_are_refused(parts):
    with pytest.raises(FormatError):
        read_encoding(to_json(SAMPLE), parts)


@half
@given(encodings(), st.data())
def test_random_damage_to_a_description_is_refused_or_harmless(encoding: Encoding, data):
    """Any JSON value in the place of any field: a FormatError or the same values, nothing else."""
    description = json.loads(json.dumps(to_json(encoding)))
    inner = description
    while data.draw(st.booleans()) and isinstance(
        deeper := inner.get("values", inner.get("base")), dict
    ):
        inner = deeper
    field = data.draw(st.sampled_from(sorted(inner)))
    junk = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.text(max_size=3),
        st.lists(st.integers(), max_size=3),
    )
    inner[field] = data.draw(junk)
    try:
        read_encoding(description, encoding.parts()).decode()
    except FormatError:
        pass


def test_describe_names_what_matters():
    assert SAMPLE.describe() == "affine(bits=4, scale=f32)"
    assert dataclasses.replace(SAMPLE, axis=1, scale=torch.ones(6, 1)).describe() == (
        "affine(bits=4, axis=1, scale=f32)"
    )
    grouped = Affine(CODES, torch.ones(4, 2).bfloat16(), bits=4, group=3)
    assert Sparse("bitmask", CODES == 0, grouped).describe() == (
        "sparse(bitmask, affine(bits=4, group=3, scale=bf16))"
    )
    assert Dense(torch.ones(2).half(), DType.F32).describe() == "dense(f16)"
    assert Outliers(BASE, torch.tensor([0, 1]), ONE).describe() == "outliers(2 x f16, dense)"
