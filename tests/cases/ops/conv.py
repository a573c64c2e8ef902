"""Cases of convolution, pooling, resizing and sampling."""

from __future__ import annotations

from tests.cases.case import Case

BATCHES = ({"b": 1}, {"b": 2})
IMAGES = ({"b": 1, "h": 7, "w": 6}, {"b": 2, "h": 10, "w": 9})
WAVES = ({"b": 1, "n": 130}, {"b": 2, "n": 1001})
ONE = "stride=[1], padding=[[0, 0]], dilation=[1]"
TWO = "stride=[1, 1], padding=[[1, 1], [1, 1]], dilation=[1, 1]"
ROUNDS = "rounds x"
TIES = "an index that jumps"

CONV = (
    Case("conv", ONE, ("f32[2, 3, 9]", "const f32[4, 3, 3]", "const f32[4]")),
    Case(
        "conv",
        "stride=[2], padding=[[1, 1]], dilation=[2]",
        ("f32[b, 3, n]", "const f32[5, 3, 3]", "_"),
        WAVES,
    ),
    Case(
        "conv",
        "stride=[384], padding=[[0, 0]], dilation=[1]",
        ("f32[b, 1, n]", "const f32[2, 1, 127]", "_"),
        WAVES,
    ),
    Case(
        "conv",
        "stride=[1], padding=[[2, 0]], dilation=[1], groups=4",
        ("f32[b, 4, n]", "const f32[4, 1, 3]", "const f32[4]"),
        WAVES,
    ),
    Case("conv", TWO, ("f32[2, 3, 8, 8]", "const f32[4, 3, 3, 3]", "const f32[4]")),
    Case(
        "conv",
        "stride=[2, 1], padding=[[0, 1], [2, 1]], dilation=[1, 2]",
        ("f32[2, 3, 7, 9]", "const f32[5, 3, 3, 2]", "_"),
    ),
    Case(
        "conv",
        "stride=[2, 2], padding=[[1, 1], [1, 1]], dilation=[1, 1]",
        ("f32[b, 3, h, w]", "const f32[4, 3, 3, 3]", "const f32[4]"),
        IMAGES,
    ),
    Case(
        "conv",
        TWO + ", groups=6",
        ("f32[b, 6, 5, 5]", "const f32[6, 1, 3, 3]", "const f32[6]"),
        BATCHES,
    ),
    Case(
        "conv",
        TWO + ", groups=2",
        ("f32[b, 6, 5, 5]", "const f32[4, 3, 3, 3]", "const f32[4]"),
        BATCHES,
    ),
    Case(
        "conv",
        "stride=[1, 1], padding=[[0, 0], [0, 0]], dilation=[1, 1]",
        ("f32[b, 5, 3, 4]", "const f32[7, 5, 1, 1]", "_"),
        BATCHES,
    ),
    Case(
        "conv",
        "stride=[1, 2, 1], padding=[[1, 1], [0, 0], [0, 1]], dilation=[1, 1, 1]",
        ("f32[1, 2, 4, 5, 3]", "const f32[3, 2, 3, 2, 2]", "const f32[3]"),
    ),
    Case(
        "conv",
        TWO + ", activations=dynamic",
        ("f32[b, 3, 5, 5]", "const f32[4, 3, 3, 3]", "const f32[4]"),
        BATCHES,
        ROUNDS,
    ),
    Case(
        "conv",
        TWO + ", activations=dynamic_token",
        ("f32[b, 3, 5, 5]", "const f32[4, 3, 3, 3]", "_"),
        BATCHES,
        ROUNDS,
    ),
    Case(
        "conv",
        TWO + ", activations=static, x_scale=0.015625, x_zero=100",
        ("f32[b, 3, 5, 5]", "const f32[4, 3, 3, 3]", "const f32[4]"),
        BATCHES,
        ROUNDS,
    ),
    Case(
        "conv",
        TWO + ", groups=4, activations=static, x_scale=0.0078125",
        ("f32[b, 4, 5, 5] 0..2", "const f32[4, 1, 3, 3]", "_"),
        BATCHES,
        ROUNDS,
    ),
    Case(
        "conv_transpose",
        "stride=[2], padding=[1], output_padding=[1], dilation=[1]",
        ("f32[b, 3, 5]", "const f32[3, 4, 3]", "const f32[4]"),
        BATCHES,
    ),
    Case(
        "conv_transpose",
        "stride=[2, 2], padding=[0, 0], output_padding=[0, 0], dilation=[1, 1]",
        ("f32[b, 4, h, w]", "const f32[4, 3, 2, 2]", "const f32[3]"),
        IMAGES,
    ),
    Case(
        "conv_transpose",
        "stride=[3, 2], padding=[1, 2], output_padding=[2, 0], dilation=[1, 2], groups=2",
        ("f32[2, 4, 4, 5]", "const f32[4, 3, 3, 3]", "_"),
    ),
    Case(
        "conv_transpose",
        "stride=[1, 1], padding=[2, 0], output_padding=[0, 0], dilation=[1, 1]",
        ("f32[1, 2, 4, 3]", "const f32[2, 2, 2, 1]", "const f32[2]"),
    ),
    Case(
        "conv_transpose",
        "stride=[2, 1, 1], padding=[0, 1, 0], output_padding=[0, 0, 0], dilation=[1, 1, 1]",
        ("f32[1, 2, 2, 3, 2]", "const f32[2, 2, 2, 3, 1]", "_"),
    ),
)

