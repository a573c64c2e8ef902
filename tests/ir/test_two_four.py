"""2:4 masks in bytes: the exact layout, the round trip, refusal of what was not packed so."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgec.errors import FormatError
from edgec.ir import Dense, Sparse
from edgec.ir.encoding import read_encoding, to_json
from edgec.ir.encodings.two_four import PAIRS, mask_bytes, pack_mask, unpack_mask


@st.composite
def masks(draw):
    rows, fours = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    choice = st.sampled_from(["1100", "1010", "1001", "0110", "0101", "0011"])
    chosen = draw(st.lists(choice, min_size=rows * fours, max_size=rows * fours))
    return torch.tensor([[c == "1" for c in four] for four in chosen]).view(rows, -1)


def reference(mask: torch.Tensor) -> list[int]:
    """The layout's definition, one four after the other."""
    order = ["1100", "1010", "1001", "0110", "0101", "0011"]
    text = "".join("1" if kept else "0" for kept in mask.reshape(-1).tolist())
    choices = [order.index(text[i : i + 4]) for i in range(0, len(text), 4)]
    choices += [0] * (-len(choices) % 3)
    return [a + 6 * b + 36 * c for a, b, c in zip(*(iter(choices),) * 3, strict=True)]


@given(masks())
def test_layout_is_three_choices_in_a_byte(mask):
    packed = pack_mask(mask)
    assert packed.dtype == torch.uint8 and packed.tolist() == reference(mask)
    assert packed.numel() == mask_bytes(mask.numel()) == -(-mask.numel() // 12)


@given(masks())
def test_unpack_inverts_pack(mask):
    assert torch.equal(unpack_mask(pack_mask(mask), *mask.shape), mask)


def test_the_choices_are_all_pairs():
    assert len({tuple(row) for row in PAIRS.tolist()}) == 6
    assert PAIRS.sum(1).tolist() == [2] * 6


@pytest.mark.parametrize(
    ("data", "rows", "length", "message"),
    [
        ([216], 3, 4, "byte 216.*0..215"),
        ([255, 0], 3, 8, "byte 255"),
        ([6], 1, 4, "beyond the last four weights"),
        ([36], 1, 8, "beyond the last four weights"),
        ([0, 0], 3, 4, r"u8\[1\] for a mask of 12 weights"),
        ([], 3, 4, r"u8\[1\]"),
        ([0], 4, 3, "K=3.*a multiple of 4"),
    ],
)
def test_bytes_that_are_no_mask_are_refused(data, rows, length, message):
    with pytest.raises(FormatError, match=message):
        unpack_mask(torch.tensor(data, dtype=torch.uint8), rows, length)


def test_another_dtype_is_refused():
    with pytest.raises(FormatError, match=r"int16\[1\]; need u8\[1\]"):
        unpack_mask(torch.zeros(1, dtype=torch.int16), 3, 4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rows_of_any_axis_come_back(axis):
    generator = torch.Generator().manual_seed(axis)
    rows = (torch.rand(4, 4, 4, generator=generator).argsort(-1) < 2).view(4, 16)
    mask = rows.view(4, 4, 4).movedim(0, axis).contiguous()
    e = Sparse("two_four", mask, Dense(torch.randn(4, 4, 4, generator=generator)), axis)
    again = read_encoding(to_json(e), e.parts())
    assert isinstance(again, Sparse) and torch.equal(again.mask, mask)
    assert torch.equal(again.decode(), e.decode())
    assert e.nbytes == sum(t.numel() * t.element_size() for t in e.parts().values()) == 6 + 128
