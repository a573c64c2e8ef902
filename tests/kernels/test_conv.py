"""Convolution kernels against torch in float64, for every attribute."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgec.ir import Affine, Dense
from edgec.kernels.calling import host_sets
from edgec.kernels.columns import Col2im, Im2col
from edgec.kernels.conv import Conv
from edgec.kernels.depthwise import Depthwise
from edgec.kernels.panel_packing import pack
from edgec.kernels.patches import Windows
from edgec.kernels.steps import Epilogue, Step
from edgec.kernels.weight_matrices import conv_transposed
from edgec.ops.activations import Relu
from edgec.ops.conv import Conv as ConvOp
from edgec.ops.elementwise import Add
from tests.kernels.guarded import check, run

SETS = host_sets()
each_set = pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
FUNCTIONS: tuple[Any, ...] = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED: tuple[Any, ...] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
SIDES, PLACES = ("xd", "xh", "xw"), ("od", "oh", "ow")


def three(numbers, fill):
    """Spatial axes as the kernels have them, three."""
    return (*(fill,) * (3 - len(numbers)), *numbers)


def windows_of(geometry, **more):
    kernel, stride, padding, dilation = geometry
    low, steps = three(padding, 0), three(stride, 1)
    return Windows(three(kernel, 1), steps, low, three(dilation, 1), **more)


def every(geometries):
    """All geometries on the first instruction set, the first ones on the others too."""
    listed = [(SETS[0], g) for g in geometries]
    listed += [(isa, g) for isa in SETS[1:] for g in geometries[:2]]
    ids = [f"{isa.name}-{g}" for isa, g in listed]
    return pytest.mark.parametrize(("isa", "geometry"), listed, ids=ids)


def check_conv(kernel, isa, x, weight, bias, want, groups=1, operands=()):
    """Within the op's tolerance of what is wanted."""
    spec, arrays = pack(weight)
    arrays = {"x": x.numpy(), **{p.name: arrays[p.name] for p in spec.pointers()}}
    arrays |= {} if bias is None else {"bias": bias.numpy()}
    arrays |= {f"e{i + 1}": o.numpy() for i, o in enumerate(operands)}
    sizes = {"batch": len(x), "c": x.shape[1], "n": want.shape[1]}
    sizes |= dict(zip(SIDES, three(x.shape[2:], 1), strict=True))
    sizes |= dict(zip(PLACES, three(want.shape[2:], 1), strict=True))
    sizes |= {"groups": groups} if getattr(kernel, "grouped", False) else {}
    made = run(kernel, isa, arrays, sizes, {"y": want.shape})["y"]
    terms = math.prod(weight.type.shape[1:])
    check(ConvOp((1,), ((0, 0),), (1,)), made, want, terms)


FIXED = [
    ((3, 3), (1, 1), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (1, 1), (1, 1)),
    ((1, 1), (1, 1), (0, 0), (1, 1)),
    ((5,), (3,), (2,), (2,)),
    ((2, 1, 3), (1, 2, 1), (1, 0, 2), (1, 1, 2)),
]


