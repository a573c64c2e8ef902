"""Matrix products: a product with a constant matrix becomes `linear`, whose weight passes can
compress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgec.capture.aten.arithmetic import product
from edgec.capture.aten.reduction import vector_norm
from edgec.capture.call import Call, Scalar
from edgec.capture.registry import aten
from edgec.ir import dims
from edgec.ir.graph import Value


@aten("linear")
def linear(c: Call, x: Value, weight: Value, bias: Value | None) -> Value:
    if weight.type.rank == 1:
        return c.reshape(c.b.linear(x, c.unsqueeze(weight, 0), bias), c.shape)
    return c.value(c.b.linear(x, weight, bias))


def weight_of(c: Call, matrix: Value) -> Value | None:
    """[N, K] for a constant [K, N], or for one that was transposed just before; None for anything
    else."""
    if matrix.type.rank != 2 or not matrix.type.dtype.is_float:
        return None
    if matrix.is_constant:
        return c.pool.transposed(matrix)
    node = c.producer(matrix)
    if node is None or node.op.name != "permute":
        return None
    source = c.b.operand(next(node.operands))
    return source if source is not None and source.is_constant else None


def matrix_product(c: Call, a: Value, b: Value, bias: Value | None = None) -> Value:
    """a @ b [+ bias [N]] for operands of rank >= 2."""
    weight = weight_of(c, b)
    if weight is not None:
        return c.value(c.b.linear(a, weight, bias))
    y = c.b.matmul(a, b)
    return c.value(y if bias is None else c.b.add(y, bias))


@aten("matmul", "mm", "bmm", "linalg_matmul", "mv", "dot", "vdot")
def matmul(c: Call, a: Value, b: Value) -> Value:
    """numpy's rules: a vector on the left is a row, one on the right a column."""
    a, b = c.promoted(a, b, dtype=c.dtype)
    row, column = a.type.rank == 1, b.type.rank == 1
    a = c.unsqueeze(a, 0) if row else a
    b = c.unsqueeze(b, -1) if column else b
    return c.reshape(matrix_product(c, a, b), c.shape)


@aten("outer", "ger")
def outer(c: Call, a: Value, b: Value) -> Value:
    x, y = c.promoted(a, b, dtype=c.dtype)
    return c.value(c.b.mul(c.unsqueeze(x, 1), c.unsqueeze(y, 0)))


@aten("inner")
def inner(c: Call, a: Value, b: Value) -> Value:
    """Sum over the last axes: [*A, K], [*B, K] -> [*A, *B]."""
    x, y = c.promoted(a, b, dtype=c.dtype)
    if 0 in (x.type.rank, y.type.rank):
        return c.value(c.b.mul(x, y))
    k = x.type.shape[-1]
    flat = c.reshape(y, [dims.product(y.type.shape[:-1]), k])
    row = c.reshape(x, [dims.product(x.type.shape[:-1]), k])
    return c.reshape(c.b.matmul(row, c.swap(flat, 0, 1)), c.shape)


@aten("tensordot")
def tensordot(c: Call, a: Value, b: Value, axes_a: Sequence[int], axes_b: Sequence[int]) -> Value:
    a, b = c.promoted(a, b, dtype=c.dtype)
    axes_a = [i % a.type.rank for i in axes_a]
    axes_b = [i % b.type.rank for i in axes_b]
    free_a = [i for i in range(a.type.rank) if i not in axes_a]
    free_b = [i for i in range(b.type.rank) if i not in axes_b]
    m = dims.product(a.type.shape[i] for i in free_a)
    k = dims.product(a.type.shape[i] for i in axes_a)
    n = dims.product(b.type.shape[i] for i in free_b)
    left = c.reshape(c.permute(a, [*free_a, *axes_a]), [m, k])
    right = c.reshape(c.permute(b, [*axes_b, *free_b]), [k, n])
    return c.reshape(c.b.matmul(left, right), c.shape)


