"""Bit packing: unsigned integers of a few bits as one stream of bytes, and back, bit for bit.

Element i takes the bits [i * bits, (i + 1) * bits) of the stream; bit j of the stream is bit j % 8
(least significant first) of byte j // 8. The last byte is filled with zeros.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from edgec.errors import FormatError

MAX_BITS = 8
LANES = 8  # 8 codes of b bits fill exactly b bytes


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take."""
    return -(-count * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes int[*S] in [0, 2^bits), in row-major order -> u8[ceil(numel * bits / 8)].

    Raises FormatError for a code or a number of bits (1..8) that does not fit.
    """
    _check_bits(bits)
    flat = codes.reshape(-1)
    if flat.numel() and not 0 <= int(flat.min()) <= int(flat.max()) < 2**bits:
        got = f"codes in [{int(flat.min())}, {int(flat.max())}]"
        raise FormatError("packing", got, f"codes in [0, {2**bits - 1}] for {bits} bits")
    if bits == 8:
        return flat.to(torch.uint8)
    lanes = pad(flat.to(torch.uint8), (0, -flat.numel() % LANES)).view(-1, LANES)
    words = torch.zeros(len(lanes), dtype=torch.int64)
    for i in range(LANES):
        words |= lanes[:, i].long() << (bits * i)
    packed = torch.stack([(words >> (8 * j) & 0xFF).to(torch.uint8) for j in range(bits)], 1)
    return packed.view(-1)[: packed_bytes(flat.numel(), bits)].clone()


def unpack(data: Tensor, bits: int, count: int) -> Tensor:
    """The inverse of `pack`: u8[ceil(count * bits / 8)] -> u8[count].

    Raises FormatError for data of another length or dtype, or with bits set beyond the last code.
    """
    _check_bits(bits)
    need = f"u8[{packed_bytes(count, bits)}] for {count} codes of {bits} bits"
    if data.dtype != torch.uint8 or list(data.shape) != [packed_bytes(count, bits)]:
        got = f"{str(data.dtype).removeprefix('torch.')}{list(data.shape)}"
        raise FormatError("packing", got, need)
    if bits == 8:
        return data.clone()
    rows = pad(data, (0, -data.numel() % bits)).view(-1, bits)
    words = torch.zeros(len(rows), dtype=torch.int64)
    for j in range(bits):
        words |= rows[:, j].long() << (8 * j)
    lanes = [(words >> (bits * i) & (2**bits - 1)).to(torch.uint8) for i in range(LANES)]
    codes = torch.stack(lanes, 1).view(-1)
    if bool(codes[count:].any()):
        raise FormatError("packing", "bits set beyond the last code", "zeros")
    return codes[:count].clone()


def unpack_tensor(
    data: Tensor, bits: int, shape: tuple[int, ...], kept: Tensor | None = None, fill: int = 0
) -> Tensor:
    """Packed codes -> u8[*shape]. With `kept` bool[*shape] only those under it are in `data`, in
    row-major order, and all others become `fill`. Raises FormatError for what does not fit.
    """
    if kept is None:
        return unpack(data, bits, math.prod(shape)).view(shape)
    if tuple(kept.shape) != shape:
        raise FormatError("packing", f"a mask of shape {list(kept.shape)}", f"{list(shape)}")
    out = torch.full(shape, fill, dtype=torch.uint8)
    out[kept] = unpack(data, bits, int(kept.sum()))
    return out


def pack_wide(numbers: Tensor, bits: int) -> Tensor:
    """Numbers i64[n] in [0, 2^bits), bits <= 62: planes of 8 bits, lowest first, each packed."""
    planes = [pack(numbers >> shift & (2**width - 1), width) for shift, width in _planes(bits)]
    return torch.cat(planes)


def unpack_wide(data: Tensor, bits: int, count: int) -> Tensor:
    """The inverse of `pack_wide`: i64[count]. Raises FormatError like `unpack`."""
    if data.dtype != torch.uint8 or list(data.shape) != [wide_bytes(count, bits)]:
        got = f"{str(data.dtype).removeprefix('torch.')}{list(data.shape)}"
        raise FormatError("packing", got, f"u8[{wide_bytes(count, bits)}]")
    numbers = torch.zeros(count, dtype=torch.int64)
    start = 0
    for shift, width in _planes(bits):
        stop = start + packed_bytes(count, width)
        numbers |= unpack(data[start:stop], width, count).long() << shift
        start = stop
    return numbers


def wide_bytes(count: int, bits: int) -> int:
    """Bytes that `pack_wide` gives."""
    return sum(packed_bytes(count, width) for _, width in _planes(bits))


def _planes(bits: int) -> list[tuple[int, int]]:
    """(first bit, number of bits) of each plane."""
    return [(shift, min(MAX_BITS, bits - shift)) for shift in range(0, bits, MAX_BITS)]


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= MAX_BITS:
        raise FormatError("packing", f"bits={bits}", f"1 <= bits <= {MAX_BITS}")
