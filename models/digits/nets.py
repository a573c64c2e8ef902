"""Two small classifiers of 8 x 8 digits: depthwise separable convolutions, a vision transformer.

edgec build edgec.models.digits.nets:convolutional
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgec.models.digits.data import CHECKPOINT, held_out

CLASSES = 10
TOP = 16  # of a pixel


def normalized(images: Tensor) -> Tensor:
    """u8[B, 1, 8, 8] of 0..16 -> f32 in [-1, 1]."""
    return images.float() * (2 / TOP) - 1


# ------------------------------------------------------------------ convolutions
def _layer(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Convolutional(nn.Module):
    """A convolution, then three pairs of a depthwise one and one of 1 x 1, all with batch norm."""

    WIDTHS = ((32, 64, 1), (64, 96, 2), (96, 128, 1))

    def __init__(self) -> None:
        super().__init__()
        layers = [_layer(1, 32, 3)]
        for inputs, outputs, stride in self.WIDTHS:
            layers += [_layer(inputs, inputs, 3, stride, inputs), _layer(inputs, outputs, 1)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(self.WIDTHS[-1][1], CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """u8[B, 1, 8, 8] -> logits f32[B, 10]."""
        logits: Tensor = self.head(self.layers(normalized(images)).mean((2, 3)))
        return logits


# ------------------------------------------------------------------ transformer
class Block(nn.Module):
    """Attention and a feed-forward layer, each behind its norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """f32[B, T, E] -> f32[B, T, E]."""
        batch, length, width = x.shape
        parts = self.qkv(self.before(x)).reshape(batch, length, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        x = x + self.out(mixed.reshape(batch, length, width))
        fed: Tensor = x + self.down(F.gelu(self.up(self.between(x))))
        return fed


class Transformer(nn.Module):
    """16 patches of 2 x 2, four blocks of width 40 with four heads, the mean over the patches."""

    WIDTH, DEPTH, HEADS, PATCH = 40, 4, 4, 2

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, self.WIDTH, self.PATCH, self.PATCH)
        self.places = nn.Parameter(torch.randn(1, (8 // self.PATCH) ** 2, self.WIDTH) * 0.02)
        self.blocks = nn.Sequential(*(Block(self.WIDTH, self.HEADS) for _ in range(self.DEPTH)))
        self.norm = nn.LayerNorm(self.WIDTH)
        self.head = nn.Linear(self.WIDTH, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """u8[B, 1, 8, 8] -> logits f32[B, 10]."""
        x = self.patches(normalized(images)).flatten(2).transpose(1, 2) + self.places
        logits: Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return logits


# ------------------------------------------------------------------ for `edgec build`
NETS: dict[str, type[nn.Module]] = {"convolutional": Convolutional, "transformer": Transformer}


def trained(name: str) -> nn.Module:
    """One of NETS with its stored weights, to evaluate."""
    from safetensors.torch import load_file

    net = NETS[name]()
    net.load_state_dict(load_file(CHECKPOINT / f"{name}.safetensors"))
    return net.eval()


def _model(name: str) -> tuple[nn.Module, tuple[Tensor], dict[str, Any], str]:
    images, _ = held_out()
    return trained(name), (images[:4],), {"images": {0: torch.export.Dim("batch")}}, "top1"


def convolutional() -> tuple[nn.Module, tuple[Tensor], dict[str, Any], str]:
    """Module, example inputs, dynamic shapes and metric of the convolutional net."""
    return _model("convolutional")


def transformer() -> tuple[nn.Module, tuple[Tensor], dict[str, Any], str]:
    """Module, example inputs, dynamic shapes and metric of the transformer."""
    return _model("transformer")
