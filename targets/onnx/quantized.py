"""Activations that are quantized at run time, for linear and conv."""

from __future__ import annotations

from edgec.ir import Constant, DType, Encoding
from edgec.ir.encodings import Affine
from edgec.ops.activation_quantization import Quantizer
from edgec.targets.onnx.decode import part_name
from edgec.targets.onnx.writer import MICROSOFT, Name, Writer

F32 = DType.F32


def is_integer_weight(encoding: Encoding) -> bool:
    """Whether products with this weight are integer products times one scale per output channel."""
    return (
        isinstance(encoding, Affine)
        and encoding.bits == 8
        and encoding.zero is None
        and encoding.dtype is F32
        and encoding.scale.shape[1] == 1
        and encoding.axis in (0, None)
    )


def channel_scale(w: Writer, weight: Constant) -> Name:
    """Scale per output channel f32[N], or f32[1] for one scale of everything."""
    encoding = weight.encoding
    assert isinstance(encoding, Affine)
    scale = part_name(weight, "scale")
    scale = scale if DType.of(encoding.scale.dtype) is F32 else w.cast(scale, F32)
    return w.static_reshape(scale, -1)


def integer_linear(w: Writer, x: Name, weight: Constant, bias: Name | None, op: Quantizer) -> Name:
    """quantized(x) w^T + bias = x_scale w_scale ((q - zero) codes^T) + bias, the product in i32.

    What is dynamic onnxruntime makes one operator of, DynamicQuantizeMatMul, which has no need to
    be named; for a scale that is known it is MatMulIntegerToFloat.
    """
    codes = w.transpose(part_name(weight, "codes"), (1, 0))
    q, scale, zero = quantized(w, x, op, (-1,))
    channels = channel_scale(w, weight)
    if op.activations == "static":
        operands = (q, codes, scale, channels, zero, None, bias)
        return w.node("MatMulIntegerToFloat", *operands, domain=MICROSOFT)
    product = w.cast(w.node("MatMulInteger", q, codes, zero), F32)
    if op.activations == "dynamic":
        y = w.node("Mul", product, w.node("Mul", scale, channels))
    else:  # a product of both scales onnxruntime 1.31 would fuse as if x had one scale
        y = w.node("Mul", w.node("Mul", product, channels), scale)
    return y if bias is None else w.node("Add", y, bias)


def quantized(
    w: Writer, x: Name, op: Quantizer, row_axes: tuple[int, ...]
) -> tuple[Name, Name, Name]:
    """(q u8, scale, zero point u8) of `edgec.ops.activation_quantization`.

    Symmetric codes are written around 128: onnxruntime multiplies u8 with i8 five to ten times as
    fast as i8 with i8.
    """
    if op.activations == "static":
        scale, zero = w.number(op.x_scale, F32), w.number(op.x_zero, DType.U8)
        return w.node("QuantizeLinear", x, scale, zero), scale, zero
    if op.activations == "dynamic":
        q, scale, zero = w.node_of(3, "DynamicQuantizeLinear", x)
        return q, scale, zero
    top = w.node("ReduceMax", w.node("Abs", x), w.ints(*row_axes), keepdims=1)
    scale = w.node("Div", top, w.number(127.0, F32))
    empty = w.node("Equal", scale, w.number(0.0, F32))
    scale = w.node("Where", empty, w.number(1.0, F32), scale)
    rounded = w.node("Round", w.node("Div", x, scale))
    clipped = w.node("Clip", rounded, w.number(-127.0, F32), w.number(127.0, F32))
    q = w.cast(w.node("Add", clipped, w.number(128.0, F32)), DType.U8)
    return q, scale, w.number(128, DType.U8)


def quantized_values(w: Writer, x: Name, op: Quantizer, row_axes: tuple[int, ...]) -> Name:
    """x rounded to the values that its quantized form has; x itself for no quantization.

    Not by DequantizeLinear: between that and a QuantizeLinear onnxruntime 1.31 rounds the weights
    of a Conv or Gemm again, to codes of its own, in silence.
    """
    if op.activations == "none":
        return x
    q, scale, zero = quantized(w, x, op, row_axes)
    return w.node("Mul", w.node("Sub", w.cast(q, F32), w.cast(zero, F32)), scale)
