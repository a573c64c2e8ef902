"""Matrix products: linear with packed weights, matmul of two run-time operands."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.ir import Constant, DType, Encoding, Node, TensorType, dims
from edgec.ir.dims import Dim
from edgec.ir.encoding import Dense
from edgec.kernels.activation_rounding import ActivationRange, RoundActivations
from edgec.kernels.linear import Linear
from edgec.kernels.matmul import Matmul, PlainMatmul
from edgec.kernels.weight_matrices import transposed
from edgec.ops.conv import Conv
from edgec.ops.linear import Linear as LinearOp
from edgec.targets.native.epilogues import Absorbed, absorb, rows_of
from edgec.targets.native.lower_elementwise import cast, dense_as, sum_of
from edgec.targets.native.lowering import given, lowers, operand
from edgec.targets.native.views import View
from edgec.targets.native.writer import TVM_TYPES, Writer

F32 = DType.F32
HALF = (DType.F16, DType.BF16)


@lowers("linear")
def linear(w: Writer, node: Node) -> View:
    """A packed product where the weight is a constant, else a matmul."""
    assert isinstance(node.op, LinearOp)
    weight = w.graph.constant(given(node, 1))
    if weight is not None and (packable := as_f32(weight)) is not None:
        return _packed(w, node, packable, operand(node, 2), node.op)
    x = w.view(given(node, 0))
    if node.op.activations != "none":
        x = _rounded_rows(w, x, node.op)
    y = matmul_of(w, node, x, w.view(given(node, 1)).permuted((1, 0)))
    bias = operand(node, 2)
    return y if bias is None else sum_of(w, y, w.dense(bias))


@lowers("matmul")
def matmul(w: Writer, node: Node) -> View:
    """A constant matrix on the right is packed like the weight of a linear."""
    right = w.graph.constant(given(node, 1))
    if right is not None and right.type.rank == 2 and right.type.dtype is F32:
        turned = transposed(right.encoding)
        if turned is not None:
            form = Constant(right.name, turned)
            return _packed(w, node, form, None, LinearOp(), "transposed panels")
    return matmul_of(w, node, w.view(given(node, 0)), w.view(given(node, 1)))


def as_f32(constant: Constant) -> Constant | None:
    """The constant as one of f32, bit for bit; None for types that f32 does not hold."""
    encoding: Encoding = constant.encoding
    if constant.type.dtype in HALF and isinstance(encoding, Dense):
        return Constant(constant.name, Dense(encoding.values, F32))
    return constant if constant.type.dtype is F32 else None


def _packed(
    w: Writer,
    node: Node,
    weight: Constant,
    bias: str | None,
    op: LinearOp,
    layout: str = "panels",
) -> View:
    """One call of Linear, with what follows elementwise."""
    x, out = f32_rows(w, given(node, 0)), node.output.type
    if op.activations != "none":
        x = rounded(w, x, op)
    spec, packed = w.weights.panels(weight, layout)
    half = out.dtype in HALF
    biases = [dense_as(w, bias, F32)] if bias is not None else []
    taken = Absorbed(node) if half else absorb(w, node)
    kernel = Linear(spec, bias=bias is not None, epilogue=taken.epilogue)
    to = w.temporary(out.with_dtype(F32), taken.last.output.name)
    m, k = x.shape
    n = weight.type.shape[0]
    w.call(
        kernel,
        [x, *packed, *biases, *taken.views, to],
        m=m,
        n=n,
        k=k,
        x_stride=x.strides[0],
        y_stride=n,
        **taken.strides,
    )
    made = cast(w, to, out.dtype) if half else to
    w.define(taken.last.output.name, made)
    return made


def multiply(w: Writer, x: View, weight: str, bias: str | None, name: str) -> View:
    """x [*S, K] w.T + bias, for a row-major x and a constant weight, both of f32."""
    constant = w.graph.constant(weight)
    assert constant is not None
    spec, packed = w.weights.panels(constant)
    n, k = constant.type.shape
    to = w.temporary(x.type.with_shape(*x.shape[:-1], n), name)
    biases = [w.dense(bias)] if bias is not None else []
    sizes = {"m": dims.product(x.shape[:-1]), "n": n, "k": k, "x_stride": k, "y_stride": n}
    w.call(Linear(spec, bias=bias is not None), [x, *packed, *biases, to], **sizes)
    return to


def f32_rows(w: Writer, name: str) -> View:
    """A value as rows [M, K] of f32 whose elements are neighbours."""
    view = w.view(name)
    rows = rows_of(view) if view.type.dtype is F32 else None
    if rows is None:
        dense = dense_as(w, name, F32)
        rows = dense.reshaped((dims.product(dense.shape[:-1]), dense.shape[-1]))
        assert rows is not None
    return rows


def rounded(w: Writer, x: View, op: LinearOp | Conv) -> View:
    """x [M, K], or [M, ..] with a row for each of its first axis, rounded as `activations` says."""
    x = w.row_major(x)
    m, k = x.shape[0], dims.product(x.shape[1:])
    to = w.temporary(x.type, f"{x.storage.name}.rounded")
    if op.activations == "static":
        sizes: dict[str, Dim | float] = {"scale": float(op.x_scale), "zero": float(op.x_zero)}
        w.call(RoundActivations("static"), [x, to], m=m, k=k, **sizes)
    elif op.activations == "dynamic":
        ranges = w.temporary(TensorType(F32, (m, 2)), f"{x.storage.name}.range")
        w.call(ActivationRange(), [x, ranges], m=m, k=k)
        w.call(RoundActivations("dynamic"), [x, ranges, to], m=m, k=k)
    else:
        w.call(RoundActivations("dynamic_token"), [x, to], m=m, k=k)
    return to


def _rounded_rows(w: Writer, x: View, op: LinearOp) -> View:
    """x of any shape, rounded row by row."""
    rows = w.row_major(x).reshaped((dims.product(x.shape[:-1]), x.shape[-1]))
    assert rows is not None
    made = rounded(w, rows, op).reshaped(x.shape)
    assert made is not None
    return made


# ------------------------------------------------------------------ batched
def matmul_of(w: Writer, node: Node, a: View, b: View) -> View:
    """a[.., M, K] b[.., K, N], or of a row a[K], into the node's result."""
    shape = node.output.type.shape
    if vector := a.type.rank == 1:
        a, shape = a.expanded((1, a.shape[0])), (1, *shape)
    to = w.temporary(TensorType(a.type.dtype, shape), node.output.name)
    _multiply(w, a, b, to)
    made = to.reshaped(node.output.type.shape) if vector else to
    assert made is not None
    return made