@every(FIXED)
@pytest.mark.parametrize(("channels", "groups"), [((6, 9), 1), ((27, 150), 1), ((27, 150), 3)])
def test_conv_is_torchs(isa, geometry, channels, groups):
    kernel, *rest = geometry
    x = torch.randn(2, channels[0], *(9, 11, 8)[: len(kernel)])
    w = torch.randn(channels[1], channels[0] // groups, *kernel)
    bias = torch.randn(channels[1])
    function = FUNCTIONS[len(kernel) - 1]
    want = function(x.double(), w.double(), bias.double(), *rest, groups)
    made = Conv(windows_of(geometry), grouped=groups > 1)
    check_conv(made, isa, x, Dense(w), bias, want, groups)


@each_set
def test_a_conv_has_epilogues_of_every_extent(isa):
    x, w = torch.randn(2, 5, 7, 9), torch.randn(40, 5, 3, 3)
    full, per_channel = torch.randn(2, 40, 7, 9), torch.randn(40)
    steps = (Step(Relu(), (0,)), Step(Add(), (3, 1)), Step(Add(), (4, 2)))
    epilogue = Epilogue(("full", "column"), steps)
    y = F.conv2d(x.double(), w.double(), padding=1).relu()
    want = y + full.double() + per_channel.double().view(-1, 1, 1)
    made = Conv(windows_of(FIXED[0]), bias=False, epilogue=epilogue)
    check_conv(made, isa, x, Dense(w), None, want, operands=(full, per_channel))


@each_set
@pytest.mark.parametrize(
    "plane", [(1, 7, 7), (2, 5, 33), (1, 3, 70), (3, 9, 1), (2, 1, 40)], ids=str
)
@pytest.mark.parametrize(
    ("size", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (7, 2, 1), (3, 3, 2)]
)
def test_a_conv_has_planes_of_any_size(isa, plane, size, stride, dilation):
    """Blocks of places end within rows, and go on in the next rows and planes; the pads differ,
    the one in front is the kernel's."""
    x, w = torch.randn(2, 23, *plane), torch.randn(35, 23, 1, size, size)
    reach = (size - 1) * dilation
    top, left = reach // 2, reach
    padded = F.pad(x, (left, 1, top, reach - top))
    want = F.conv3d(
        padded.double(), w.double(), None, (1, stride, stride), 0, (1, dilation, dilation)
    )
    steps, away = (1, stride, stride), (1, dilation, dilation)
    windows = Windows((1, size, size), steps, (0, top, left), away)
    check_conv(Conv(windows, bias=False), isa, x, Dense(w), None, want)


@each_set
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_conv_decodes_its_weight(isa, groups, stride):
    x, w = torch.randn(1, 48, 6, 5), torch.randn(40, 48 // groups, 3, 3)
    scale = torch.rand(40, 1) * 0.1 + 0.2
    weight = Affine(torch.zeros(w.shape, dtype=torch.int8), scale, bits=4).encode(w)
    want = F.conv2d(x.double(), weight.decode().double(), None, stride, 1, 1, groups)
    spec, _ = pack(weight)
    made = Conv(windows_of(FIXED[stride - 1]), spec, bias=False, grouped=groups > 1)
    check_conv(made, isa, x, weight, None, want, groups)


@every(FIXED)
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_transpose_is_torchs(isa, geometry, groups):
    kernel, stride, padding, dilation = geometry
    x = torch.randn(2, 6, *(5, 6, 4)[: len(kernel)])
    w, bias = torch.randn(6, 4, *kernel), torch.randn(4 * groups)
    extra = tuple(s - 1 for s in stride)
    function = TRANSPOSED[len(kernel) - 1]
    wide = (x.double(), w.double(), bias.double())
    want = function(*wide, stride, padding, extra, groups, dilation)
    made = Conv(windows_of(geometry, transposed=True), grouped=groups > 1)
    turned = conv_transposed(Dense(w), groups)
    assert turned is not None
    check_conv(made, isa, x, turned, bias, want, groups)


@pytest.mark.parametrize(("axis", "group"), [(None, 0), (0, 0), (1, 0), (0, 5), (1, 6)])
def test_a_turned_weight_of_conv_transpose_has_the_same_values(axis, group):
    codes = torch.randint(-8, 8, (3, 5, 2, 2), dtype=torch.int8)
    rows = 1 if axis is None else codes.shape[axis]
    scale = torch.rand(rows, 60 // rows // group if group else 1) + 0.1
    weight = Affine(codes, scale, bits=4, axis=axis, group=group)
    turned = conv_transposed(weight, 1)
    assert turned is not None
    expected = weight.decode().permute(1, 0, 2, 3).reshape(5, 3, 4)
    assert torch.equal(turned.decode(), expected)


DEPTHWISE = [
    *FIXED,
    ((5, 5), (1, 3), (2, 2), (2, 2)),
    ((3, 31), (2, 1), (1, 15), (1, 1)),
    ((1, 3), (1, 2), (0, 1), (1, 1)),
]


@every(DEPTHWISE)
@pytest.mark.parametrize(("channels", "wide"), [(3, 32), (35, 20), (2, 150)])
def test_depthwise_is_torchs(isa, geometry, channels, wide):
    kernel, *rest = geometry
    x = torch.randn(2, channels, *(5, 9, wide)[-len(kernel) :])
    w, bias = torch.randn(2 * channels, 1, *kernel), torch.randn(2 * channels)
    function = FUNCTIONS[len(kernel) - 1]
    want = function(x.double(), w.double(), bias.double(), *rest, channels)
    check_conv(Depthwise(windows_of(geometry)), isa, x, Dense(w), bias, want)


PLANES = [(7, 7), (14, 14), (3, 1), (15, 5), (90, 40), (70, 300)]


@each_set
@pytest.mark.parametrize("plane", PLANES, ids=str)
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_has_planes_of_any_size_and_epilogues(isa, plane, size, stride):
    """Small planes lie in few vectors, great ones in several bands; pads differ, the one in front
    is the kernel's."""
    x, w = torch.randn(2, 33, *plane), torch.randn(33, 1, size, size)
    top, left = size // 2, size - 1
    padded = F.pad(x, (left, 1, top, size - top))
    want = F.conv2d(padded.double(), w.double(), stride=stride, groups=33)
    full, per_channel = torch.randn(want.shape), torch.randn(33)
    steps = (Step(Relu(), (0,)), Step(Add(), (3, 1)), Step(Add(), (4, 2)))
    epilogue = Epilogue(("full", "column"), steps)
    windows = Windows((1, size, size), (1, stride, stride), (0, top, left))
    want = want.relu() + full.double() + per_channel.double().view(-1, 1, 1)
    made = Depthwise(windows, bias=False, epilogue=epilogue)
    check_conv(made, isa, x, Dense(w), None, want, operands=(full, per_channel))


@pytest.mark.parametrize("geometry", [FIXED[0], ((3, 2), (2, 3), (1, 2), (2, 1))], ids=str)
def test_columns_are_torchs(geometry):
    kernel, stride, padding, dilation = geometry
    x = torch.randn(2, 3, 9, 10)
    want = F.unfold(x, kernel, dilation, padding, stride)
    places = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip((9, 10), *geometry, strict=True)
    ]
    sizes = {"batch": 2, "c": 3, "xh": 9, "xw": 10, "oh": places[0], "ow": places[1]}
    made = run(Im2col(*geometry), SETS[0], {"x": x.numpy()}, sizes, {"y": want.shape})["y"]
    assert np.array_equal(made, want.numpy())
    image = run(Col2im(*geometry), SETS[0], {"x": want.numpy()}, sizes, {"y": x.shape})["y"]
    summed = F.fold(want.double(), (9, 10), kernel, dilation, padding, stride)
    check(ConvOp((1,), ((0, 0),), (1,)), image, summed, math.prod(kernel))
