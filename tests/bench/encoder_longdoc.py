"""Who computes the encoder of models/longdoc in tests.bench.encoder, like encoder_peers.py.

`edgec` and `onnxruntime, blocks` run the same captured graph, the second as the blocks that the
ONNX target writes; the others compute attention in torch's or onnxruntime's own ways:

    torch, mask          dense SDPA under a mask
    torch, blocks        edgec.nn.sparse_attention as it runs in eager torch
    torch, loop          SDPA over blocks of 256 queries and the keys near them; windows only
    torch, flex          the whole encoder compiled, with flex_attention
    onnxruntime, mask    dense attention under a mask that is an input
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgec import patterns
from edgec.models.longdoc.nets import PATTERNS, LongDocument, example
from tests.bench.encoder_peers import (
    ONNX,
    Given,
    Prepare,
    no_files,
    open_native,
    open_onnxruntime,
    torch_calls,
    write_native,
)
from tests.bench.turns import Call

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
RADIUS = 256


def visible(name: str, n: int) -> Tensor:
    """bool[n, n] of a pattern by name: which keys a query sees."""
    i = torch.arange(n).numpy()
    return torch.from_numpy(patterns.parse(PATTERNS[name]).visible(i[:, None], i[None], n))


# ------------------------------------------------------------------ torch
def _mask(name: str, n: int) -> Attend:
    seen = visible(name, n)
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, seen)


def _loop(name: str, n: int, size: int = 256) -> Attend:
    seen = visible(name, n)
    cuts = [
        (slice(a, min(a + size, n)), slice(max(a - RADIUS, 0), min(a + size + RADIUS, n)))
        for a in range(0, n, size)
    ]
    masks = [seen[a, b].contiguous() for a, b in cuts]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = [
            F.scaled_dot_product_attention(q[:, :, a], k[:, :, b], v[:, :, b], m)
            for (a, b), m in zip(cuts, masks, strict=True)
        ]
        return torch.cat(parts, 2)

    return attend


def _flex(name: str, n: int) -> Attend:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    seen = visible(name, n)
    mask = create_block_mask(
        lambda b, h, i, j: seen[i, j], None, None, n, n, device="cpu", BLOCK_SIZE=128
    )

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # Without copies torch 2.13 fails on the CPU: it reads sizes of what a view is made of.
        q, k, v = (x.contiguous() for x in (q, k, v))
        made: Tensor = flex_attention(q, k, v, block_mask=mask)
        return made

    return attend


class Opened:
    """Opens the torch module with one way to compute attention, which is made for each length."""

    def __init__(self, make: Callable[[str, int], Attend] | None, compiled: bool = False) -> None:
        self.make, self.compiled = make, compiled

    def __call__(self, name: str, folder: Path, threads: int) -> Prepare:
        net = LongDocument(PATTERNS[name]).eval()

        def prepare(given: Given) -> Call:
            if self.make is not None:
                net.attend = self.make(name, given["ids"].shape[1])
            torch._dynamo.reset()
            module = torch.compile(net, dynamic=False) if self.compiled else net
            return torch_calls(module, threads)({"ids": given["ids"]})

        return prepare


# ------------------------------------------------------------------ graphs
def build_native(name: str, folder: Path) -> None:
    from edgec.capture import capture

    write_native(capture(*example(PATTERNS[name])), folder)


def build_blocks(name: str, folder: Path) -> None:
    from edgec.capture import capture

    _write_onnx(capture(*example(PATTERNS[name])), folder)


class Masked(torch.nn.Module):
    """The encoder with dense attention and the mask as an input."""

    def __init__(self, net: LongDocument) -> None:
        super().__init__()
        self.net = net

    def forward(self, ids: Tensor, seen: Tensor) -> Tensor:
        self.net.attend = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, seen)
        made: Tensor = self.net(ids)
        return made


def build_masked(name: str, folder: Path) -> None:
    from edgec.capture import capture

    net, (ids,), shapes = example(PATTERNS[name])
    length = shapes["ids"][1]
    seen = visible(name, ids.shape[1])[None, None]
    given = {"ids": {1: length}, "seen": {2: length, 3: length}}
    _write_onnx(capture(Masked(net), (ids, seen), given), folder)


def _write_onnx(program: Any, folder: Path) -> None:
    from edgec.passes import CLEANUP, parse_pipeline
    from edgec.targets.onnx import Onnx

    program, _ = parse_pipeline(CLEANUP).run(program)
    target = Onnx()
    target.emit(target.legalize(program), folder)


def open_masked(name: str, folder: Path, threads: int) -> Prepare:
    prepare = open_onnxruntime(name, folder, threads)

    def prepared(given: Given) -> Call:
        seen = visible(name, given["ids"].shape[1])[None, None].numpy()
        return prepare({**given, "seen": seen})

    return prepared


# ------------------------------------------------------------------ table
BUILD: dict[str, Callable[[str, Path], None]] = {
    "edgec": build_native,
    "torch, mask": no_files,
    "torch, blocks": no_files,
    "torch, loop": no_files,
    "torch, flex": no_files,
    f"{ONNX}, blocks": build_blocks,
    f"{ONNX}, mask": build_masked,
}
OPEN: dict[str, Callable[[str, Path, int], Prepare]] = {
    "edgec": open_native,
    "torch, mask": Opened(_mask),
    "torch, blocks": Opened(None),
    "torch, loop": Opened(_loop),
    "torch, flex": Opened(_flex, compiled=True),
    f"{ONNX}, blocks": open_onnxruntime,
    f"{ONNX}, mask": open_masked,
}
WINDOWS_ONLY = ("torch, loop",)