def _multiply(w: Writer, a: View, b: View, to: View) -> None:
    """The call of a[.., M, K] b[.., K, N]; the leading axes broadcast to those of the result."""
    *leading, m, n = to.shape
    k, dtype = a.shape[-1], to.type.dtype
    a, b = a.expanded((*leading, m, k)), b.expanded((*leading, k, n))
    if dtype is F32 and not _unit(b, -1) and not _unit(b, -2):
        b = w.copied(b)
    axes = _leading(a, b, to)
    if axes and axes[-1][2] == 0 and dims.same(axes[-1][1], dims.normal(m * a.strides[-2])):
        m = dims.normal(m * axes.pop()[0])  # rows of all batches, one after the other
    sizes: dict[str, Dim | float] = {"m": m, "n": n, "k": k, "y_row": n}
    sizes |= {"a_row": a.strides[-2], "a_col": a.strides[-1]}
    for i, (extent, *strides) in enumerate(axes):
        names = (f"a_axis{i}", f"b_axis{i}", f"y_axis{i}")
        sizes |= {f"extent{i}": extent, **dict(zip(names, strides, strict=True))}
    if dtype is F32:
        across = _unit(b, -1)
        sizes["b_row"] = b.strides[-2] if across else b.strides[-1]
        w.call(Matmul(len(axes), not across), [a, b, to], **sizes)
    else:
        sizes |= {"b_row": b.strides[-2], "b_col": b.strides[-1]}
        w.call(PlainMatmul(TVM_TYPES[dtype], len(axes)), [a, b, to], **sizes)


def _unit(view: View, axis: int) -> bool:
    return view.strides[axis] == 1 or view.shape[axis] == 1


def _leading(a: View, b: View, y: View) -> list[tuple[Dim, Dim, Dim, Dim]]:
    """(extent, strides of a, b, y) of the leading axes, merged where all three are dense."""
    axes: list[tuple[Dim, Dim, Dim, Dim]] = []
    for i, n in enumerate(y.shape[:-2]):
        if n == 1:
            continue
        strides = (a.strides[i], b.strides[i], y.strides[i])
        if axes and _continues(axes[-1][1:], strides, n):
            axes[-1] = (dims.normal(axes[-1][0] * n), *strides)
        else:
            axes.append((n, *strides))
    return axes


def _continues(outer: Sequence[Dim], inner: Sequence[Dim], n: Dim) -> bool:
    return all(dims.same(o, dims.normal(n * i)) for o, i in zip(outer, inner, strict=True))
