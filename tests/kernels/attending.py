"""Running attention kernels on torch tensors, in any memory layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgec.kernels import InstructionSet, Kernel
from edgec.kernels.block_table import BlockTable
from edgec.ops.attention import Attention
from tests.kernels import guarded

#: Order of the axes [batch, head, position] in memory; the last axis is contiguous.
HEADS_FIRST, HEADS_LAST = (0, 1, 2), (0, 2, 1)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def operands(batch: int, heads: int, few: int, queries: int, keys: int, d: int, dv: int) -> Any:
    """q, k, v."""
    return (
        random(batch, heads, queries, d),
        random(batch, few, keys, d, seed=1),
        random(batch, few, keys, dv, seed=2),
    )


def attend(
    kernel: Kernel,
    isa: InstructionSet,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    table: BlockTable | None = None,
    scale: float | None = None,
    layout: tuple[int, int, int] = HEADS_FIRST,
    capacity: int = 0,
) -> Tensor:
    """o, of shape [B, H, T, Dv].

    layout     of q, k, v and o in memory
    capacity   positions of a cache that k and v are the start of, NaN behind them
    """
    batch, heads, queries, _ = q.shape
    out = torch.empty(*q.shape[:3], v.shape[3])
    sizes: dict[str, float] = {
        "batch": batch,
        "heads": heads,
        "group": heads // k.shape[1],
        "queries": queries,
        "keys": k.shape[2],
        "scale": q.shape[3] ** -0.5 if scale is None else scale,
    }
    arrays = {}
    for name, x in (("q", q), ("k", k), ("v", v), ("o", out)):
        stored = x if name in "qo" or not capacity else _in_cache(x, capacity)
        arrays[name] = stored.permute(*layout, 3).contiguous().numpy()
        strides = [s // 4 for s in arrays[name].strides[:3]]
        for axis, stride in zip(layout, strides, strict=True):
            sizes[f"{name}_{('batch', 'head', 'row')[axis]}"] = stride
    shape = arrays.pop("o").shape
    if mask is not None:
        elements = mask.untyped_storage().nbytes() // mask.element_size()
        arrays["mask"] = guarded.bits(mask.as_strided((elements,), (1,), 0))
        expanded = mask.expand(*q.shape[:3], k.shape[2])
        names = ("m_batch", "m_head", "m_row", "m_key")
        sizes |= dict(zip(names, expanded.stride(), strict=True))
    if table is not None:
        fields = ("row_ptr", "col_idx", "tile_id", "bias", "order")
        arrays |= {n: a for n in fields if (a := getattr(table, n)) is not None}
        sizes["period"] = table.period
    _spoil(kernel, isa)
    made = guarded.run(kernel, isa, arrays, sizes, {"o": shape})["o"]
    inverse = [layout.index(axis) for axis in range(3)]
    return torch.from_numpy(made).permute(*inverse, 3)


def _in_cache(x: Tensor, capacity: int) -> Tensor:
    cache = torch.full((*x.shape[:2], capacity, x.shape[3]), float("nan"))
    cache[:, :, : x.shape[2]] = x
    return cache


def _spoil(kernel: Kernel, isa: InstructionSet) -> None:
    """Nothing may come from what an earlier call left in the workspace."""
    workspace = guarded.compiled(kernel, isa)._workspace
    workspace[: len(workspace) // 4 * 4].view("f4")[:] = np.nan


def expect(
    got: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> None:
    """`got` is what the op computes in float64, within what it declares."""
    op = Attention(scale=scale, causal=causal)
    wide = mask if mask is None or mask.dtype == torch.bool else mask.double()
    want = op.evaluate(q.double(), k.double(), v.double(), wide)
    guarded.check(op, got.numpy(), want, max(q.shape[3], k.shape[2]))
