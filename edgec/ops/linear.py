"""Matrix products: linear and matmul."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.ir.op import Op, broadcast, op, require
from edgec.ir.types import DType, TensorType
from edgec.ops.activation_quantization import (
    Activations,
    check_quantizer,
    emit_quantized,
    quantized,
)

if TYPE_CHECKING:
    from edgec.ir.builder import Builder
    from edgec.ir.graph import Value


@op("linear")
@dataclass(frozen=True)
class Linear(Op):
    """y[*s, n] = sum_k q(x)[*s, k] w[n, k] + bias[n].

    Inputs       x : T[*S, K], w : T[N, K], bias? : T[N]       T a float
    Outputs      y : T[*S, N]
    Attributes   activations, x_scale, x_zero : q, how x is quantized at run time; "none": q(x) = x,
                 otherwise see `edgec.ops.activation_quantization`; a row is one x[*s, :]
    Constraints  (C1) one float dtype    (C2) x has an axis, w has two, bias one
                 (C3) last dimensions of x and w are equal    (C4) bias has w's first dimension
                 (C5) x_scale and x_zero are proper for static activations, and 0 otherwise
    Exactness    ROUNDING, K terms. Quantized activations have no useful gradient in x.
    """

    activations: Activations = "none"
    x_scale: float = 0.0
    x_zero: int = 0

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        check_quantizer(self, "C5")
        given = [x, w] if bias is None else [x, w, bias]
        got = ", ".join(map(str, given))
        one = x.dtype.is_float and all(t.dtype is x.dtype for t in given)
        require(self, one, "C1", got, "operands of one float dtype")
        ranks = x.rank >= 1 and w.rank == 2 and (bias is None or bias.rank == 1)
        require(self, ranks, "C2", got, "x [*S, K], w [N, K], bias [N]")
        require(self, dims.same(x.shape[-1], w.shape[1]), "C3", got, "x [*S, K] and w [N, K]")
        fits = bias is None or dims.same(bias.shape[0], w.shape[0])
        require(self, fits, "C4", got, "w [N, K] and bias [N]")
        return x.with_shape(*x.shape[:-1], w.shape[0])

    def evaluate(self, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(quantized(x, self, (-1,)), w, bias)

    def decompose(self, b: Builder, x: Value, w: Value, bias: Value | None = None) -> Value:
        if self.activations != "none":
            x = emit_quantized(b, x, self, (-1,))
            result: Value = b.linear(x, w, bias)
            return result
        leading = x.type.shape[:-1]
        if not leading:
            x = b.reshape(x, shape=(1, x.type.shape[0]))
        result = b.matmul(x, b.permute(w, order=(1, 0)))
        if bias is not None:
            result = b.add(result, bias)
        return result if leading else b.reshape(result, shape=(w.type.shape[0],))

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        x = inputs[0]
        assert x is not None
        return x.shape[-1]

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        products = 2 * outputs[0].numel * self.reduction(inputs)
        has_bias = len(inputs) > 2 and inputs[2] is not None
        return dims.normal(products + (outputs[0].numel if has_bias else 0))


@op("matmul")
@dataclass(frozen=True)
class Matmul(Op):
    """y[.., m, n] = sum_k a[.., m, k] b[.., k, n]; the other axes broadcast.

    Inputs       a : T[*A, M, K], b : T[*B, K, N]       T any number
    Outputs      y : T[broadcast(A, B), M, N]
    Constraints  (C1) dtype(a) = dtype(b), not bool    (C2) rank(a), rank(b) >= 2
                 (C3) equal K    A and B broadcast
    Exactness    ROUNDING, K terms
    """

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        got = f"{a} and {b}"
        one = a.dtype is b.dtype and a.dtype is not DType.BOOL
        require(self, one, "C1", got, "numbers of one dtype")
        require(self, a.rank >= 2 and b.rank >= 2, "C2", got, "at least two axes each")
        require(self, dims.same(a.shape[-1], b.shape[-2]), "C3", got, "[.., M, K] and [.., K, N]")
        leading = broadcast(self, (*a.shape[:-2], 1), (*b.shape[:-2], 1))[:-1]
        return a.with_shape(*leading, a.shape[-2], b.shape[-1])

    def evaluate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.matmul(a, b)

    def reduction(self, inputs: Sequence[TensorType | None]) -> Dim:
        a = inputs[0]
        assert a is not None
        return a.shape[-1]

    def flops(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Dim:
        return dims.normal(2 * outputs[0].numel * self.reduction(inputs))
