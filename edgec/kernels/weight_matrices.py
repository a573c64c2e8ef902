"""Weights as the matrices that are packed: [N, K], also for matmul and conv_transpose."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from edgec.ir import Affine, Dense, Encoding, Lut, Outliers, Sparse
from edgec.ir.encodings.rows import rows_shape


def matrix_shape(encoding: Encoding) -> tuple[int, int]:
    """[N, K] of the packed matrix; the elements of a vector are rows, unless codes join them."""
    shape = tuple(int(d) for d in encoding.type.shape)
    if len(shape) > 1:
        return rows_shape(shape, 0)
    count = encoding.numel
    inner = encoding
    while isinstance(inner, Sparse | Outliers):
        inner = inner.values if isinstance(inner, Sparse) else inner.base
    joined = isinstance(inner, Lut) and inner.table.shape[3] > 1
    return (1, count) if joined else (count, 1)


def transposed(encoding: Encoding) -> Encoding | None:
    """The encoding of w.T, with the same bytes, for w[K, N] of a matmul; None without one."""
    match encoding:
        case Dense() if encoding.values.dim() == 2:
            return replace(encoding, values=encoding.values.T.contiguous())
        case Affine(axis=1) if encoding.codes.dim() == 2:
            return replace(encoding, codes=encoding.codes.T.contiguous(), axis=0)
    return None


def conv_transposed(encoding: Encoding, groups: int) -> Encoding | None:
    """w[C, N / G, *kernel] of conv_transpose as w[N, C / G, taps], with the same bytes.

    None where there is no such form: `Dense(encoding.decode())` has one.
    """

    def turned(tensor: Tensor) -> Tensor:
        c, n = int(tensor.shape[0]), int(tensor.shape[1])
        split = tensor.reshape(groups, c // groups, n, -1).permute(0, 2, 1, 3)
        return split.reshape(groups * n, c // groups, -1).contiguous()

    match encoding:
        case Dense():
            return replace(encoding, values=turned(encoding.values))
        case Affine(group=0, axis=None):
            return replace(encoding, codes=turned(encoding.codes))
        case Affine(axis=0 | 1) if groups == 1:  # rows have the same order in both
            return replace(encoding, codes=turned(encoding.codes), axis=1 - (encoding.axis or 0))
    return None
