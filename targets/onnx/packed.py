"""Affine constants that stay packed in memory: onnxruntime's MatMulNBits and GatherBlockQuantized.

Both read 2- or 4-bit codes as edgec packs them (unsigned, lowest bits first) in blocks along the
rows, so the stored bytes are used as they are. A group that is no block size (a power of two, at
least 16) is a whole number of smaller blocks that share a scale.
"""

from __future__ import annotations

import torch

from edgec.ir import Constant, DType
from edgec.ir.dims import Shape
from edgec.ir.encodings import Affine
from edgec.targets.onnx.decode import unpacked
from edgec.targets.onnx.writer import MICROSOFT, Name, Writer

F32 = DType.F32
PACKED_BITS = (2, 4)
EXACT, INT8_ACTIVATIONS = 1, 4  # accuracy levels of MatMulNBits
LARGEST_BLOCK = 256


def block_size(encoding: Affine) -> int | None:
    """Elements per block for the packed kernels; None where they do not apply."""
    if encoding.axis != 0 or len(encoding.shape) != 2 or encoding.dtype is not F32:
        return None
    group = encoding.group or encoding.shape[1]
    block = min(group & -group, LARGEST_BLOCK)
    return block if block >= 16 else None


def is_one_row(x: Shape) -> bool:
    """Whether x [*S, K] is one row for each element of a batch: a step of a decoder.

    One row reads a weight once, and packed it is less to read: the step of a small translator
    takes 0.7 times as long, with a batch of 2 to 16 it takes 1.2 times as long. With a sequence
    of rows the product of dense weights, unpacked on opening, is 1.5 to 5 times as fast.
    """
    batch = x[:1] if len(x) > 1 else ()
    return all(d == 1 for d in x[1:-1]) and all(d == 1 or not isinstance(d, int) for d in batch)


def uses_packed_matmul(w: Writer, encoding: Affine, x: Shape) -> bool:
    """Whether linear(x, w) is a MatMulNBits."""
    exact = w.target.accuracy_level != INT8_ACTIVATIONS
    if encoding.bits not in PACKED_BITS and (exact or encoding.bits != 8):
        return False  # the kernel of exact 8-bit products is 4 to 20 times slower than a dense one
    if block_size(encoding) is None or w.kernel is not F32:
        return False
    if exact and w.target.weights == "auto":
        return is_one_row(x)
    return w.target.weights != "dense"


