"""Fourier transforms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.op import Op, axis_of, op, require
from edgec.ir.types import DType, TensorType
from edgec.ops.elementwise import APPROXIMATED
from edgec.ops.indexing import size_value

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


@op("dft_real")
@dataclass(frozen=True)
class DftReal(Op):
    """y = the real part of the discrete Fourier transform of x along `axes`.

    One axis of n elements: y_k = sum_j x_j cos(2 pi j k / n). FNet mixes tokens and features with
    two axes (Lee-Thorp et al. 2021, arXiv:2105.03824, eq. 3).

    Inputs       x : T[*S]            T f32 or f64
    Outputs      y : T[*S]
    Attributes   axes : tuple[int, ...]
    Constraints  (C1) -rank(x) <= axis < rank(x)    (C2) axes are different, at least one
                 (C3) T is f32 or f64
    Exactness    ROUNDING, as many terms as the axes have elements, factor 4
    """

    axes: tuple[int, ...]
    factor: ClassVar[float] = APPROXIMATED

    def infer(self, x: TensorType) -> TensorType:
        axes = {axis_of(self, a, x.rank) for a in self.axes}
        proper = len(axes) == len(self.axes) > 0
        require(self, proper, "C2", f"axes={list(self.axes)}", "different axes, at least one")
        require(self, x.dtype in (DType.F32, DType.F64), "C3", f"x: {x}", "f32 or f64")
        return x

    def evaluate(self, x: Tensor) -> Tensor:
        return torch.real(torch.fft.fftn(x, dim=self.axes))

    def decompose(self, b: Builder, x: Value) -> Value:
        # (re + i im)(C - i S) = (re C + im S) + i (im C - re S), axis by axis; matrices made from
        # running indices, so that a dynamic size needs nothing else
        real, imaginary = x, None
        for i, axis in enumerate(self.axes):
            cosine, sine = _matrices(b, x.type.shape[axis], x.type.dtype)
            last = i == len(self.axes) - 1
            re, im = _along(b, real, cosine, axis), None
            if imaginary is not None:
                re = b.add(re, _along(b, imaginary, sine, axis))
            if not last:
                im = b.neg(_along(b, real, sine, axis))
                if imaginary is not None:
                    im = b.add(_along(b, imaginary, cosine, axis), im)
            real, imaginary = re, im
        return real

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        (x,) = inputs
        assert x is not None
        return dims.product(x.shape[a] for a in self.axes)

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        """As the matrix products of `decompose` with a real and an imaginary part."""
        (x,) = inputs
        assert x is not None
        return dims.normal(4 * x.numel * sum(x.shape[a] for a in self.axes))


def _matrices(b: Builder, size: Dim, dtype: DType) -> tuple[Value, Value]:
    """cos and sin of 2 pi (j k mod n) / n, [n, n]; the products stay exact as integers."""
    index = b.iota(size=size)
    product = b.mul(b.reshape(index, shape=(size, 1)), b.reshape(index, shape=(1, size)))
    wrapped = b.cast(b.mod(product, size_value(b, size, DType.I64)), dtype=dtype)
    angle = b.mul(wrapped, b.div(b.scalar(2 * math.pi, dtype), size_value(b, size, dtype)))
    return b.cos(angle), b.sin(angle)


def _along(b: Builder, x: Value, matrix: Value, axis: int) -> Value:
    """sum_j x_j matrix[j, k] along `axis`."""
    rank = x.type.rank
    axis %= rank
    if rank == 1:
        row = b.matmul(b.reshape(x, shape=(1, *x.type.shape)), matrix)
        flat: Value = b.reshape(row, shape=x.type.shape)
        return flat
    if axis == rank - 2:
        # the matrix is symmetric, so it acts from the left as well
        left: Value = b.matmul(matrix, x)
        return left
    swap = list(range(rank))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    if axis == rank - 1:
        right: Value = b.matmul(x, matrix)
        return right
    moved = b.matmul(b.permute(x, order=tuple(swap)), matrix)
    back: Value = b.permute(moved, order=tuple(swap))
    return back
