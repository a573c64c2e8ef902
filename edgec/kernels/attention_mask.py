"""The mask operand of attention, and causal masks: what S^T begins with in one block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from edgec.kernels.attention_scratch import Scratch
from edgec.kernels.attention_tiles import HIDDEN, LOG2E, LOWEST, START
from edgec.kernels.body import Body
from edgec.kernels.deferred import T, tvm
from edgec.kernels.kernel import Pointer, Size
from edgec.kernels.vectors import load, spread, store, transpose

#: Element type of the mask operand, "" for none: bool is one byte, True where a key is seen; a
#: float is added to the score.
MaskType: TypeAlias = Literal["", "bool", "float32"]

STRIDES = ("m_batch", "m_head", "m_row", "m_key")


def mask_pointers(dtype: MaskType) -> tuple[Pointer, ...]:
    return (Pointer("mask", "uint8" if dtype == "bool" else dtype),) if dtype else ()


def mask_sizes(dtype: MaskType) -> tuple[Size, ...]:
    """Elements between batches, heads, queries and keys; 0 where the mask broadcasts."""
    return tuple(map(Size, STRIDES)) if dtype else ()


def mask_value(element: Any, dtype: str, lanes: int) -> Any:
    """What an element of a mask adds to a score in base 2."""
    if dtype == "uint8":
        seen = element != spread(tvm.tirx.const(0, "uint8"), lanes)
        return T.Select(seen, spread(Body.f32(0), lanes), spread(Body.f32(HIDDEN), lanes))
    scaled = T.max(element * spread(Body.f32(LOG2E), lanes), spread(Body.f32(LOWEST), lanes))
    finite = element >= spread(Body.f32(-3.4028234663852886e38), lanes)
    return T.Select(finite, scaled, spread(Body.f32(HIDDEN), lanes))


@dataclass(frozen=True)
class MaskBlock:
    """The mask of one block of queries and keys.

    base        offset of the batch and head
    query, key  row number -> position in the sequence
    contiguous  whether neighbouring keys of a block are neighbours in the sequence
    """

    base: Any
    query: Callable[[Any], Any]
    key: Callable[[Any], Any]
    contiguous: bool = True

    def fill(self, body: Body, block: Scratch, dtype: MaskType, keys: Any) -> Any:
        """Write the mask into the scores; a condition that is false where no query sees a key."""
        mask = body.buffer("mask")
        kind = "uint8" if dtype == "bool" else dtype
        highest = body.registers((1,))
        body.store(highest, body.f32(0), 0)
        with body.when(body["m_row"] == 0):
            body.store(highest, body.f32(HIDDEN), 0)
            with body.loop(0, keys) as j:
                at = self.base + self.key(j) * body["m_key"]
                value = body.let(mask_value(mask[at], kind, 1))
                body.store(highest, T.max(highest[0], value), 0)
                with body.loop(0, block.vectors) as w:
                    to = (j * block.vectors_row + w) * block.lanes
                    store(block.scores, spread(value, block.lanes), to, block.lanes)
        with body.when(body["m_row"] != 0):
            done: Any = 0
            if self.contiguous:
                done = body.let(T.Select(body["m_key"] == 1, keys // block.lanes * block.lanes, 0))
                self._transposed(body, block, mask, kind, done)
            self._single(body, block, mask, kind, done, keys)
        return highest[0] > body.f32(START)

    def _transposed(self, body: Body, block: Scratch, mask: Any, kind: str, keys: Any) -> None:
        """Keys [0, keys), a multiple of the lanes, where they are neighbours in memory."""
        lanes = block.lanes
        with body.loop(0, block.vectors) as w:
            rows = [
                body.let(self.base + self.query(block.clamp(w * lanes + r)) * body["m_row"])
                for r in range(lanes)
            ]
            with body.loop(0, keys // lanes) as c:
                first = self.key(c * lanes)
                loaded = [
                    body.let(mask_value(load(mask, r + first, lanes), kind, lanes)) for r in rows
                ]
                for i, vector in enumerate(transpose(loaded)):
                    at = ((c * lanes + i) * block.vectors_row + w) * lanes
                    store(block.scores, vector, at, lanes)

    def _single(
        self, body: Body, block: Scratch, mask: Any, kind: str, first: Any, keys: Any
    ) -> None:
        """Keys [first, keys), one pair at a time."""
        row_floats = block.vectors_row * block.lanes
        with body.when(first < keys):
            with body.loop(0, block.vectors * block.lanes) as i:
                row = body.let(self.base + self.query(block.clamp(i)) * body["m_row"])
                with body.loop(first, keys) as j:
                    value = mask_value(mask[row + self.key(j) * body["m_key"]], kind, 1)
                    body.store(block.scores, value, j * row_floats + i)


def hide_later(body: Body, block: Scratch, first: Any, keys: Any, filled: bool) -> None:
    """Hide key j from queries i < first + j, over what the scores are filled with, if they are."""
    lanes = block.lanes
    hidden, zero = (spread(body.f32(x), lanes) for x in (HIDDEN, 0))
    with body.loop(0, keys) as j:
        with body.loop(0, block.vectors) as w:
            at = body.let((j * block.vectors_row + w) * lanes)
            seen = T.ramp(w * lanes, 1, lanes) >= spread(first + j, lanes)
            value = load(block.scores, at, lanes) if filled else zero
            store(block.scores, T.Select(seen, value, hidden), at, lanes)