def matmul(w: Writer, x: Name, weight: Constant, bias: Name | None) -> Name:
    """x w^T + bias by MatMulNBits."""
    encoding = weight.encoding
    assert isinstance(encoding, Affine)
    (n, k), block = encoding.shape, block_size(encoding)
    assert block is not None
    codes = w.static_reshape(_stored_codes(w, weight, encoding), n, k // block, -1)
    scale, zero = _scale_and_zero(w, weight, encoding, k // block)
    return w.node(
        "MatMulNBits",
        *(x, codes, scale, zero, None, bias),
        domain=MICROSOFT,
        K=k,
        N=n,
        bits=encoding.bits,
        block_size=block,
        accuracy_level=w.target.accuracy_level,
    )


def gather_blocks(w: Writer, table: Constant, ids: Name, kind: DType) -> Name | None:
    """table[ids] by GatherBlockQuantized, ids of dtype `kind`; None where it does not apply."""
    encoding = table.encoding
    assert isinstance(encoding, Affine)
    block = block_size(encoding)
    if block is None or encoding.bits not in PACKED_BITS or w.target.weights == "dense":
        return None
    n, k = encoding.shape
    codes = w.static_reshape(_stored_codes(w, table, encoding), n, -1)
    scale, zero = _scale_and_zero(w, table, encoding, k // block)
    return w.node(
        "GatherBlockQuantized",
        *(codes, _checked(w, ids, n, kind), scale, zero),
        domain=MICROSOFT,
        bits=encoding.bits,
        block_size=block,
        gather_axis=0,
        quantize_axis=1,
    )


def _checked(w: Writer, ids: Name, rows: int, kind: DType) -> Name:
    """`ids`, by way of a Gather, which refuses what is no row: GatherBlockQuantized reads anything.

    Zeros are added; onnxruntime makes the table of them when the model is opened.
    """
    zeros = w.node("Expand", w.number(0, kind), w.ints(rows))
    return w.node("Add", ids, w.node("Gather", zeros, ids, axis=0))


def gather_rows(w: Writer, table: Constant, ids: Name) -> Name | None:
    """table[ids] of int8 codes with a scale per row: looked up first, then decoded."""
    encoding = table.encoding
    assert isinstance(encoding, Affine)
    if encoding.bits != 8 or encoding.axis != 0 or encoding.scale.shape[1] != 1:
        return None
    if w.target.weights == "dense":
        return None
    column = (encoding.shape[0], *[1] * (len(encoding.shape) - 1))
    scale = w.static_reshape(_as_f32(w, f"{table.ref}/scale", encoding.scale), *column)
    rows = w.cast(w.node("Gather", f"{table.ref}/codes", ids, axis=0), F32)
    if encoding.zero is not None:
        zero = w.cast(unpacked(w, f"{table.ref}/zero", 8, encoding.zero.numel()), F32)
        zero = w.node("Sub", w.static_reshape(zero, *column), w.number(128.0, F32))
        rows = w.node("Sub", rows, w.node("Gather", zero, ids, axis=0))
    values = w.node("Mul", rows, w.node("Gather", scale, ids, axis=0))
    return values if encoding.dtype is F32 else w.cast(values, encoding.dtype)


def _as_f32(w: Writer, name: Name, tensor: torch.Tensor) -> Name:
    return name if tensor.dtype == torch.float32 else w.cast(name, F32)


def _stored_codes(w: Writer, constant: Constant, encoding: Affine) -> Name:
    """The packed codes, unsigned."""
    codes = f"{constant.ref}/codes"
    if encoding.bits != 8:
        return codes
    moved = w.node("Add", w.cast(codes, DType.I32), w.number(128, DType.I32))
    return w.cast(moved, DType.U8)


def _scale_and_zero(
    w: Writer, constant: Constant, encoding: Affine, blocks: int
) -> tuple[Name, Name | None]:
    """Scales f32[N, blocks] and packed zero points u8[N, ceil(blocks * bits / 8)]."""
    rows, groups = encoding.scale.shape
    repeat, bits = blocks // groups, encoding.bits
    scale = _repeated(w, _as_f32(w, f"{constant.ref}/scale", encoding.scale), rows, groups, repeat)
    if encoding.zero is None:
        return scale, None
    stored = f"{constant.ref}/zero"
    if repeat == 1 and (groups * bits) % 8 == 0:
        return scale, w.static_reshape(stored, rows, -1)
    codes = _repeated(w, unpacked(w, stored, bits, rows * groups), rows, groups, repeat)
    return scale, _packed_rows(w, codes, rows, blocks, bits)


def _repeated(w: Writer, x: Name, rows: int, groups: int, repeat: int) -> Name:
    """[rows, groups] -> [rows, groups * repeat], each element `repeat` times."""
    if repeat > 1:
        x = w.static_reshape(x, rows, groups, 1)
        x = w.node("Expand", x, w.ints(rows, groups, repeat))
    return w.static_reshape(x, rows, groups * repeat)


def _packed_rows(w: Writer, codes: Name, rows: int, count: int, bits: int) -> Name:
    """Codes u8[rows, count] -> u8[rows, ceil(count * bits / 8)], each row packed on its own."""
    lanes = 8 // bits
    if count % lanes:
        codes = w.node("Pad", codes, w.ints(0, 0, 0, -count % lanes), w.number(0, DType.U8))
    lifted = w.static_reshape(w.cast(codes, DType.I32), rows, -1, lanes)
    weights = torch.tensor([2 ** (bits * i) for i in range(lanes)], dtype=torch.int32)
    summed = w.node("ReduceSum", w.node("Mul", lifted, w.array(weights)), w.ints(-1), keepdims=0)
    return w.cast(summed, DType.U8)
