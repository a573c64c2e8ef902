"""Convolutions with constant weights; what follows elementwise is part of the kernel."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.errors import UnsupportedError
from edgec.ir import Constant, DType, Node, dims
from edgec.ir.dims import Dim
from edgec.ir.encoding import Dense
from edgec.kernels.conv import Conv
from edgec.kernels.depthwise import Depthwise
from edgec.kernels.panel_packing import conv_transposed
from edgec.kernels.panels import F32 as F32_PANELS
from edgec.kernels.patches import Triple, Windows
from edgec.ops.conv import Conv as ConvOp
from edgec.ops.conv import ConvTranspose
from edgec.targets.native.epilogues import Absorbed, absorb, as_channels
from edgec.targets.native.lower_elementwise import cast
from edgec.targets.native.lower_linear import as_f32, rounded
from edgec.targets.native.lowering import dense_as, given, lowers, operand
from edgec.targets.native.views import View
from edgec.targets.native.weights import Packed
from edgec.targets.native.writer import Writer

F32 = DType.F32


@lowers("conv")
def conv(w: Writer, node: Node) -> View:
    op = node.op
    assert isinstance(op, ConvOp)
    weight = _weight(w, node)
    x = dense_as(w, given(w, node, 0), F32)
    if op.activations != "none":
        x = rounded(w, x, op)
    low = tuple(p for p, _ in op.padding)
    kernel = tuple(int(d) for d in weight.type.shape[2:])
    windows = Windows(
        _three(kernel, 1), _three(op.stride, 1), _three(low, 0), _three(op.dilation, 1)
    )
    return _product(w, node, x, w.weights.panels(weight), windows, op.groups)


@lowers("conv_transpose")
def conv_transpose(w: Writer, node: Node) -> View:
    """As a convolution over the output: which elements of x each of its places reads."""
    op = node.op
    assert isinstance(op, ConvTranspose)
    weight = _weight(w, node)
    turned = conv_transposed(weight.encoding, op.groups)
    widened = ""
    if turned is None:
        widened = (
            f"no {weight.encoding.kind} form of conv_transpose's weight; decoded at build time"
        )
        turned = conv_transposed(Dense(weight.encoding.decode()), op.groups)
        assert turned is not None
    layout = f"turned panels of {op.groups} groups" if op.groups != 1 else "turned panels"
    form = w.weights.panels(Constant(weight.name, turned), layout, widened)
    x = dense_as(w, given(w, node, 0), F32)
    kernel = tuple(int(d) for d in weight.type.shape[2:])
    low, one = _three(op.padding, 0), 1
    windows = Windows(
        _three(kernel, one), _three(op.stride, one), low, _three(op.dilation, one), transposed=True
    )
    return _product(w, node, x, form, windows, op.groups)


def _weight(w: Writer, node: Node) -> Constant:
    """Raises UnsupportedError for a weight that is computed."""
    constant = w.graph.constant(given(w, node, 1))
    found = None if constant is None else as_f32(constant)
    if found is None:
        got = f"{node.op.name} with a computed weight %{node.inputs[1]} ({node.source})"
        raise UnsupportedError("native", got, "weights that are constants")
    return found


def _product(
    w: Writer,
    node: Node,
    x: View,
    weight: Packed,
    windows: Windows,
    groups: int,
) -> View:
    """The call, and its result in the node's own type."""
    out, bias = node.output.type, operand(w, node, 2)
    biases = [dense_as(w, bias, F32)] if bias is not None else []
    taken = absorb(w, node, as_channels) if out.dtype is F32 else Absorbed(node)
    spec, packed = weight
    to = w.temporary(out.with_dtype(F32), taken.last.output.name)
    sizes: dict[str, Dim | float] = {"batch": x.shape[0], "c": x.shape[1], "n": out.shape[1]}
    sizes |= _sides("x", x.shape[2:]) | _sides("o", out.shape[2:])
    kernel: Conv | Depthwise
    depthwise = not windows.transposed and dims.same(x.shape[1], groups) and spec == F32_PANELS
    if depthwise:
        kernel = Depthwise(windows, bias=bool(biases), epilogue=taken.epilogue)
    else:
        kernel = Conv(windows, spec, bool(biases), taken.epilogue, grouped=groups != 1)
        sizes |= {"groups": groups} if groups != 1 else {}
    w.call(kernel, [x, *packed, *biases, *taken.views, to], **sizes)
    made = to if out.dtype is F32 else cast(w, to, out.dtype)
    w.define(taken.last.output.name, made)
    return made


def _three(values: Sequence[int], missing: int) -> Triple:
    """One number for each of three axes; missing ones stand ahead."""
    d, h, w = [missing] * (3 - len(values)) + list(values)
    return d, h, w


def _sides(name: str, shape: Sequence[Dim]) -> dict[str, Dim]:
    filled = [1] * (3 - len(shape)) + list(shape)
    return {f"{name}{axis}": n for axis, n in zip("dhw", filled, strict=True)}
