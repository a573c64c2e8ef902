"""Layers of torch.nn against eager: convolution, pooling, padding, resizing, norms, attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.export import Dim

from tests.capture.harness import check_family

B = Dim("b", min=1, max=32)
LONG = Dim("long", min=16, max=200)


def images() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(11)
    return {
        "line": torch.randn(2, 6, 20, generator=generator),
        "image": torch.randn(2, 6, 12, 10, generator=generator),
        "volume": torch.randn(2, 6, 5, 6, 4, generator=generator),
    }


SHAPES = {"line": {0: B, 2: LONG}, "image": {0: B}, "volume": {0: B}}


def on(name: str, tensor: str) -> Callable[[Any], Any]:
    """The part `name` applied to one tensor."""
    return lambda t: getattr(t, name)(getattr(t, tensor))


def check_parts(parts: dict[str, tuple[str, nn.Module]]) -> None:
    cases = {name: on(name, tensor) for name, (tensor, _) in parts.items()}
    check_family(cases, images(), SHAPES, {name: part for name, (_, part) in parts.items()})


def test_convolutions() -> None:
    check_parts(
        {
            "conv1d": ("line", nn.Conv1d(6, 4, 3)),
            "conv1d_same": ("line", nn.Conv1d(6, 4, 4, padding="same")),
            "conv1d_stride": ("line", nn.Conv1d(6, 4, 5, stride=2, padding=2, bias=False)),
            "conv1d_circular": ("line", nn.Conv1d(6, 4, 3, padding=2, padding_mode="circular")),
            "conv2d": ("image", nn.Conv2d(6, 4, 3)),
            "conv2d_groups": ("image", nn.Conv2d(6, 12, 3, groups=3, padding=1)),
            "conv2d_depthwise": ("image", nn.Conv2d(6, 6, 3, groups=6, stride=(2, 1))),
            "conv2d_dilated": ("image", nn.Conv2d(6, 4, (3, 1), dilation=(2, 1))),
            "conv2d_valid": ("image", nn.Conv2d(6, 4, 3, padding="valid")),
            "conv2d_reflect": ("image", nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect")),
            "conv2d_replicate": ("image", nn.Conv2d(6, 4, 3, padding=1, padding_mode="replicate")),
            "conv3d": ("volume", nn.Conv3d(6, 4, 3, padding=1)),
            "up1d": ("line", nn.ConvTranspose1d(6, 4, 4, stride=2, padding=1)),
            "up2d": ("image", nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1, padding=1)),
            "up2d_groups": ("image", nn.ConvTranspose2d(6, 4, 2, groups=2, dilation=2)),
            "up3d": ("volume", nn.ConvTranspose3d(6, 4, 2, stride=2)),
            "weight_norm": ("line", nn.utils.parametrizations.weight_norm(nn.Conv1d(6, 4, 3))),
            "fold": (
                "image",
                nn.Sequential(nn.Unfold(2, stride=2), nn.Fold((12, 10), 2, stride=2)),
            ),
            "unfold": ("image", nn.Unfold(3, padding=1, dilation=2)),
            "shuffle": ("image", nn.Sequential(nn.Conv2d(6, 8, 1), nn.PixelShuffle(2))),
        }
    )


def test_images_without_a_batch_axis() -> None:
    parts = {"conv": nn.Conv2d(6, 4, 3), "pool": nn.MaxPool2d(2), "up": nn.ConvTranspose2d(6, 3, 2)}
    parts["mean"] = nn.AdaptiveAvgPool2d(3)
    cases = {n: lambda t, n=n: getattr(t, n)(t.image[0]) for n in parts}
    check_family(cases, images(), SHAPES, parts)


def test_pooling() -> None:
    check_parts(
        {
            "max1d": ("line", nn.MaxPool1d(3, 2)),
            "max2d": ("image", nn.MaxPool2d(2)),
            "max2d_padded": ("image", nn.MaxPool2d(3, 2, 1)),
            "max2d_ceil": ("image", nn.MaxPool2d(3, 2, ceil_mode=True)),
            "max2d_dilated": ("image", nn.MaxPool2d(2, 1, dilation=2)),
            "max3d": ("volume", nn.MaxPool3d(2)),
            "avg1d": ("line", nn.AvgPool1d(4, 2, 1)),
            "avg2d": ("image", nn.AvgPool2d(2)),
            "avg2d_excluded": ("image", nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
            "avg2d_ceil": ("image", nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
            "avg2d_divisor": ("image", nn.AvgPool2d(2, divisor_override=3)),
            "avg3d": ("volume", nn.AvgPool3d(2)),
            "lp": ("image", nn.LPPool2d(2, 2)),
            "adaptive1d": ("line", nn.AdaptiveAvgPool1d(1)),
            "adaptive2d": ("image", nn.AdaptiveAvgPool2d((1, 1))),
            "adaptive2d_uneven": ("image", nn.AdaptiveAvgPool2d((5, 3))),
            "adaptive2d_half": ("image", nn.AdaptiveAvgPool2d((None, 2))),
            "adaptive3d": ("volume", nn.AdaptiveAvgPool3d(2)),
            "adaptive_max1d": ("line", nn.AdaptiveMaxPool1d(1)),
            "adaptive_max2d": ("image", nn.AdaptiveMaxPool2d((4, 3))),
        }
    )


def test_padding() -> None:
    check_parts(
        {
            "constant": ("line", nn.ConstantPad1d((1, 2), 3.5)),
            "zero": ("image", nn.ZeroPad2d((1, 0, 2, 3))),
            "negative": ("image", nn.ZeroPad2d((-1, 2, 0, -2))),
            "reflect1d": ("line", nn.ReflectionPad1d(3)),
            "reflect2d": ("image", nn.ReflectionPad2d((1, 2, 3, 0))),
            "reflect3d": ("volume", nn.ReflectionPad3d(1)),
            "edge1d": ("line", nn.ReplicationPad1d((2, 0))),
            "edge2d": ("image", nn.ReplicationPad2d(2)),
            "edge3d": ("volume", nn.ReplicationPad3d(1)),
            "circular": ("image", nn.CircularPad2d((1, 2, 0, 1))),
        }
    )
    cases = {
        "f_pad": lambda t: F.pad(t.line, (1, 1)),
        "f_pad_value": lambda t: F.pad(t.image, (0, 0, 1, 1), value=-1.0),
        "f_pad_bool": lambda t: F.pad(t.line > 0, (1, 0), value=True),
        "f_pad_int": lambda t: F.pad(t.line.long(), (0, 2), value=7),
        "f_pad_to_multiple": lambda t: F.pad(t.line, (0, 4 - t.line.shape[-1] % 4)),
    }
    check_family(cases, images(), SHAPES)


def test_resizing() -> None:
    def resize(x: str, **options: Any) -> Callable[[Any], Any]:
        return lambda t: F.interpolate(getattr(t, x), **options)

    cases = {
        "nearest1d": resize("line", scale_factor=2),
        "nearest2d": resize("image", scale_factor=2.0),
        "nearest_size": resize("image", size=(7, 13)),
        "nearest_down": resize("image", scale_factor=0.5),
        "nearest3d": resize("volume", size=(3, 9, 4)),
        "linear1d": resize("line", scale_factor=1.5, mode="linear"),
        "bilinear": resize("image", size=(18, 7), mode="bilinear"),
        "bilinear_corners": resize("image", size=(18, 7), mode="bilinear", align_corners=True),
        "bilinear_scale": resize("image", scale_factor=1.7, mode="bilinear"),
        "bilinear_recomputed": resize(
            "image", scale_factor=1.7, mode="bilinear", recompute_scale_factor=True
        ),
        "bicubic": resize("image", size=(18, 7), mode="bicubic"),
        "bicubic_corners": resize("image", scale_factor=2, mode="bicubic", align_corners=True),
        "trilinear": resize("volume", scale_factor=2, mode="trilinear"),
        "area": resize("image", size=(4, 5), mode="area"),
        "exact1d": resize("line", scale_factor=1.5, mode="nearest-exact"),
        "exact2d": resize("image", size=(7, 13), mode="nearest-exact"),
        "antialias": resize("image", size=(5, 7), mode="bilinear", antialias=True),
        "antialias_cubic": resize("image", size=(5, 20), mode="bicubic", antialias=True),
    }
    check_family(cases, images(), SHAPES)


def test_sampling_at_points() -> None:
    grid = torch.rand(2, 5, 4, 2, generator=torch.Generator().manual_seed(1)) * 2.4 - 1.2
    theta = torch.tensor([[[1.0, 0.2, 0.1], [0.0, 0.8, -0.3]]]).repeat(2, 1, 1)
    cases = {
        f"{mode}_{padding}_{corners}": lambda t, m=mode, p=padding, c=corners: F.grid_sample(
            t.image, t.grid, mode=m, padding_mode=p, align_corners=c
        )
        for mode, padding, corners in (
            ("bilinear", "zeros", False),
            ("bilinear", "border", True),
            ("bilinear", "reflection", False),
            ("nearest", "zeros", False),
        )
    }
    cases["affine"] = lambda t: F.affine_grid(t.theta, [2, 6, 4, 5], align_corners=False)
    tensors = {**images(), "grid": grid, "theta": theta}
    check_family(cases, tensors, {**SHAPES, "grid": {0: B}})


def test_norms() -> None:
    def stirred(part: Any) -> Any:
        """Statistics and weights that are not 0 and 1."""
        generator = torch.Generator().manual_seed(2)
        for tensor in [*part.parameters(), *part.buffers()]:
            if tensor.dtype.is_floating_point:
                tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
        return part

    parts = {
        "batch1d": ("line", stirred(nn.BatchNorm1d(6))),
        "batch2d": ("image", stirred(nn.BatchNorm2d(6, eps=1e-3))),
        "batch_plain": ("image", stirred(nn.BatchNorm2d(6, affine=False))),
        "batch_own": ("image", nn.BatchNorm2d(6, track_running_stats=False)),
        "batch3d": ("volume", stirred(nn.BatchNorm3d(6))),
        "group": ("image", stirred(nn.GroupNorm(3, 6))),
        "group_plain": ("line", nn.GroupNorm(2, 6, affine=False)),
        "instance": ("image", stirred(nn.InstanceNorm2d(6, affine=True))),
        "instance_plain": ("line", nn.InstanceNorm1d(6)),
        "instance_running": ("image", stirred(nn.InstanceNorm2d(6, track_running_stats=True))),
        "layer": ("image", stirred(nn.LayerNorm(10))),
        "layer_two": ("image", stirred(nn.LayerNorm((12, 10)))),
        "layer_plain": ("image", nn.LayerNorm(10, elementwise_affine=False)),
        "layer_no_bias": ("image", stirred(nn.LayerNorm(10, bias=False))),
        "rms": ("image", stirred(nn.RMSNorm(10))),
        "rms_eps": ("image", stirred(nn.RMSNorm(10, eps=1e-4))),
        "rms_two": ("image", stirred(nn.RMSNorm((12, 10)))),
        "local": ("image", nn.LocalResponseNorm(3)),
        "spectral": ("image", nn.utils.parametrizations.spectral_norm(nn.Conv2d(6, 4, 1))),
    }
    check_parts(parts)


# ------------------------------------------------------------------ attention
S, T = Dim("s", min=2, max=64), Dim("t", min=2, max=64)


def heads() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {
        "q": torch.randn(3, 4, 5, 8, generator=generator),
        "k": torch.randn(3, 4, 6, 8, generator=generator),
        "v": torch.randn(3, 4, 6, 8, generator=generator),
        "shared": torch.randn(3, 2, 6, 8, generator=generator),
        "mask": torch.rand(3, 1, 5, 6, generator=generator) > 0.3,
        "bias": torch.randn(3, 4, 5, 6, generator=generator),
    }


HEAD_SHAPES = {
    "q": {0: B, 2: T},
    "k": {0: B, 2: S},
    "v": {0: B, 2: S},
    "shared": {0: B, 2: S},
    "mask": {0: B, 2: T, 3: S},
    "bias": {0: B, 2: T, 3: S},
}


def test_scaled_dot_product_attention_in_every_argument_form() -> None:
    sdpa = F.scaled_dot_product_attention
    cases = {
        "plain": lambda t: sdpa(t.q, t.k, t.v),
        "scale": lambda t: sdpa(t.q, t.k, t.v, scale=0.3),
        "causal": lambda t: sdpa(t.q, t.q, t.q, is_causal=True),
        "bool_mask": lambda t: sdpa(t.q, t.k, t.v, attn_mask=t.mask),
        "float_mask": lambda t: sdpa(t.q, t.k, t.v, attn_mask=t.bias),
        "mask_of_rank_2": lambda t: sdpa(t.q, t.k, t.v, attn_mask=t.mask[0, 0]),
        "mask_of_keys": lambda t: sdpa(t.q, t.k, t.v, attn_mask=t.mask[:, :, :1]),
        "grouped": lambda t: sdpa(t.q, t.shared, t.shared, enable_gqa=True),
        "grouped_mask": lambda t: sdpa(t.q, t.shared, t.shared, t.mask, enable_gqa=True),
        "rank_3": lambda t: sdpa(t.q[:, 0], t.k[:, 0], t.v[:, 0], t.mask[:, 0]),
        "rank_2": lambda t: sdpa(t.q[0, 0], t.k[0, 0], t.v[0, 0]),
        "rank_5": lambda t: sdpa(t.q[:, None], t.k[:, None], t.v[:, None], t.mask[:, None]),
        "value_width": lambda t: sdpa(t.q, t.k, t.v[..., :5]),
    }
    check_family(cases, heads(), HEAD_SHAPES)


def sequences() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(6)
    return {
        "x": torch.randn(3, 5, 16, generator=generator),
        "memory": torch.randn(3, 6, 16, generator=generator),
        "padding": torch.tensor([[False] * 5, [False] * 4 + [True], [False] * 3 + [True] * 2]),
    }


SEQUENCE_SHAPES = {"x": {0: B, 1: T}, "memory": {0: B, 1: S}, "padding": {0: B, 1: T}}


def test_multi_head_attention_layers() -> None:
    parts = {
        "own": nn.MultiheadAttention(16, 4, batch_first=True),
        "seq_first": nn.MultiheadAttention(16, 2),
        "wide": nn.MultiheadAttention(16, 4, kdim=8, vdim=4, batch_first=True),
        "extra": nn.MultiheadAttention(16, 4, batch_first=True, add_bias_kv=True),
    }
    cases = {
        "self": lambda t: t.own(t.x, t.x, t.x),
        "no_weights": lambda t: t.own(t.x, t.x, t.x, need_weights=False)[0],
        "padding": lambda t: t.own(t.x, t.x, t.x, key_padding_mask=t.padding)[0],
        "cross": lambda t: t.own(t.x, t.memory, t.memory, average_attn_weights=False),
        "causal": lambda t: t.own(
            t.x,
            t.x,
            t.x,
            need_weights=False,
            is_causal=True,
            attn_mask=nn.Transformer.generate_square_subsequent_mask(t.x.shape[1]),
        )[0],
        "seq_first": lambda t: t.seq_first(t.x, t.x, t.x)[0],
        "widths": lambda t: t.wide(t.x, t.memory[..., :8], t.memory[..., :4])[0],
        "extra": lambda t: t.extra(t.x, t.x, t.x)[0],
    }
    check_family(cases, sequences(), SEQUENCE_SHAPES, parts)


def test_transformer_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    # eager's fused path gives zeros for padded tokens; the layers' own definition does not
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)
    encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    decoder = nn.TransformerDecoderLayer(16, 4, 32, batch_first=True, norm_first=True)
    parts = {
        "encoder": nn.TransformerEncoder(encoder, 2, norm=nn.LayerNorm(16)),
        "layer": nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True),
        "decoder": nn.TransformerDecoder(decoder, 1),
        "whole": nn.Transformer(16, 2, 1, 1, 32, batch_first=True),
    }
    cases = {
        "encoder": lambda t: t.encoder(t.x),
        "encoder_padding": lambda t: t.encoder(t.x, src_key_padding_mask=t.padding),
        "layer": lambda t: t.layer(t.x),
        "decoder": lambda t: t.decoder(t.x, t.memory),
        "whole": lambda t: t.whole(t.memory, t.x),
    }
    check_family(cases, sequences(), SEQUENCE_SHAPES, parts)