# ------------------------------------------------------------------ with something added
@aten("addmm")
def addmm(c: Call, x: Value, a: Value, b: Value, beta: Scalar, alpha: Scalar) -> Value:
    """beta x + alpha a @ b; the plain form with a constant matrix is a linear layer."""
    weight = weight_of(c, b)
    if weight is not None and beta == 1 and alpha == 1 and _is_bias(x, weight):
        return c.value(c.b.linear(a, weight, x))
    return _combined(c, x, matrix_product(c, a, b), beta, alpha)


def _is_bias(x: Value, weight: Value) -> bool:
    return x.type.rank == 1 and dims.same(x.type.shape[0], weight.type.shape[0])


def _combined(c: Call, x: Value, y: Any, beta: Scalar, alpha: Scalar) -> Value:
    """beta x + alpha y; torch does not read x where beta is 0."""
    scaled = product(c, y, alpha, c.dtype)
    if not isinstance(beta, Value) and beta == 0:
        return scaled
    return c.value(c.b.add(product(c, x, beta, c.dtype), scaled))


@aten("baddbmm")
def baddbmm(c: Call, x: Value, a: Value, b: Value, beta: Scalar, alpha: Scalar) -> Value:
    return _combined(c, x, c.b.matmul(a, b), beta, alpha)


@aten("addbmm")
def addbmm(c: Call, x: Value, a: Value, b: Value, beta: Scalar, alpha: Scalar) -> Value:
    total = c.b.reduce_sum(c.b.matmul(a, b), axes=(0,))
    return _combined(c, x, total, beta, alpha)


@aten("addmv")
def addmv(c: Call, x: Value, a: Value, v: Value, beta: Scalar, alpha: Scalar) -> Value:
    return _combined(c, x, c.squeeze(c.b.matmul(a, c.unsqueeze(v, 1)), 1), beta, alpha)


@aten("addr")
def addr(c: Call, x: Value, a: Value, b: Value, beta: Scalar, alpha: Scalar) -> Value:
    return _combined(c, x, c.b.mul(c.unsqueeze(a, 1), c.unsqueeze(b, 0)), beta, alpha)


@aten("bilinear")
def bilinear(c: Call, x: Value, y: Value, weight: Value, bias: Value | None) -> Value:
    """y_n = x^T W_n y: [*S, I], [*S, J], [N, I, J] -> [*S, N]."""
    n, i, j = weight.type.shape
    rows = dims.product(x.type.shape[:-1])
    outer_product = c.b.mul(c.reshape(x, [rows, i, 1]), c.reshape(y, [rows, 1, j]))
    flat = c.reshape(outer_product, [rows, dims.product((i, j))])
    matrix = c.reshape(weight, [n, dims.product((i, j))])
    return c.reshape(c.b.linear(flat, matrix, bias), c.shape)


# ------------------------------------------------------------------ distances
@aten("cdist", "_cdist_forward")
def cdist(c: Call, a: Value, b: Value, p: float, compute_mode: int | None) -> Value:
    """|a_i - b_j|_p for all pairs, [.., P, M], [.., R, M] -> [.., P, R]."""
    many = 25  # beyond, torch too takes |a|^2 + |b|^2 - 2 a b, which needs no [P, R, M] tensor
    sizes = [c.hint(t.type.shape[-2]) for t in (a, b)]
    if p == 2 and compute_mode != 2 and (compute_mode == 1 or max(sizes) > many):
        squares = [c.b.reduce_sum(c.b.mul(t, t), axes=(-1,), keep=True) for t in (a, b)]
        products = c.b.matmul(a, c.swap(b, -1, -2))
        total = c.b.add(squares[0], c.swap(squares[1], -1, -2))
        total = c.b.sub(total, c.b.mul(products, c.number(2.0, c.dtype)))
        return c.value(c.b.sqrt(c.b.relu(total)))
    difference = c.b.sub(c.unsqueeze(a, -2), c.unsqueeze(b, -3))
    return vector_norm(c, difference, p, -1, False)


@aten("pairwise_distance")
def pairwise_distance(c: Call, a: Value, b: Value, p: float, eps: float, keep: bool) -> Value:
    difference = c.b.add(c.b.sub(*c.promoted(a, b)), c.number(eps, c.dtype))
    return vector_norm(c, difference, p, -1, keep)
