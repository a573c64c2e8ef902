"""Constants in an ONNX graph: their stored parts, and the nodes that decode them.

What is stored is `Encoding.parts`, byte for byte. Every decoder is made of standard operators on
constants alone, so onnxruntime computes it once, when it opens the file: weights are small on disk
and dense in memory. (DequantizeLinear would be the obvious operator. onnxruntime 1.31 turns a
DequantizeLinear before a MatMul into MatMulNBits with activations rounded to int8, by default and
in silence; on random data the result moves by 0.5 % of its range. Cast and Mul it leaves.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from edgec.errors import UnsupportedError
from edgec.ir import Constant, DType, Encoding
from edgec.ir.encoding import Dense
from edgec.ir.encodings import Affine, Lut, Outliers, Sparse
from edgec.ir.encodings.two_four import IN_BYTE, PAIRS, POWERS
from edgec.ir.packing import wide_bytes
from edgec.targets.onnx.writer import Name, Writer

F32, I64, U8 = DType.F32, DType.I64, DType.U8


@dataclass(frozen=True)
class Kept:
    """Only `count` elements are stored; `places` i64[numel] tells where they are."""

    count: int
    places: Name


def part_name(constant: Constant, part: str) -> Name:
    """Name of a stored part; `@` and `/` keep it apart from all values and other constants."""
    if isinstance(constant.encoding, Dense):
        return constant.ref
    return f"{constant.ref}/{part}"


def stored_parts(constant: Constant) -> dict[Name, torch.Tensor]:
    """The tensors that are written for a constant, by initializer name."""
    encoding = constant.encoding
    parts = encoding.parts()
    if isinstance(encoding, Affine) and encoding.bits == 8:
        parts["codes"] = encoding.codes  # int8 in the tensor's own shape: readable by any tool
    return {part_name(constant, name): tensor for name, tensor in parts.items()}


def decoded(w: Writer, constant: Constant) -> Name:
    """The dense tensor of a constant, in its own shape and dtype."""
    match constant.encoding:
        case Dense() as encoding:
            return _typed(w, constant.ref, encoding.storage, encoding.type.dtype)
        case Affine(bits=8) as encoding:
            codes = w.cast(part_name(constant, "codes"), F32)
            return _affine_values(w, f"{constant.ref}/", encoding, codes)
        case encoding:
            return _decode(w, f"{constant.ref}/", encoding, None)


def _decode(w: Writer, ref: str, encoding: Encoding, kept: Kept | None) -> Name:
    match encoding:
        case Dense():
            return _dense(w, f"{ref}values", encoding, kept)
        case Affine():
            return _affine(w, ref, encoding, kept)
        case Lut():
            return _lut(w, ref, encoding, kept)
        case Sparse():
            return _sparse(w, ref, encoding)
        case Outliers():
            return _outliers(w, ref, encoding, kept)
    raise UnsupportedError("onnx", encoding.describe(), "an encoding that `legal` knows")


def _typed(w: Writer, x: Name, have: DType, want: DType) -> Name:
    return x if have is want else w.cast(x, want)


def _shaped(w: Writer, x: Name, shape: tuple[int, ...]) -> Name:
    return w.static_reshape(x, *shape) if shape else w.squeeze(x, 0)


# ------------------------------------------------------------------ the encodings
def _dense(w: Writer, name: Name, encoding: Dense, kept: Kept | None) -> Name:
    """Dense values inside of another encoding."""
    values = _typed(w, name, encoding.storage, encoding.type.dtype)
    if kept is None:
        return values
    return _shaped(w, w.node("Gather", values, kept.places), tuple(encoding.values.shape))


def _affine(w: Writer, ref: str, encoding: Affine, kept: Kept | None) -> Name:
    unsigned = _codes(w, ref, encoding.bits, encoding.numel, kept)
    return _affine_values(w, ref, encoding, _signed(w, unsigned, encoding))


def _signed(w: Writer, unsigned: Name, encoding: Affine) -> Name:
    """Stored code + 2^(bits-1) -> code, f32."""
    return w.node("Sub", w.cast(unsigned, F32), w.number(float(-encoding.low), F32))


def _affine_values(w: Writer, ref: str, encoding: Affine, codes: Name) -> Name:
    """(codes - zero) * scale, in f32 as `Affine.decode`, then the constant's dtype.

    codes    the codes as f32, in row-major order and any shape
    """
    shape = encoding.shape
    order = _rows_first(encoding.axis, len(shape))
    values = w.transpose(_shaped(w, codes, shape), order) if order else codes
    rows, blocks = encoding.scale.shape
    values = w.static_reshape(values, rows, blocks, -1)
    if encoding.zero is not None:
        stored = _codes(w, ref, encoding.bits, encoding.zero.numel(), None, "zero")
        zero = _signed(w, stored, encoding)
        values = w.node("Sub", values, w.static_reshape(zero, rows, blocks, 1))
    scale = _typed(w, f"{ref}scale", DType.of(encoding.scale.dtype), F32)
    values = w.node("Mul", values, w.static_reshape(scale, rows, blocks, 1))
    if order:
        values = w.static_reshape(values, *(shape[a] for a in order))
        values = w.transpose(values, [order.index(a) for a in range(len(order))])
    else:
        values = _shaped(w, values, shape)
    return _typed(w, values, F32, encoding.dtype)


def _rows_first(axis: int | None, rank: int) -> list[int]:
    """Order of axes that puts `axis` first; empty where it is there already."""
    return [] if not axis else [axis, *(a for a in range(rank) if a != axis)]


def _lut(w: Writer, ref: str, encoding: Lut, kept: Kept | None) -> Name:
    r, c, entries, vector = encoding.table.shape
    count = encoding.codes.numel()
    rows = encoding.codes.shape[0] if encoding.codes.dim() > 1 else 1
    index = w.cast(_codes(w, ref, encoding.bits, count, kept), DType.I32)
    if r * c > 1:
        tiles = w.static_reshape(index, r, rows // r, c, count // rows // c)
        first = torch.arange(r * c, dtype=torch.int32).view(r, 1, c, 1) * entries
        index = w.static_reshape(w.node("Add", tiles, w.array(first)), count)
    table = _typed(w, f"{ref}table", DType.of(encoding.table.dtype), F32)
    values = w.node("Gather", w.static_reshape(table, r * c * entries, vector), index)
    if encoding.scale is not None:
        n, blocks = encoding.scale.shape
        scale = _typed(w, f"{ref}scale", DType.of(encoding.scale.dtype), F32)
        values = w.static_reshape(values, n, blocks, -1)
        values = w.node("Mul", values, w.static_reshape(scale, n, blocks, 1))
    return _typed(w, _shaped(w, values, encoding.shape), F32, encoding.dtype)


def _sparse(w: Writer, ref: str, encoding: Sparse) -> Name:
    shape, dtype = tuple(encoding.mask.shape), encoding.type.dtype
    if encoding.kept_count == 0:
        return _typed(w, w.node("Expand", w.number(0.0, F32), w.ints(*shape)), F32, dtype)
    mask = _mask(w, f"{ref}mask", encoding)
    before = w.node("CumSum", w.cast(mask, I64), w.number(0, I64))
    places = w.node("Max", w.node("Sub", before, w.number(1, I64)), w.number(0, I64))
    values = _decode(w, f"{ref}values.", encoding.values, Kept(encoding.kept_count, places))
    shown = _shaped(w, w.cast(mask, DType.BOOL), shape)
    return w.node("Where", shown, values, w.number(0.0, dtype))


def _mask(w: Writer, stored: Name, encoding: Sparse) -> Name:
    """u8[numel] of 0 and 1, in row-major order of the tensor."""
    shape = tuple(encoding.mask.shape)
    if encoding.pattern == "bitmask":
        return unpacked(w, stored, 1, encoding.mask.numel())
    byte = w.unsqueeze(w.cast(stored, DType.I32), 1)
    choice = w.node("Div", byte, w.array(POWERS.to(torch.int32)))
    choice = w.node("Mod", choice, w.number(len(PAIRS), DType.I32))
    kept = w.static_reshape(w.node("Gather", w.array(PAIRS.to(torch.uint8)), choice), -1)
    if encoding.mask.numel() % (4 * IN_BYTE):
        kept = w.slice(kept, 0, 0, encoding.mask.numel())
    order = _rows_first(encoding.axis, len(shape))
    if not order:
        return kept
    rows = w.static_reshape(kept, *(shape[a] for a in order))
    back = w.transpose(rows, [order.index(a) for a in range(len(order))])
    return w.static_reshape(back, -1)


def _outliers(w: Writer, ref: str, encoding: Outliers, kept: Kept | None) -> Name:
    base = _decode(w, f"{ref}base.", encoding.base, kept)
    count = encoding.positions.numel()
    if count == 0:
        return base
    gaps = w.node("Add", _wide(w, f"{ref}gaps", encoding.gap_bits, count), w.number(1, I64))
    reached = w.node("CumSum", gaps, w.number(0, I64))
    positions = w.node("Sub", reached, w.number(1, I64))
    dtype = encoding.type.dtype
    values = _typed(w, f"{ref}values", DType.of(encoding.values.dtype), dtype)
    flat = w.static_reshape(base, encoding.numel)
    flat = w.node("ScatterElements", flat, positions, values, axis=0)
    return _shaped(w, flat, tuple(int(d) for d in encoding.type.shape))


# ------------------------------------------------------------------ bits
def _codes(
    w: Writer, ref: str, bits: int, count: int, kept: Kept | None, part: str = "codes"
) -> Name:
    """Unsigned codes of a part, `count` u8 in row-major order and any shape."""
    if kept is None:
        return unpacked(w, f"{ref}{part}", bits, count, flat=False)
    return w.node("Gather", unpacked(w, f"{ref}{part}", bits, kept.count), kept.places)


def unpacked(w: Writer, stream: Name, bits: int, count: int, flat: bool = True) -> Name:
    """The inverse of `edgec.ir.packing.pack`: u8[ceil(count * bits / 8)] -> u8[count].

    flat   False: the codes may come in another shape
    """
    if bits == 8:
        return stream
    if 8 % bits == 0:
        shifts = torch.arange(0, 8, bits, dtype=torch.uint8)
        lanes = w.node("BitShift", w.unsqueeze(stream, 1), w.array(shifts), direction="RIGHT")
    else:
        lanes = _straddling(w, stream, bits, count)
    codes = w.node("BitwiseAnd", lanes, w.number(2**bits - 1, U8))
    whole = (count * bits) % 8 == 0 if 8 % bits == 0 else count % 8 == 0
    if whole:
        return w.static_reshape(codes, -1) if flat else codes
    return w.slice(w.static_reshape(codes, -1), 0, 0, count)


def _straddling(w: Writer, stream: Name, bits: int, count: int) -> Name:
    """Eight codes from each `bits` bytes, where a code may lie in two; upper bits dirty."""
    missing = -math.ceil(count * bits / 8) % bits
    if missing:
        stream = w.node("Pad", stream, w.ints(0, missing), w.number(0, U8))
    words = w.static_reshape(stream, -1, bits)
    starts = torch.arange(8) * bits
    low, shift = starts // 8, starts % 8
    crossing = shift + bits > 8
    first = w.node("Gather", words, w.array(low), axis=1)
    first = w.node("BitShift", first, w.array(shift.to(torch.uint8)), direction="RIGHT")
    second = w.node("Gather", words, w.array((low + 1).clamp(max=bits - 1)), axis=1)
    rest = torch.where(crossing, 8 - shift, 0).to(torch.uint8)
    second = w.node("BitShift", second, w.array(rest), direction="LEFT")
    chosen = torch.where(crossing, 255, 0).to(torch.uint8)
    second = w.node("BitwiseAnd", second, w.array(chosen))
    return w.node("BitwiseOr", first, second)


def _wide(w: Writer, stream: Name, bits: int, count: int) -> Name:
    """The inverse of `edgec.ir.packing.pack_wide`: i64[count]."""
    total: Name | None = None
    for shift in range(0, bits, 8):
        width = min(8, bits - shift)
        start, stop = wide_bytes(count, shift) if shift else 0, wide_bytes(count, shift + width)
        plane = w.cast(unpacked(w, w.slice(stream, 0, start, stop), width, count), I64)
        if shift:
            plane = w.node("Mul", plane, w.number(2**shift, I64))
        total = plane if total is None else w.node("Add", total, plane)
    assert total is not None
    return total