COLUMNS = (
    Case(
        "im2col",
        "kernel=[2, 3], stride=[1, 2], padding=[1, 0], dilation=[1, 1]",
        ("f32[2, 3, 5, 7]",),
    ),
    Case(
        "im2col",
        "kernel=[3, 3], stride=[2, 2], padding=[1, 1], dilation=[1, 2]",
        ("f32[b, 2, h, w]",),
        IMAGES,
    ),
    Case(
        "im2col",
        "kernel=[2, 2], stride=[2, 2], padding=[0, 0], dilation=[1, 1]",
        ("f32[1, 1, 4, 4]",),
    ),
    Case(
        "col2im",
        "size=[5, 7], kernel=[2, 3], stride=[1, 2], padding=[1, 0], dilation=[1, 1]",
        ("f32[2, 18, 18]",),
    ),
    Case(
        "col2im",
        "size=[4, 6], kernel=[2, 2], stride=[2, 2], padding=[0, 0], dilation=[1, 1]",
        ("f32[b, 8, 6]",),
        BATCHES,
    ),
    Case(
        "col2im",
        "size=[6, 6], kernel=[2, 2], stride=[3, 1], padding=[0, 1], dilation=[2, 1]",
        ("f32[1, 4, 14]",),
    ),
)

_POOL_1D = "kernel=[3], stride=[2], padding=[[1, 1]]"
_POOL_2D = "kernel=[3, 2], stride=[2, 2], padding=[[1, 1], [0, 0]]"
_UNEVEN = "kernel=[3, 3], stride=[2, 2], padding=[[0, 1], [1, 2]]"
_CUBE = "kernel=[2, 2, 1], stride=[2, 1, 1], padding=[[0, 0], [1, 1], [0, 0]]"

