"""Lowering of edgec.ops.conv, pool, resize and grid_sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from edgec.ir import Node
from edgec.ops import pool
from edgec.ops.conv import Conv, ConvTranspose
from edgec.ops.grid_sample import GridSample
from edgec.ops.resize import Resize
from edgec.targets.onnx import quantized
from edgec.targets.onnx.lowering import Weight, dense, lowers, operand_type
from edgec.targets.onnx.writer import Name, Writer


def pads_of(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """ONNX order: all lows, then all highs."""
    return [low for low, _ in pairs] + [high for _, high in pairs]


# ------------------------------------------------------------------ conv
@lowers("conv", weight=1)
def conv(w: Writer, node: Node, x: Name, weight: Weight, bias: Name | None = None) -> Name:
    """In f32, rounded activations too: onnxruntime 1.31 has ConvInteger take six times as long."""
    op = node.op
    assert isinstance(op, Conv)
    axes = tuple(range(1, operand_type(w, node, 0).rank))
    x = quantized.quantized_values(w, x, op, axes)
    return w.node("Conv", x, dense(w, weight), bias, **_conv_attributes(op))


def _conv_attributes(op: Conv) -> dict[str, Any]:
    return {
        "strides": list(op.stride),
        "pads": pads_of(op.padding),
        "dilations": list(op.dilation),
        "group": op.groups,
    }


@lowers("conv_transpose")
def conv_transpose(w: Writer, node: Node, x: Name, weight: Name, bias: Name | None = None) -> Name:
    op = node.op
    assert isinstance(op, ConvTranspose)
    return w.node(
        "ConvTranspose",
        *(x, weight, bias),
        strides=list(op.stride),
        pads=[*op.padding, *op.padding],
        output_padding=list(op.output_padding),
        dilations=list(op.dilation),
        group=op.groups,
    )


# ------------------------------------------------------------------ pool
@lowers("max_pool")
def max_pool(w: Writer, node: Node, x: Name) -> Name:
    op = node.op
    assert isinstance(op, pool.MaxPool)
    return w.node(
        "MaxPool",
        x,
        kernel_shape=list(op.kernel),
        strides=list(op.stride),
        pads=pads_of(op.padding),
        dilations=list(op.dilation),
        ceil_mode=int(op.ceil_mode),
    )


@lowers("avg_pool")
def avg_pool(w: Writer, node: Node, x: Name) -> Name:
    op = node.op
    assert isinstance(op, pool.AvgPool)
    return w.node(
        "AveragePool",
        x,
        kernel_shape=list(op.kernel),
        strides=list(op.stride),
        pads=pads_of(op.padding),
        ceil_mode=int(op.ceil_mode),
        count_include_pad=int(op.count_include_pad),
    )


@lowers("adaptive_avg_pool")
def adaptive_avg_pool(w: Writer, node: Node, x: Name) -> Name:
    return w.node("GlobalAveragePool", x)


# ------------------------------------------------------------------ sampling
@lowers("resize")
def resize(w: Writer, node: Node, x: Name) -> Name:
    op = node.op
    assert isinstance(op, Resize)
    kind = operand_type(w, node, 0)
    places = "align_corners" if op.align_corners else "half_pixel"
    modes: dict[str, dict[str, Any]] = {
        "nearest": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "linear": {"coordinate_transformation_mode": places},
        "cubic": {"coordinate_transformation_mode": places, "cubic_coeff_a": -0.75},
    }
    axes = list(range(2, kind.rank))
    scales = None
    if op.scale is not None and not op.align_corners:
        scales = w.array(torch.tensor(op.scale, dtype=torch.float32))
    sizes = w.shape(op.size) if scales is None else None
    return w.node("Resize", x, None, scales, sizes, mode=op.mode, axes=axes, **modes[op.mode])


@lowers("grid_sample")
def grid_sample(w: Writer, node: Node, x: Name, grid: Name) -> Name:
    op = node.op
    assert isinstance(op, GridSample)
    return w.node(
        "GridSample",
        *(x, grid),
        mode="linear" if op.mode == "bilinear" else op.mode,
        padding_mode=op.padding,
        align_corners=int(op.align_corners),
    )
