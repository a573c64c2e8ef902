"""Convolutions: products of packed weights; what follows elementwise is part of the kernel."""

from __future__ import annotations

from edgec.ir import Constant, DType, Node, dims
from edgec.ir.dims import Dim
from edgec.ir.encoding import Dense
from edgec.kernels.conv import Conv
from edgec.kernels.depthwise import Depthwise
from edgec.kernels.panels import F32 as F32_PANELS
from edgec.kernels.patches import Triple, Windows
from edgec.kernels.weight_matrices import conv_transposed
from edgec.ops.conv import Conv as ConvOp
from edgec.ops.conv import ConvTranspose
from edgec.targets.native.computed_panels import computed_panels, turned
from edgec.targets.native.epilogues import Absorbed, absorb, as_channels
from edgec.targets.native.lower_elementwise import cast, dense_as
from edgec.targets.native.lower_linear import as_f32, rounded
from edgec.targets.native.lowering import given, lowers, operand
from edgec.targets.native.spatial import sized, three
from edgec.targets.native.views import View
from edgec.targets.native.weights import Packed
from edgec.targets.native.writer import Writer

F32 = DType.F32


@lowers("conv")
def conv(w: Writer, node: Node) -> View:
    op = node.op
    assert isinstance(op, ConvOp)
    x = dense_as(w, given(node, 0), F32)
    if op.activations != "none":
        x = rounded(w, x, op)
    low = tuple(p for p, _ in op.padding)
    windows = Windows(_taps(w, node), three(op.stride, 1), three(low, 0), three(op.dilation, 1))
    return _product(w, node, x, _panels(w, node), windows, op.groups)


@lowers("conv_transpose")
def conv_transpose(w: Writer, node: Node) -> View:
    """As a convolution over the output: which elements of x each of its places reads."""
    op = node.op
    assert isinstance(op, ConvTranspose)
    x = dense_as(w, given(node, 0), F32)
    steps, low = three(op.stride, 1), three(op.padding, 0)
    windows = Windows(_taps(w, node), steps, low, three(op.dilation, 1), transposed=True)
    return _product(w, node, x, _turned_panels(w, node, op.groups), windows, op.groups)


def _taps(w: Writer, node: Node) -> Triple:
    """Sizes of the kernel, which are static."""
    return three([int(d) for d in w.graph.type(given(node, 1)).shape[2:]], 1)


def _panels(w: Writer, node: Node) -> Packed:
    """The weight [N, C / G, *K] of conv, packed at build time where it is a constant."""
    constant = _constant(w, node)
    if constant is None:
        return computed_panels(w, dense_as(w, given(node, 1), F32))
    return w.weights.panels(constant)


def _turned_panels(w: Writer, node: Node, groups: int) -> Packed:
    """The weight [C, N / G, *K] of conv_transpose as that of a conv, likewise."""
    constant = _constant(w, node)
    if constant is None:
        return computed_panels(w, turned(w, dense_as(w, given(node, 1), F32), groups))
    form, widened = conv_transposed(constant.encoding, groups), ""
    if form is None:
        kind = constant.encoding.kind
        widened = f"no {kind} form of conv_transpose's weight; decoded at build time"
        form = conv_transposed(Dense(constant.encoding.decode()), groups)
        assert form is not None
    layout = f"turned panels of {groups} groups" if groups != 1 else "turned panels"
    return w.weights.panels(Constant(constant.name, form), layout, widened)


def _constant(w: Writer, node: Node) -> Constant | None:
    """The weight as a constant of f32, None for one that is computed."""
    constant = w.graph.constant(given(node, 1))
    return None if constant is None else as_f32(constant)


def _product(
    w: Writer,
    node: Node,
    x: View,
    weight: Packed,
    windows: Windows,
    groups: int,
) -> View:
    """The call, and its result in the node's own type."""
    out, bias = node.output.type, operand(node, 2)
    biases = [dense_as(w, bias, F32)] if bias is not None else []
    taken = absorb(w, node, as_channels) if out.dtype is F32 else Absorbed(node)
    spec, packed = weight
    to = w.temporary(out.with_dtype(F32), taken.last.output.name)
    sizes: dict[str, Dim | float] = {"batch": x.shape[0], "c": x.shape[1], "n": out.shape[1]}
    sizes |= sized("x", x.shape[2:]) | sized("o", out.shape[2:])
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
