"""Bit packing: the exact layout, the round trip, and refusal of what was not packed that way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgec.errors import FormatError
from edgec.ir.packing import pack, pack_wide, packed_bytes, unpack, unpack_tensor, unpack_wide


@st.composite
def codes(draw):
    bits = draw(st.integers(1, 8))
    values = draw(st.lists(st.integers(0, 2**bits - 1), max_size=70))
    return bits, values


def reference(bits: int, values: list[int]) -> list[int]:
    """The layout's definition, one bit after the other."""
    stream = [value >> j & 1 for value in values for j in range(bits)]
    stream += [0] * (-len(stream) % 8)
    return [
        sum(bit << j for j, bit in enumerate(stream[i : i + 8])) for i in range(0, len(stream), 8)
    ]


@given(codes())
def test_layout_is_the_bit_stream(case):
    bits, values = case
    packed = pack(torch.tensor(values, dtype=torch.int16), bits)
    assert packed.dtype == torch.uint8
    assert packed.tolist() == reference(bits, values)
    assert packed.numel() == packed_bytes(len(values), bits)


@given(codes())
def test_unpack_inverts_pack(case):
    bits, values = case
    tensor = torch.tensor(values, dtype=torch.uint8)
    assert torch.equal(unpack(pack(tensor, bits), bits, len(values)), tensor)


@given(st.integers(1, 40), st.lists(st.integers(0, 2**40 - 1), max_size=20))
def test_wide_numbers_round_trip(bits, values):
    numbers = torch.tensor([v % 2**bits for v in values], dtype=torch.int64)
    assert torch.equal(unpack_wide(pack_wide(numbers, bits), bits, len(values)), numbers)


def test_large_tensors_pack_without_wrapping():
    values = torch.randint(0, 2**7, (100_003,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(unpack(pack(values, 7), 7, values.numel()).long(), values)


def test_only_kept_codes_are_stored():
    kept = torch.tensor([[True, False, True], [False, False, True]])
    data = pack(torch.tensor([3, 1, 2]), 2)
    assert unpack_tensor(data, 2, (2, 3), kept, fill=0).tolist() == [[3, 0, 1], [0, 0, 2]]


@pytest.mark.parametrize(("values", "bits"), [([4], 2), ([-1], 8), ([256], 8), ([1], 0), ([1], 9)])
def test_codes_that_do_not_fit_are_refused(values, bits):
    with pytest.raises(FormatError, match="packing"):
        pack(torch.tensor(values), bits)


def test_wrong_lengths_dtypes_and_stray_bits_are_refused():
    data = pack(torch.tensor([1, 2, 3]), 3)
    with pytest.raises(FormatError, match="need u8"):
        unpack(data, 3, 6)
    with pytest.raises(FormatError, match="need u8"):
        unpack(data.short(), 3, 3)
    with pytest.raises(FormatError, match="beyond the last code"):
        unpack(data | 0b1000_0000, 3, 3) if data.numel() == 1 else unpack(data + 128, 3, 3)
    with pytest.raises(FormatError, match="mask"):
        unpack_tensor(data, 3, (3, 1), torch.ones(3, dtype=torch.bool))
