"""The operands of all attention kernels: q, k, v and o by run-time strides, grouped heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgec.ir import dims
from edgec.ir.dims import Dim
from edgec.kernels.attention_tiles import BLOCK
from edgec.kernels.body import Body
from edgec.kernels.deferred import tir
from edgec.kernels.kernel import Pointer, Size

POINTERS = (Pointer("q"), Pointer("k"), Pointer("v"), Pointer("o", output=True))

#: Elements between batches, heads and positions; those of one head's vector are contiguous.
STRIDES = tuple(Size(f"{x}_{axis}") for x in "qkvo" for axis in ("batch", "head", "row"))

#: B, H, H / Hk, T, S, and what q . k is multiplied by.
COUNTS = (
    *map(Size, ("batch", "heads", "group", "queries", "keys")),
    Size("scale", "float32"),
)


def block_items(sizes: Mapping[str, Dim]) -> Dim:
    """One item for each batch, head and block of queries."""
    blocks = dims.floordiv(dims.normal(sizes["queries"] + (BLOCK - 1)), BLOCK)
    return dims.product((sizes["batch"], sizes["heads"], blocks))


@dataclass(frozen=True)
class Item:
    """One block of queries.

    block, first, rows   its number in the head, its first query, how many there are
    offsets              of its batch and head in q, k, v and o
    """

    batch: Any
    head: Any
    block: Any
    first: Any
    rows: Any
    offsets: Mapping[str, Any]


def item_of(body: Body, number: Any) -> Item:
    """Items are numbered by batch, head, block of queries."""
    # all are positive, and TVM's simplifier takes minutes over nested floor divisions by variables
    divide, modulo = tir.truncdiv, tir.truncmod
    blocks = body.let((body["queries"] + (BLOCK - 1)) // BLOCK)
    head_number = body.let(divide(number, blocks))
    block = body.let(modulo(number, blocks))
    batch = body.let(divide(head_number, body["heads"]))
    head = body.let(modulo(head_number, body["heads"]))
    few = body.let(divide(head, body["group"]))
    offsets = {
        x: body.let(batch * body[f"{x}_batch"] + h * body[f"{x}_head"])
        for x, h in (("q", head), ("k", few), ("v", few), ("o", head))
    }
    first = body.let(block * BLOCK)
    rows = body.let(tir.min(BLOCK, body["queries"] - first))
    return Item(batch, head, block, first, rows, offsets)