POOL = (
    Case("max_pool", _POOL_1D + ", dilation=[1]", ("f32[b, 2, n]",), WAVES),
    Case("max_pool", _POOL_1D + ", dilation=[2], ceil_mode=True", ("f32[2, 2, 9]",)),
    Case("max_pool", _POOL_2D + ", dilation=[1, 1]", ("f32[b, 3, h, w]",), IMAGES),
    Case("max_pool", _POOL_2D + ", dilation=[1, 1], ceil_mode=True", ("f32[b, 3, h, w]",), IMAGES),
    Case("max_pool", _UNEVEN + ", dilation=[1, 2]", ("f32[2, 2, 6, 7]",)),
    Case("max_pool", _UNEVEN + ", dilation=[1, 1], ceil_mode=True", ("f32[2, 2, 6, 8]",)),
    Case("max_pool", _CUBE + ", dilation=[1, 1, 1]", ("f32[1, 2, 4, 3, 2]",)),
    Case("avg_pool", _POOL_1D, ("f32[b, 2, n]",), WAVES),
    Case("avg_pool", _POOL_1D + ", ceil_mode=True, count_include_pad=False", ("f32[2, 2, 9]",)),
    Case("avg_pool", _POOL_2D, ("f32[b, 3, h, w]",), IMAGES),
    Case("avg_pool", _POOL_2D + ", ceil_mode=True", ("f32[b, 3, h, w]",), IMAGES),
    Case("avg_pool", _POOL_2D + ", count_include_pad=False", ("f32[b, 3, h, w]",), IMAGES),
    Case("avg_pool", _UNEVEN + ", count_include_pad=False", ("f32[2, 2, 6, 7]",)),
    Case("avg_pool", _UNEVEN + ", ceil_mode=True", ("f32[2, 2, 6, 8]",)),
    Case("avg_pool", _CUBE, ("f32[1, 2, 4, 3, 2]",)),
    Case("adaptive_avg_pool", "size=[1, 1]", ("f32[b, 3, h, w]",), IMAGES),
    Case("adaptive_avg_pool", "size=[2, 3]", ("f32[b, 3, 4, 9]",), BATCHES),
    Case("adaptive_avg_pool", "size=[3, 5]", ("f32[2, 2, 7, 8]",)),
    Case("adaptive_avg_pool", "size=[7, 1]", ("f32[1, 2, 3, 5]",)),
    Case("adaptive_avg_pool", "size=[4]", ("f32[b, 2, 4*n]",), WAVES[:1]),
    Case("adaptive_avg_pool", "size=[1, 2, 1]", ("f32[1, 2, 3, 4, 2]",)),
)

RESIZE = (
    Case("resize", "size=[8, 10], mode=nearest", ("f32[2, 3, 4, 5]",)),
    Case("resize", "size=[2*h, 2*w], mode=nearest", ("f32[b, 3, h, w]",), IMAGES),
    Case("resize", "size=[2*h, 3*w], mode=nearest, scale=[2.0, 3.0]", ("f32[b, 2, h, w]",), IMAGES),
    Case("resize", "size=[7, 3], mode=nearest", ("f32[1, 2, 5, 8]",)),
    Case("resize", "size=[9], mode=nearest, scale=[1.9]", ("f32[1, 2, 5]",)),
    Case("resize", "size=[8, 10], mode=linear", ("f32[2, 3, 4, 5]",)),
    Case("resize", "size=[8, 3], mode=linear, align_corners=True", ("f32[2, 3, 4, 5]",)),
    Case("resize", "size=[1, 6], mode=linear, align_corners=True", ("f32[1, 1, 4, 1]",)),
    Case("resize", "size=[2*h, 2*w], mode=linear", ("f32[b, 2, h, w]",), IMAGES),
    Case("resize", "size=[h, 2*w], mode=linear, scale=[1.0, 2.0]", ("f32[b, 2, h, w]",), IMAGES),
    Case(
        "resize", "size=[2*h, w + 3], mode=linear, align_corners=True", ("f32[b, 2, h, w]",), IMAGES
    ),
    Case("resize", "size=[7], mode=linear, scale=[1.5]", ("f32[b, 2, 5]",), BATCHES),
    Case("resize", "size=[3, 4, 5], mode=linear", ("f32[1, 2, 2, 3, 4]",)),
    Case("resize", "size=[9, 5], mode=cubic", ("f32[2, 2, 5, 7]",)),
    Case("resize", "size=[9, 14], mode=cubic, align_corners=True", ("f32[1, 2, 5, 7]",)),
    Case("resize", "size=[2*h, 2*w], mode=cubic, scale=[2.0, 2.0]", ("f32[b, 2, h, w]",), IMAGES),
)

SAMPLE = tuple(
    Case(
        "grid_sample",
        f"mode={mode}, padding={padding}, align_corners={corners}",
        ("f32[b, 3, 5, 4]", "f32[b, 3, 6, 2] -1.6..1.6"),
        BATCHES,
        TIES if mode == "nearest" else "",
    )
    for mode in ("bilinear", "nearest")
    for padding in ("zeros", "border", "reflection")
    for corners in (False, True)
)

CASES = (*CONV, *COLUMNS, *POOL, *RESIZE, *SAMPLE)
