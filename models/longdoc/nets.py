"""An encoder of long documents whose attention is sparse. Random weights, the same at every call.

edgec build edgec.models.longdoc.nets:window
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgec.nn import sparse_attention

PATTERNS = {
    # Keys up to 256 tokens away, as in Longformer (Beltagy et al. 2020, arXiv:2004.05150).
    "window": "window(256)",
    # BigBird's own construction (Zaheer et al. 2020, arXiv:2007.14062) in blocks of 64: three
    # blocks of window, the first and the last block global, three random ones.
    "bigbird": "window(96) + global(64, 64) + random(3, 64, 7)",
}
LONGEST = 4096

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind its norm."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor, attend: Attend) -> Tensor:
        """f32[B, T, E] -> f32[B, T, E]."""
        normed = self.before(x)
        q, k, v = (
            layer(normed).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        x = x + self.out(attend(q, k, v).transpose(1, 2).flatten(2))
        fed: Tensor = x + self.down(F.gelu(self.up(self.between(x))))
        return fed


class LongDocument(nn.Module):
    """Tokens of one document, or of several of one length, to one vector each: the mean over it.

    pattern   of edgec.patterns, which keys a query sees
    attend    instead of it: a function of q, k, v f32[B, H, T, D] that gives f32[B, H, T, D]
    """

    def __init__(
        self,
        pattern: str = PATTERNS["window"],
        *,
        attend: Attend | None = None,
        layers: int = 6,
        width: int = 512,
        heads: int = 8,
        inner: int = 2048,
        vocabulary: int = 8192,
        longest: int = LONGEST,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.pattern, self.attend = pattern, attend
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.tokens = nn.Embedding(vocabulary, width)
            self.places = nn.Parameter(torch.randn(longest, width))
            self.blocks = nn.ModuleList(Block(width, heads, inner) for _ in range(layers))
            self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        """i64[B, T] -> f32[B, E]."""
        x = self.tokens(ids) + self.places[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, self.attend or self._sparse)
        pooled: Tensor = self.norm(x).mean(1)
        return pooled

    def _sparse(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sparse_attention(q, k, v, self.pattern)


# ------------------------------------------------------------------ for `edgec build`
def example(pattern: str, **sizes: Any) -> tuple[LongDocument, tuple[Tensor], dict[str, Any]]:
    """Module, example inputs and dynamic shapes, for one document of any length up to `longest`."""
    net = LongDocument(pattern, **sizes).eval()
    length = torch.export.Dim("length", min=2, max=net.places.shape[0])
    ids = torch.arange(300)[None] % net.tokens.num_embeddings
    return net, (ids,), {"ids": {1: length}}


def window() -> tuple[nn.Module, tuple[Tensor], dict[str, Any]]:
    """The encoder with a sliding window."""
    return example(PATTERNS["window"])


def bigbird() -> tuple[nn.Module, tuple[Tensor], dict[str, Any]]:
    """The encoder with BigBird's pattern."""
    return example(PATTERNS["bigbird"])
